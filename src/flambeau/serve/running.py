"""A server from its beginning to its end: models loaded, the socket opened, requests answered, the end drained."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flambeau.errors import MissingExtra, UsageError
from flambeau.serve.engines import Engine
from flambeau.serve.limits import Limits, allow_connections
from flambeau.serve.listening import (
    ALONE,
    Tell,
    ended_by_signals,
    followed,
    front_of,
    http_server,
    open_socket,
    when_started,
)
from flambeau.serve.looping import run as run_loop
from flambeau.serve.repository import Repository, Source, loaded, sources_of

if TYPE_CHECKING:
    from flambeau.serve.front.process import FrontProcess
    from flambeau.serve.gate import App
    from flambeau.serve.server import Server

Started = Callable[[str, list[Source]], None]
"""Called with the address and what is served once requests are answered."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server is wanted.

    Attributes:
        host: The address to listen at.
        port: 0 takes one that is free.
        token: What clients must show; needed at any address but loopback.
        engine: ``torch`` or ``onnx``.
        device: Of the models in PyTorch.
        threads: That compute; by default all processors but one, which is left to requests.
        reload: Seconds between looks at the models' files; 0 never looks.
        limits: What is taken on.
        network: As for :func:`flambeau.load`.
        trust_code: As for :func:`flambeau.load`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    engine: str = "torch"
    device: str = "auto"
    threads: int | None = None
    reload: float = 2.0
    limits: Limits = field(default_factory=Limits)
    network: Any = None
    trust_code: bool = False


def require_safe(settings: Settings) -> None:
    """Refuses to listen to a network without a token.

    Raises:
        UsageError: That was asked for, or the token is none.
    """
    if settings.token is not None and not (
        settings.token.isascii() and settings.token.isprintable() and settings.token.strip()
    ):
        raise UsageError("This cannot be a token.", where="--token", expected="printable ASCII characters")
    if settings.token is None and not is_loopback(settings.host):
        raise UsageError(
            f"Listening at {settings.host} lets everybody on the network in.",
            where="--host",
            expected="127.0.0.1, or a token",
            remedy="Set a token, best in the environment: FLAMBEAU_TOKEN=... flambeau serve ...",
        )


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def require_packages() -> None:
    """Raises ``MissingExtra`` where the packages of a server are not installed."""
    for name in ("fastapi", "uvicorn", "httptools", "prometheus_client", "python_multipart"):
        try:
            __import__(name)
        except ImportError as error:
            raise MissingExtra(name.replace("_", "-"), "serve", "serving models") from error


def loader(settings: Settings) -> Callable[[Path], Engine]:
    """What makes the engine of a path."""

    def load(path: Path) -> Engine:
        from flambeau.export.portable.card import format_of
        from flambeau.serve import engines

        form = format_of(path) if path.is_file() else None
        if form is not None:
            return engines.exported_engine(path, form, settings.limits.megapixels, trust_code=settings.trust_code)
        given: dict[str, Any] = {"network": settings.network, "trust_code": settings.trust_code}
        if settings.engine == "onnx":
            return engines.converted_engine(path, settings.limits.megapixels, **given)
        return engines.torch_engine(path, settings.limits.megapixels, device=settings.device, **given)

    return load


def set_threads(settings: Settings, sources: Sequence[Source]) -> None:
    """Leaves a processor to the requests, where there is more than one."""
    from flambeau.export.portable.card import format_of

    count = settings.threads or max(1, (os.cpu_count() or 1) - 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(count))
    if settings.engine == "torch" and any(format_of(source.path) != "onnx" for source in sources):
        import torch  # which need not be there for ONNX files

        torch.set_num_threads(count)


def run(arguments: Sequence[str], settings: Settings, tell: Tell, started: Started) -> int:
    """Serves models until a signal ends it.

    Args:
        arguments: Runs, models and exported files, each by its path or as ``NAME=PATH``.
        settings: How.
        tell: Told what happens, in sentences.
        started: Called once requests are answered, with the address.

    Returns:
        The number of the signal.

    Raises:
        FlambeauError: A model cannot be loaded, or the address cannot be had. Nothing is answered before all models
            have been loaded and tried.
    """
    require_packages()
    require_safe(settings)
    sources = sources_of(arguments)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(open_socket(settings.host, settings.port))
        front = front_of(listening, settings.limits, tell)
        if front is not None:
            stack.callback(front.kill)  # it starts while models are loaded
        set_threads(settings, sources)
        load = loader(settings)
        ready = [(source, *loaded(source, load)) for source in sources]
        allow_connections(settings.limits)
        if front is not None and not front.is_up():
            front.kill()
            front = None
            tell(ALONE)
        return run_loop(_main(ready, load, listening, front, settings, tell, started))


