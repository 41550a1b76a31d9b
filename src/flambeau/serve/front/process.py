"""The front as the server's process sees it: started, followed, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

from flambeau.serve.front.order import DRAIN, DRAINED, READY, Order
from flambeau.serve.limits import Limits

Counted = Callable[[int, int, int], None]
"""Told how many requests were refused since it was last told, how many waited in vain, and how many wait."""

STARTING = 20.0
"""Seconds that a process may take to start."""

AGAIN, LATEST = 0.5, 30.0
"""Seconds before another one is started for one that ended by itself; twice as many each time, up to the second."""


class FrontProcess:
    """The process in front of a server. Made before the event loop runs; the other methods are for the loop's thread.

    Args:
        listening: What clients connect to; closed when the server takes no more.
        limits: Of the server.

    Raises:
        OSError: There can be none, as where nothing can be written to.

    Attributes:
        inner: What the server is to listen at.
    """

    SUPPORTED = hasattr(socket, "AF_UNIX") and sys.platform != "win32"
    """Whether this system has what it takes."""

    ENDING = 10.0
    """Seconds that the process may take to end."""

    def __init__(self, listening: socket.socket, limits: Limits) -> None:
        self._listening = listening
        self._limits = limits
        self._folder = Path(tempfile.mkdtemp(prefix="flambeau-"))
        self._ending = False
        self._drained = asyncio.Event()
        self.inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.inner.bind(str(self._address))
            self.inner.listen(1024)
            self._process, self._control = self._started()
        except OSError:
            self.inner.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    @property
    def _address(self) -> Path:
        return self._folder / "server"

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def _started(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            order = Order(self._listening.fileno(), theirs.fileno(), str(self._address), self._limits)
            # Not -m alone: that would look for our modules, and for Python's own, in whatever folder this is.
            package = str(Path(__file__).parents[3])
            paths = [package, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "flambeau.serve.front", order.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[self._listening.fileno(), theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            )
        return process, ours

    def is_up(self, patience: float = STARTING) -> bool:
        """Waits until it takes connections; whether it does."""
        self._control.settimeout(patience)
        try:
            return self._control.recv(len(READY)) == READY
        except OSError:
            return False

    async def follow(self, counted: Counted, tell: Callable[[str], None]) -> None:
        """Takes its reports, for ever; starts another one when it ends by itself."""
        for times in count():
            reader, self._writer = await asyncio.open_connection(sock=self._control)
            with contextlib.closing(self._writer):
                while line := await _line(reader):
                    if line == DRAINED:
                        self._drained.set()
                    elif line != READY:
                        counted(*map(int, line.split()[1:]))
            if self._ending:
                return
            counted(0, 0, 0)
            tell(f"The process in front of the server ended ({self._process.wait()}); another one is started.")
            await asyncio.sleep(min(AGAIN * 2**times, LATEST))
            self._process, self._control = self._started()

    async def drain(self) -> None:
        """Takes no more connections; returns when all requests that waited have been passed on."""
        self._ending = True
        self._listening.close()
        self._writer.write(DRAIN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._drained.wait()

    async def close(self, patience: float = ENDING) -> None:
        """Ends it, when all answers have left it, or after so many seconds."""
        self._ending = True
        self._writer.close()
        await asyncio.to_thread(self.kill, patience)

    def kill(self, patience: float = 0.0) -> None:
        """Ends it, at once or after some seconds in which it may do so by itself; further calls do nothing."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.inner.close()
        self._control.close()
        shutil.rmtree(self._folder, ignore_errors=True)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """A line, or nothing at the end, however that came."""
    try:
        return await reader.readline()
    except ConnectionError:
        return b""
