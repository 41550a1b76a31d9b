"""Rows that do not fit into memory: read once into a file of the cache, which is then mapped into memory.

The values are those that would be in memory otherwise, so a run comes out bit for bit the same.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from flambeau import files
from flambeau.columns import Column, Split, joined
from flambeau.data import cache
from flambeau.errors import BadRows, DataError, FlambeauError

META = "columns.json"
SHARE = 0.5
"""The part of the available memory that rows may take when the recipe leaves it open."""

UNKNOWN = 4 << 30
"""Bytes that are taken for available on systems that do not say."""

MEMINFO, CONTROL = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the rows of a split go when they are too large.

    Attributes:
        key: Says all that they depend on.
        rows: In all splits together.
        budget: Bytes that these may take in memory.
        on_bad: Whether rows that cannot be read are an error.
    """

    key: str
    rows: int
    budget: int
    on_bad: Literal["fail", "skip"]


def allowed(memory: Literal["auto"] | int) -> int:
    """The bytes that rows may take in memory: so many megabytes, or half of what is available now."""
    return int(SHARE * available()) if memory == "auto" else memory * 1_000_000


def available() -> int:
    """The bytes of memory that programs may still take, within the limit of the container where there is one."""
    found = []
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        found.append(1024 * int(lines["MemAvailable"].split()[0]))
    except (OSError, ValueError, KeyError):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    try:
        limit, used = ((CONTROL / name).read_text().strip() for name in ("memory.max", "memory.current"))
        found += [] if limit == "max" else [max(0, int(limit) - int(used))]
    except (OSError, ValueError):
        pass
    return min(found, default=UNKNOWN)


def gathered(chunks: Iterator[Split], bad: dict[int, FlambeauError], spot: Spot) -> tuple[Split, Path | None]:
    """The rows of all chunks as one split, and the folder of the cache that they lie in if they are too large.

    Args:
        chunks: Rows as the task reads them, some at a time.
        bad: Where the chunks put the errors of the rows that they leave out; filled also when nothing was read anew.
        spot: Where to put them, and how much fits.

    Raises:
        DataError: The cache cannot be written.
        BadRows: Rows cannot be read, and ``spot.on_bad`` is ``fail``.
    """
    path = cache.base() / "prepared" / spot.key
    if _whole(path) and _too_large(_meta(path)["row_bytes"], spot):
        return _mapped(cache.entry("prepared", spot.key, _unneeded, whole=_whole), bad), path
    first = next(chunks, None)
    if first is None:
        return Split({}), None
    if not _mappable(first) or not _too_large(_row_bytes(first), spot):
        return joined([first, *chunks]), None
    path = cache.entry("prepared", spot.key, lambda folder: _write(folder, first, chunks, bad, spot), whole=_whole)
    return _mapped(path, bad), path


def _too_large(row_bytes: float, spot: Spot) -> bool:
    return row_bytes * spot.rows > spot.budget


def _row_bytes(part: Split) -> float:
    return sum(column.nbytes for column in part.columns.values() if isinstance(column, Tensor)) / max(1, len(part))


def _mappable(part: Split) -> bool:
    """Whether all columns are tensors, or lists of texts."""
    return all(
        isinstance(column, Tensor) or (isinstance(column, list) and all(isinstance(value, str) for value in column))
        for column in part.columns.values()
    )


def _unneeded(folder: Path) -> None:
    raise DataError("The entry of the cache has just been deleted.", where=folder, remedy="Start again.")


def _write(folder: Path, first: Split, chunks: Iterable[Split], bad: dict[int, FlambeauError], spot: Spot) -> None:
    """Writes the columns: a file for each tensor, the rest into one of JSON."""
    needed = _row_bytes(first) * spot.rows
    if needed > cache.free_bytes():
        raise DataError(
            f"The rows take {needed / 1e9:.1f} GB, more than is free in the cache ({cache.free_bytes() / 1e9:.1f} GB).",
            where=folder.parent,
            remedy=f"Free some space, set {cache.VARIABLE} to a folder on another disk, or make the pictures smaller.",
        )
    tensors = {name: column for name, column in first.columns.items() if isinstance(column, Tensor)}
    texts: dict[str, list[Any]] = {name: [] for name in first.columns if name not in tensors}
    rows = 0
    with ExitStack() as stack:
        add = {name: stack.enter_context(files.in_parts(folder / name)) for name in tensors}
        for part in chain([first], chunks):
            rows += len(part)
            for name, column in part.columns.items():
                if isinstance(column, Tensor):
                    add[name](column.contiguous().numpy().reshape(-1).view("uint8").data)
                elif isinstance(column, list):
                    texts[name] += column
    if bad and spot.on_bad == "fail":
        raise BadRows(bad)
    meta = {
        "row_bytes": _row_bytes(first),
        "tensors": {
            name: {"dtype": str(column.dtype).removeprefix("torch."), "shape": [rows, *column.shape[1:]]}
            for name, column in tensors.items()
        },
        "texts": texts,
        "order": list(first.columns),
        "bad": {row: error.as_dict() for row, error in bad.items()},
    }
    files.write_json(folder / META, meta)


def _meta(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / META).read_bytes())
    return found


def _whole(path: Path) -> bool:
    """Whether every file is there in its full size."""
    try:
        sizes = {
            name: math.prod(column["shape"]) * getattr(torch, column["dtype"]).itemsize
            for name, column in _meta(path)["tensors"].items()
        }
        return all((path / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _mapped(path: Path, bad: dict[int, FlambeauError]) -> Split:
    meta = _meta(path)
    for row, error in meta["bad"].items():
        bad[int(row)] = DataError(**{key: value for key, value in error.items() if key != "type"})
    columns: dict[str, Column] = dict(meta["texts"])
    for name, column in meta["tensors"].items():
        shape = column["shape"]
        size, dtype = math.prod(shape), getattr(torch, column["dtype"])
        # A private mapping: what is written to it stays in this process, and what is only read takes no memory of it.
        flat = torch.from_file(str(path / name), shared=False, size=size, dtype=dtype) if size else torch.empty(0)
        columns[name] = flat.to(dtype).reshape(shape)
    return Split({name: columns[name] for name in meta["order"]})
