"""The models that a server answers with: loaded, tried, looked after, and replaced while it runs."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flambeau.errors import FlambeauError, ModelError, UsageError, did_you_mean
from flambeau.serve.batching import Batcher, Watch
from flambeau.serve.engines import Engine, computing
from flambeau.serve.limits import Limits

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Load = Callable[[Path], Engine]
Tell = Callable[[str], None]
Watcher = Callable[[str, str], Watch]
"""What is told of the batches of a model, from its name and version."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from.

    Attributes:
        name: As clients say it.
        version: Whole numbers from 1; the highest one answers where a client names none.
        path: A run folder or a file.
    """

    name: str
    version: str
    path: Path

    @property
    def file(self) -> Path:
        """The file that changes when the model does."""
        return self.path / "model.safetensors" if self.path.is_dir() else self.path


def sources_of(arguments: Iterable[str]) -> list[Source]:
    """What ``flambeau serve`` is given: ``PATH`` or ``NAME=PATH``; a name that comes again is a further version.

    Raises:
        UsageError: A path does not exist, or a name is none.
    """
    counts: dict[str, int] = {}
    found = []
    for argument in arguments:
        name, equals, rest = argument.partition("=")
        path = Path(rest if equals and not Path(argument).exists() else argument)
        if not path.exists():
            raise UsageError(
                "There is no such run or model.", where=path, expected="RUN, MODEL, or NAME=RUN, NAME=MODEL"
            )
        named = name if equals and path == Path(rest) else _name_of(path)
        if not NAME.fullmatch(named):
            raise UsageError(
                "This cannot be the name of a model in an address.",
                where=path,
                expected="letters, digits, '.', '_' and '-', at most 100",
                received=named,
                remedy=f"Give it one: NAME={path}",
            )
        counts[named] = counts.get(named, 0) + 1
        found.append(Source(named, str(counts[named]), path))
    return found


def _name_of(path: Path) -> str:
    """The run's name, for its ``model.safetensors`` as well."""
    path = path.absolute()
    inside = path.name == "model.safetensors" and (path.parent / "run.json").is_file()
    plain = path.parent.name if inside else path.name if path.is_dir() else path.name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.")


@dataclass(slots=True, eq=False)
class Served:
    """One version of a model, ready to answer.

    Attributes:
        source: Where it comes from.
        engine: What computes.
        batcher: What waits.
        mark: What the file looked like when it was loaded.
        users: Requests that are being answered; a model that is replaced stays until there are none.
        loaded: When that was, in seconds since 1970.
    """

    source: Source
    engine: Engine
    batcher: Batcher
    mark: tuple[int, ...]
    users: int = 0
    loaded: float = field(default_factory=time.time)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keeps the model inside the ``with`` block, whatever replaces it."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1


def loaded(source: Source, load: Load) -> tuple[Engine, tuple[int, ...]]:
    """The engine of a model that has answered its probe, and the mark of its file.

    Raises:
        FlambeauError: It cannot be loaded, or does not answer.
    """
    mark = mark_of(source.file)
    engine = load(source.path)
    try:
        # Twice, since the first call of a network may arrange what later ones use.
        for _ in range(2):
            engine.answers([engine.read([engine.wire.probe])])
    except FlambeauError:
        raise
    except Exception as error:
        raise ModelError(
            "The model is loaded, but cannot answer.", where=source.path, received=f"{type(error).__name__}: {error}"
        ) from error
    return engine, mark


def mark_of(file: Path) -> tuple[int, ...]:
    """What changes when a file is replaced or written to; empty when there is none."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


class Repository:
    """The models by name and version. For the event loop's thread.

    Args:
        load: Makes the engine of a path; called on another thread.
        limits: Of the server.
        watch: What is told of a model's batches.
        tell: Told in a sentence of what was reloaded or could not be.
    """

    def __init__(self, load: Load, limits: Limits, watch: Watcher, tell: Tell) -> None:
        self._load = load
        self._limits = limits
        self._watch = watch
        self._tell = tell
        self._models: dict[str, dict[str, Served]] = {}
        self._refused: dict[Source, tuple[int, ...]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self.reloads: dict[str, int] = {"done": 0, "refused": 0}

    def add(self, source: Source, engine: Engine, mark: tuple[int, ...]) -> None:
        """Takes a model on, whose file looked like this."""
        watch = self._watch(source.name, source.version)
        batcher = Batcher(computing(engine), self._limits.rows, self._limits.queue, watch)
        self._models.setdefault(source.name, {})[source.version] = Served(source, engine, batcher, mark)

    def __iter__(self) -> Iterator[Served]:
        return (served for versions in list(self._models.values()) for served in list(versions.values()))

    @property
    def names(self) -> list[str]:
        """The names of all models, in the order in which they were given."""
        return list(self._models)

    def versions(self, name: str) -> Mapping[str, Served]:
        """The versions of a model.

        Raises:
            UsageError: There is no such model.
        """
        if name not in self._models:
            raise UsageError(
                "There is no such model.", where=name[:100], remedy=did_you_mean(name[:100], self._models) or None
            )
        return self._models[name]

    def find(self, name: str, version: str | None = None) -> Served:
        """A version of a model, by default the newest.

        Raises:
            UsageError: There is none.
        """
        versions = self.versions(name)
        if version is None:
            return versions[max(versions, key=int)]
        if version not in versions:
            raise UsageError(
                f"The model {name} has no such version.", expected=", ".join(versions), received=version[:100]
            )
        return versions[version]

    async def refresh(self) -> None:
        """Loads every model anew whose file has changed; the old one stays where the new one is no good."""
        for served in list(self):
            mark = mark_of(served.source.file)
            if mark and mark not in (served.mark, self._refused.get(served.source)):
                await self._replace(served)

    async def _replace(self, old: Served) -> None:
        source = old.source
        seen = mark_of(source.file)
        try:
            engine, mark = await asyncio.to_thread(loaded, source, self._load)
        except Exception as error:  # whatever is wrong with the new one, the old one goes on
            self._refused[source] = seen
            self.reloads["refused"] += 1
            problem = error if isinstance(error, FlambeauError) else f"{type(error).__name__}: {error}"
            self._tell(f"{source.name}: the new file was refused, and the old model goes on. {problem}")
            return
        self.add(source, engine, mark)
        self.reloads["done"] += 1
        self._tell(f"{source.name}: loaded anew.")
        self._retiring = {task for task in self._retiring if not task.done()}
        self._retiring.add(asyncio.create_task(self._retire(old)))

    async def _retire(self, old: Served) -> None:
        while old.users:
            await asyncio.sleep(0.05)
        await old.batcher.close(self._limits.deadline)

    async def watch(self, seconds: float) -> None:
        """Refreshes for ever, at this interval."""
        while True:
            await asyncio.sleep(seconds)
            await self.refresh()

    def healthy(self) -> bool:
        """Whether every model can answer."""
        return all(served.batcher.healthy(self._limits.deadline) for served in self)

    async def close(self) -> None:
        """Lets every model finish what waits."""
        await asyncio.gather(*(served.batcher.close(self._limits.deadline) for served in self))
