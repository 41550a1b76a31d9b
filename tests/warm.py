"""A process that has imported PyTorch and waits: what is forked from it starts in milliseconds instead of seconds.

:func:`programs` gives a folder with ``flambeau`` and ``python``, to be called in place of the real ones. Each call is
carried out by a process of its own, with the caller's arguments, folder, environment and streams; it can be killed, and
shares nothing with its siblings but the modules as they were imported. ``python warm.py ADDRESS`` is the process that
waits; it ends with whoever started it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

PRELOADED = (
    "torch._dynamo",  # which the first optimiser imports
    "torch.utils.tensorboard",
    "torchvision",
    "matplotlib.colorbar",
    "matplotlib.projections",
    "matplotlib.backends.backend_svg",
    "jinja2",
    "safetensors.torch",
    "flambeau.cli.main",
    "flambeau.workflow.training",
    "flambeau.tasks.image_classification",
)

PROGRAM = """#!{python} -IS
import json, os, signal, socket, sys
handed_on = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
signal.pthread_sigmask(signal.SIG_BLOCK, handed_on)
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    order = {{"line": [{name!r}, *sys.argv[1:]], "folder": os.getcwd(), "environment": dict(os.environ)}}
    socket.send_fds(connection, [json.dumps(order).encode()], [0, 1, 2])
    connection.shutdown(socket.SHUT_WR)
    answers = connection.makefile()
    child = int(answers.readline())
    for number in handed_on:
        signal.signal(number, lambda number, _: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handed_on)
    status = int(answers.readline())
if status < 0:
    if -status in handed_on:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""
"""Starts in milliseconds, has a process forked for its arguments, hands signals on to it, and ends as it ends."""


@cache
def programs() -> Path | None:
    """The folder of the programs; None where there is no fork, as on Windows.

    The first call starts the process that waits. It ends, and the folder goes, when this process ends.
    """
    if not hasattr(os, "fork"):
        return None
    folder = Path(tempfile.mkdtemp(prefix="warm-"))  # not in a test's folder: a socket's address has 100 characters
    address = str(folder / "socket")
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    line, environment = [sys.executable, __file__, address], {**os.environ, **one_thread}
    waiting = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "READY\n"
    _STARTED.append(waiting)
    for name in ("flambeau", "python"):
        program = folder / name
        program.write_text(PROGRAM.format(python=sys.executable, address=address, name=name), encoding="utf-8")
        program.chmod(0o755)
    return folder


_STARTED: list[subprocess.Popen[str]] = []
"""The end of its standard input is what tells the process to end, so that is kept open."""


def main(address: str) -> None:
    """Waits for orders, and carries one out in each process that is forked for it."""
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # or each child's first collection would copy all that was imported
    line = order_in_a_child(address)
    end(perform(*line) if line else 0)


def order_in_a_child(address: str) -> list[str]:
    """Forks for each order: returns its command line in the child, and an empty one in the parent in the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those who look after a child are not waited for
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        print("READY", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    return attend(connection)
    for path in Path(address).parent.iterdir():
        path.unlink()
    Path(address).parent.rmdir()
    return []


def attend(connection: socket.socket) -> list[str]:
    """Forks once more: the child returns its command line, the parent tells the child's number and end, and ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    content, streams, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while more := connection.recv(1 << 16):
        content += more
    child = os.fork()
    if child == 0:
        connection.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return settle(json.loads(content), streams)
    for stream in streams:
        os.close(stream)
    try:
        connection.sendall(f"{child}\n".encode())
        connection.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n".encode())
    finally:
        os._exit(0)


def settle(order: dict[str, Any], streams: Sequence[int]) -> list[str]:
    """Gives this process the streams, the folder and the environment that it is meant to have."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    line: list[str] = order["line"]
    return line


def perform(name: str, *arguments: str) -> int:
    """Does what ``flambeau ...``, ``python -c CODE ...`` or ``python FILE ...`` would; returns the exit status."""
    try:
        run(name, *arguments)
    except SystemExit as wanted:
        if isinstance(wanted.code, int | None):
            return wanted.code or 0
        print(wanted.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run(name: str, *arguments: str) -> None:
    if name == "flambeau":
        from flambeau.cli.main import main as command

        sys.argv = [name, *arguments]
        command()
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        sys.path[0] = ""
        module = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(arguments[1], "<string>", "exec"), module.__dict__)
    else:
        sys.argv = list(arguments)
        sys.path[0] = str(Path(arguments[0]).parent)
        runpy.run_path(arguments[0], run_name="__main__")


def end(status: int) -> None:
    """Ends as the interpreter does, but for taking apart all that was imported: that takes longer than most orders."""
    # It tells pools of threads that nobody has closed, which would otherwise be waited for forever.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
