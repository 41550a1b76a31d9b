"""What a script reads: the files of a published set, a folder of pictures, or what the run read, stored beside it."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flambeau import catalog
from flambeau.columns import Dataset, Ragged, Split
from flambeau.eject.copying import Copier
from flambeau.recipe import Recipe

ROW = "eject/row"
"""The column that carries each row's number in the split that its source gives."""

_CONTENT = {
    "plain": '''def content(name):
    """The bytes of one of the set's files."""
    return (DATA / name).read_bytes()
''',
    "gzip": '''def content(name):
    """The bytes of one of the set's files, unpacked."""
    return gzip.decompress((DATA / f"{name}.gz").read_bytes())
''',
    "tar": '''def content(name):
    """The bytes of one of the files in the set's archive."""
    with tarfile.open(DATA) as archive:
        member = next(one for one in archive if one.name.endswith(f"/{name}"))
        return archive.extractfile(member).read()
''',
}


@dataclass(slots=True)
class Reading:
    """How the script comes by its data.

    Attributes:
        text: Defines ``read_data()``, which returns columns by split; places of copied definitions in it.
        where: What ``DATA`` is by default: a path, as Python writes it.
        beside: Bytes of a file that lies beside the script, if it needs one.
        note: What the reader of the script should know.
    """

    text: str
    where: str
    beside: bytes | None = None
    note: str = ""
    imports: set[str] = field(default_factory=set)


def with_rows(raw: Dataset) -> Dataset:
    """A data set whose rows carry their numbers, so that it can be seen afterwards how it was divided."""
    splits = {name: split.with_columns(**{ROW: torch.arange(len(split))}) for name, split in raw.splits.items()}
    return Dataset(raw.name, splits, raw.info, raw.hash)


def without_rows(read: Dataset) -> Dataset:
    """The data set as it is trained on."""
    made: dict[int, Split] = {}
    splits = {name: made.setdefault(id(split), split.without(ROW)) for name, split in read.splits.items()}
    return Dataset(read.name, splits, read.info, read.hash)


def reading(recipe: Recipe, raw: Dataset, read: Dataset, copier: Copier, stem: str) -> Reading:
    """The plainest way to the examples that a run was trained on, found out by trying.

    Args:
        recipe: The run's.
        raw: The data as its source gives it.
        read: The same after division and reading, each row with its number.
        copier: Takes along what reads.
        stem: What the script is called.
    """
    made = _published(recipe, raw, read, copier, stem)
    return made or _stored(read, copier, stem)


def _published(recipe: Recipe, raw: Dataset, read: Dataset, copier: Copier, stem: str) -> Reading | None:
    """From the files of a published set, where the examples are its rows as they are."""
    source = recipe.data.source
    entry = catalog.names("datasets").get(source or "")
    where = Path(str(raw.info.get("source", "")))
    if entry is None or not where.exists():
        return None
    module = importlib.import_module(entry.partition(":")[0])
    if not hasattr(module, "columns") or not _rows_as_they_are(raw, read):
        return None
    kind = _packing(module.LAYOUT.sums, where)
    reader = copier.reference(module.columns, name="published_columns", known={"where": None})
    divided, held = _division(raw, read, stem)
    lines = [
        "def read_data():",
        '    """The examples as tensors: columns by name, splits by name."""',
        f"    published = {reader}(content)",
        *divided,
    ]
    imports = {"from pathlib import Path", *{"gzip": {"import gzip"}, "tar": {"import tarfile"}}.get(kind, set())}
    if held is not None:
        imports.add("import numpy as np")
    note = (
        f"Which rows validate is in {stem}.npz: Flambeau chooses them by their content, so that copies stay together."
        if held is not None
        else ""
    )
    return Reading(
        _CONTENT[kind] + "\n\n" + "\n".join(lines) + "\n", f"Path({json.dumps(str(where))})", held, note, imports
    )


def _packing(names: Mapping[str, str], where: Path) -> str:
    if where.is_file():
        return "tar"
    return "plain" if all((where / name).is_file() for name in names) else "gzip"


def _rows_as_they_are(raw: Dataset, read: Dataset) -> bool:
    """Whether every example is a row of the source, unchanged, from the split that division takes it from."""
    for name, split in read.splits.items():
        if name == "val" and split is read.splits.get("test"):
            continue
        origin = raw.splits[_origin_name(raw, name)]
        rows = split.tensor(ROW)
        for title, column in origin.columns.items():
            if not isinstance(column, Tensor) or title not in split.columns:
                return False
            if not torch.equal(column[rows], split.tensor(title)):
                return False
    return True


def _origin_name(raw: Dataset, name: str) -> str:
    return name if name in raw.splits else "train"


def _division(raw: Dataset, read: Dataset, stem: str) -> tuple[list[str], bytes | None]:
    """Statements that return the splits, and the row numbers that they need."""
    held: dict[str, Any] = {}
    parts: list[str] = []
    for name in ("train", "val", "test"):
        if name not in read.splits:
            continue
        if name == "val" and read.splits["val"] is read.splits["test"]:
            parts.append('"val": published["test"]')
            continue
        origin, rows = _origin_name(raw, name), read.splits[name].tensor(ROW)
        if torch.equal(rows, torch.arange(len(raw.splits[origin]))):
            parts.append(f'"{name}": published["{origin}"]')
            continue
        held[name] = rows.numpy()
        parts.append(f'"{name}": rows_of(published["{origin}"], torch.from_numpy(rows["{name}"]))')
    before = [f'    rows = np.load(HERE / "{stem}.npz")'] if held else []
    return [*before, "    return {", *(f"        {part}," for part in parts), "    }"], npz(held) if held else None


def _stored(read: Dataset, copier: Copier, stem: str) -> Reading:
    """From a file beside the script, which holds the examples as the run read them."""
    arrays: dict[str, Any] = {}
    ragged: set[str] = set()
    for name, split in read.splits.items():
        if name == "val" and split is read.splits.get("test"):
            continue
        for title, column in split.columns.items():
            if isinstance(column, Tensor) and title != ROW:
                arrays[f"{name}.{title}"] = column.numpy()
            elif isinstance(column, Ragged):
                ragged.add(title)
                arrays[f"{name}.{title}.values"] = column.values.numpy()
                arrays[f"{name}.{title}.offsets"] = column.offsets.numpy()
    place = copier.reference(Ragged) if ragged else ""
    lines = [
        "def read_data():",
        '    """The examples as tensors: columns by name, splits by name."""',
        "    splits = {}",
        "    with np.load(DATA) as stored:",
        "        for name in stored:",
        '            split, _, column = name.partition(".")',
        "            splits.setdefault(split, {})[column] = torch.from_numpy(stored[name])",
    ]
    lines += [
        line
        for title in sorted(ragged)
        for line in (
            "    for columns in splits.values():",
            f'        columns["{title}"] = {place}(columns.pop("{title}.values"), columns.pop("{title}.offsets"))',
        )
    ]
    if read.splits.get("val") is read.splits.get("test") and "val" in read.splits:
        lines.append('    splits["val"] = splits["test"]')
    note = f"{stem}.npz, beside this script, holds the examples as the run read them, decoded and of one size."
    imports = {"from pathlib import Path", "import numpy as np"}
    return Reading("\n".join([*lines, "    return splits"]) + "\n", f'HERE / "{stem}.npz"', npz(arrays), note, imports)


def npz(arrays: Mapping[str, Any]) -> bytes:
    """A NumPy archive of arrays or tensors, by name."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
