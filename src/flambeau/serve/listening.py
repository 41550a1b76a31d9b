"""Who listens at a server's address, and the signals by which that ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from flambeau.errors import UsageError
from flambeau.serve.limits import Limits

if TYPE_CHECKING:
    import uvicorn

    from flambeau.serve.front.process import FrontProcess
    from flambeau.serve.gate import App
    from flambeau.serve.protocol import Crowd
    from flambeau.serve.server import Server

Tell = Callable[[str], None]

ALONE = "The server takes connections itself, for the process in front of it could not be started."


def open_socket(host: str, port: int) -> socket.socket:
    """The socket that is listened at.

    Raises:
        UsageError: The address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(1024)
    except OSError as error:
        made.close()
        raise UsageError(
            f"The address cannot be listened at: {error.strerror}.",
            where=f"{host}:{port}",
            remedy="Another program may have the port; choose another with --port, or 0 for any that is free.",
        ) from error
    return made


def front_of(listening: socket.socket, limits: Limits, tell: Tell) -> FrontProcess | None:
    """The process that takes connections and refuses what is too much; None where there can be none, as on Windows."""
    from flambeau.serve.front.process import FrontProcess

    if not FrontProcess.SUPPORTED:
        return None
    try:
        return FrontProcess(listening, limits)
    except OSError as error:
        tell(f"{ALONE} {error}")
        return None


@asynccontextmanager
async def followed(front: FrontProcess | None, server: Server, tell: Tell) -> AsyncIterator[None]:
    """Listens to the process in front until the end of the ``with`` block."""
    following = None if front is None else asyncio.create_task(front.follow(server.telemetry.front, tell))
    try:
        yield
    finally:
        if following is not None:
            following.cancel()


def ended_by_signals(http: uvicorn.Server, server: Server, front: FrontProcess | None) -> asyncio.Future[int]:
    """The number of the signal by which the end began; it lets requests finish, a second one does not."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()
    ending: list[asyncio.Task[None]] = []

    async def drain() -> None:
        if front is not None:
            await front.drain()
        http.should_exit = True

    def end(number: int) -> None:
        if ended.done():
            http.force_exit = True
            return
        ended.set_result(number)
        server.draining = True
        server.telemetry.draining()
        ending.append(loop.create_task(drain()))

    for number in (signal.SIGINT, signal.SIGTERM):
        _on_signal(loop, number, end)
    return ended


def _on_signal(loop: asyncio.AbstractEventLoop, number: int, call: Callable[[int], None]) -> None:
    try:
        loop.add_signal_handler(number, call, number)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda received, frame: _later(loop, call, received))


def _later(loop: asyncio.AbstractEventLoop, call: Callable[[int], None], number: int) -> None:
    loop.call_soon_threadsafe(call, number)


async def when_started(http: uvicorn.Server, call: Callable[[], None]) -> None:
    """Calls once requests are answered."""
    while not http.started:
        await asyncio.sleep(0.005)
    call()


def http_server(app: App, limits: Limits, crowd: Crowd) -> uvicorn.Server:
    """What speaks HTTP; it leaves signals to its caller, who ends it by ``should_exit``."""
    import uvicorn

    from flambeau.serve.protocol import guarded

    class Unsignalled(uvicorn.Server):
        """Leaves signals to us."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        app,
        http=guarded(limits, crowd),
        ws="none",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(limits.deadline) + 1,
    )
    return Unsignalled(config)
