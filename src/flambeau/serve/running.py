"""A server from its beginning to its end: models loaded, the socket opened, requests answered, the end drained."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flambeau.errors import MissingExtra, UsageError
from flambeau.serve.engines import Engine
from flambeau.serve.limits import Limits, allow_connections
from flambeau.serve.looping import run as run_loop
from flambeau.serve.repository import Repository, Source, loaded, sources_of

if TYPE_CHECKING:
    import uvicorn

    from flambeau.serve.front.process import FrontProcess
    from flambeau.serve.gate import App
    from flambeau.serve.protocol import Crowd
    from flambeau.serve.server import Server

Tell = Callable[[str], None]
ALONE = "The server takes connections itself, for the process in front of it could not be started."

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
            tell(ALONE)
            front = None
        return run_loop(_main(ready, load, listening, front, settings, tell, started))


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
        ended = _ended_by_signals(http, server, front)
        async with followed(front, server, tell):
            begun = asyncio.create_task(_when_started(http, lambda: started(address, sources)))
            await http.serve([listening if front is None else front.inner])
            if front is not None:
                await front.close(0.0 if http.force_exit else front.ENDING)
        gc.unfreeze()
        begun.cancel()
        return ended.result() if ended.done() else 0


@asynccontextmanager
async def followed(front: FrontProcess | None, server: Server, tell: Tell) -> AsyncIterator[None]:
    """Listens to the process in front until the end of the ``with`` block."""
    following = None if front is None else asyncio.create_task(front.follow(server.telemetry.front, tell))
    try:
        yield
    finally:
        if following is not None:
            following.cancel()


def _ended_by_signals(http: uvicorn.Server, server: Server, front: FrontProcess | None) -> asyncio.Future[int]:
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


async def _when_started(http: uvicorn.Server, call: Callable[[], None]) -> None:
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