def serve_models(
    *models: str | Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    engine: str = "torch",
    device: str = "auto",
    threads: int | None = None,
    reload: bool = True,
    limits: Limits | None = None,
    network: Any = None,
    trust_code: bool = False,
    tell: Tell = print,
) -> int:
    """Answers over HTTP until a signal ends it.

    Args:
        models: Runs, model files and exported files, each by its path or as ``NAME=PATH``.
        host: The address to listen at; any but loopback needs a token.
        port: 0 takes one that is free.
        token: What clients must show as ``Authorization: Bearer``.
        engine: ``torch``, or ``onnx`` to run them in ONNX Runtime.
        device: Of the models in PyTorch.
        threads: That compute; by default all processors but one.
        reload: Loads a model anew when its file changes.
        limits: What is taken on.
        network: As for :func:`flambeau.load`.
        trust_code: As for :func:`flambeau.load`.
        tell: Told what happens, in sentences.

    Returns:
        The number of the signal.

    Raises:
        MissingExtra: The packages of a server are not installed.
        FlambeauError: A model cannot be loaded, or the address cannot be had.

    Example:
        >>> serve_models("shoes=runs/photos", port=8765)                     # doctest: +SKIP
        serving shoes at http://127.0.0.1:8765
    """
    settings = Settings(
        host, port, token, engine, device, threads, 2.0 if reload else 0.0, limits or Limits(), network, trust_code
    )
    return run([str(model) for model in models], settings, tell, lambda at, found: tell(told_of(at, found)))


def told_of(address: str, sources: Sequence[Source]) -> str:
    """What is served, in a line."""
    return f"serving {', '.join(dict.fromkeys(source.name for source in sources))} at {address}"


async def _main(
    ready: list[tuple[Source, Engine, tuple[int, ...]]],
    load: Callable[[Path], Engine],
    listening: socket.socket,
    front: FrontProcess | None,
    settings: Settings,
    tell: Tell,
    started: Started,
) -> int:
    async with application(ready, load, settings, tell) as (app, server):
        http = http_server(app, settings.limits, server.crowd)
        where = listening.getsockname()
        host = f"[{where[0]}]" if ":" in where[0] else where[0]
        address, sources = f"http://{host}:{where[1]}", [source for source, *_ in ready]
        # A full collection of garbage looks at every object: with PyTorch a third of a million, none of it garbage,
        # which would hold up all requests for more than a tenth of a second each time.
        gc.collect()
        gc.freeze()
        # The thread that computes gives Python's lock up after half a millisecond, not five, in which others come in.
        sys.setswitchinterval(0.0005)
        ended = ended_by_signals(http, server, front)
        async with followed(front, server, tell):
            begun = asyncio.create_task(when_started(http, lambda: started(address, sources)))
            await http.serve([listening if front is None else front.inner])
            if front is not None:
                await front.close(0.0 if http.force_exit else front.ENDING)
        gc.unfreeze()
        begun.cancel()
        return ended.result() if ended.done() else 0


@asynccontextmanager
async def application(
    ready: list[tuple[Source, Engine, tuple[int, ...]]],
    load: Callable[[Path], Engine],
    settings: Settings,
    tell: Tell,
) -> AsyncIterator[tuple[App, Server]]:
    """The application with its models, which are let finish at the end of the ``with`` block."""
    from flambeau.serve.app import make_app
    from flambeau.serve.gate import LOOPBACK, Gate
    from flambeau.serve.operations import around
    from flambeau.serve.page import OPEN
    from flambeau.serve.server import Server
    from flambeau.serve.telemetry import Telemetry

    telemetry = Telemetry()
    repository = Repository(load, settings.limits, telemetry.watch, tell)
    for source, engine, mark in ready:
        repository.add(source, engine, mark)
    telemetry.follow(repository)
    server = Server(repository, settings.limits, telemetry, readers=os.cpu_count() or 1, tell=tell)
    hosts = LOOPBACK if settings.token is None and is_loopback(settings.host) else None
    app = Gate(settings.token, hosts, OPEN).before(around(server, make_app(server)))
    watching = asyncio.create_task(repository.watch(settings.reload)) if settings.reload else None
    try:
        yield app, server
    finally:
        if watching is not None:
            watching.cancel()
        await repository.close()
