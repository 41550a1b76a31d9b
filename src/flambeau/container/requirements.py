"""What a container has to install: the packages that its server needs, each in the version that is installed here."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flambeau.errors import MissingExtra, UsageError

Requires = Callable[[str], list[str]]
"""The requirements of an installed distribution, by its name. Raises ``PackageNotFoundError`` for one that is not."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Of the container: the one that the versions here are known to work with."""

PORTABLE = ("numpy", "pillow", "typer", "onnxruntime")
"""What a server of ONNX files needs beside the extra ``serve``."""

TORCH = ("torch", "torchvision")
"""Are installed by themselves, in their builds for the CPU, which are a tenth of the others."""


def pinned(engine: str, more: Iterable[str] = ()) -> dict[str, str]:
    """The version of every package of the container but PyTorch's, by name, in alphabetical order.

    Args:
        engine: ``torch`` or ``onnx``.
        more: Packages that the models need.

    Raises:
        MissingExtra: A package is not installed here, so that there is no version to name.
    """
    own = [*(["flambeau"] if engine == "torch" else PORTABLE), *serving(requires)]
    names = closure([*own, *more], requires, leave=TORCH)
    return {name: public(metadata.version(name)) for name in names if name != "flambeau"}


def requires(name: str) -> list[str]:
    """As :data:`Requires`."""
    return metadata.requires(name) or []


def public(version: str) -> str:
    """A version without what names one build of it, such as ``+cpu``."""
    return version.partition("+")[0]


def serving(ask: Requires) -> list[str]:
    """What the extra ``serve`` adds to Flambeau.

    Raises:
        UsageError: The installation is older than that extra.
    """
    lines = [Requirement(line) for line in ask("flambeau")]
    found = [str(each) for each in lines if applies(each.marker, "serve") and not applies(each.marker, "")]
    if not found:
        raise UsageError(
            "What Flambeau was installed from is older than its source: nothing says what a server needs.",
            where=Path(__file__).parents[1],
            remedy="pip install --editable '.[serve]', in the folder of Flambeau's source.",
        )
    return found


def applies(marker: Marker | None, extra: str) -> bool:
    """Whether a marker holds in the container: under Linux, with the Python and the processor of this machine."""
    machine = platform.machine()
    linux = {
        "extra": extra,
        "os_name": "posix",
        "platform_machine": {"arm64": "aarch64", "AMD64": "x86_64"}.get(machine, machine),
        "platform_system": "Linux",
        "sys_platform": "linux",
    }
    return marker is None or marker.evaluate(linux)


def closure(lines: Iterable[str], ask: Requires, leave: Iterable[str] = ()) -> list[str]:
    """The names of all distributions that requirements lead to in the container, in alphabetical order.

    Args:
        lines: Requirements.
        ask: The requirements of a distribution.
        leave: Names that are left out, with what only they need.

    Raises:
        MissingExtra: One of them is not installed here.

    Example:
        >>> tree = {"a": ["b>=1", "c; extra == 'more'"], "b": ["a", "d; sys_platform == 'win32'"], "c": []}
        >>> closure(["a"], tree.__getitem__), closure(["A[more]"], tree.__getitem__)
        (['a', 'b'], ['a', 'b', 'c'])
    """
    left = set(leave)
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(line), "serve") for line in lines]
    while waiting:
        requirement, by = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if name in left or (name, extra) in seen or not applies(requirement.marker, by):
                continue
            seen.add((name, extra))
            try:
                waiting += [(Requirement(line), extra) for line in ask(name)]
            except metadata.PackageNotFoundError as error:
                if requirement.marker is not None and not requirement.marker.evaluate({"extra": by}):
                    continue  # for Linux alone, and nothing that the server could not do without
                raise MissingExtra(name, "serve", "naming the version that a container installs") from error
            found.add(name)
    return sorted(found)
