"""What a script reads: the files of a published set, a folder of pictures, or what the run read, stored beside it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flambeau import catalog
from flambeau.columns import Dataset, Ragged
from flambeau.eject.copying import Copier
from flambeau.eject.pictures import from_files
from flambeau.eject.reading import ROW, Reading, npz, origin_of
from flambeau.recipe import Recipe

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


def reading(
    recipe: Recipe, raw: Dataset, read: Dataset, facts: Mapping[str, Any], copier: Copier, stem: str
) -> Reading:
    """The plainest way to the examples that a run was trained on, found out by trying.

    Args:
        recipe: The run's.
        raw: The data as its source gives it.
        read: The same after division and reading, each row with its number.
        facts: What the task learnt from it.
        copier: Takes along what reads.
        stem: What the script is called.
    """
    made = _published(recipe, raw, read, copier, stem) or from_files(raw, read, facts, copier, stem)
    return made if isinstance(made, Reading) else _stored(read, copier, stem, made or "")


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
    text = _CONTENT[kind] + "\n\n" + "\n".join(lines) + "\n"
    beside = {} if held is None else {f"{stem}.npz": held}
    return Reading(text, f"Path({json.dumps(str(where))})", beside, note, imports)


def _packing(names: Mapping[str, str], where: Path) -> str:
    if where.is_file():
        return "tar"
    return "plain" if all((where / name).is_file() for name in names) else "gzip"


def _rows_as_they_are(raw: Dataset, read: Dataset) -> bool:
    """Whether every example is a row of the source, unchanged, from the split that division takes it from."""
    for name, split in read.splits.items():
        if name == "val" and split is read.splits.get("test"):
            continue
        origin = raw.splits[origin_of(raw, name)]
        rows = split.tensor(ROW)
        for title, column in origin.columns.items():
            if not isinstance(column, Tensor) or title not in split.columns:
                return False
            if not torch.equal(column[rows], split.tensor(title)):
                return False
    return True


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
        origin, rows = origin_of(raw, name), read.splits[name].tensor(ROW)
        if torch.equal(rows, torch.arange(len(raw.splits[origin]))):
            parts.append(f'"{name}": published["{origin}"]')
            continue
        held[name] = rows.numpy()
        parts.append(f'"{name}": rows_of(published["{origin}"], torch.from_numpy(rows["{name}"]))')
    before = [f'    rows = np.load(HERE / "{stem}.npz")'] if held else []
    return [*before, "    return {", *(f"        {part}," for part in parts), "    }"], npz(held) if held else None


def _stored(read: Dataset, copier: Copier, stem: str, why: str) -> Reading:
    """From a file beside the script, which holds the examples as the run read them; why, if there is a choice."""
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
    note = f"{stem}.npz, beside this script, holds the examples as the run read them, decoded and of one size"
    note += f": {why}." if why else "."
    imports = {"from pathlib import Path", "import numpy as np"}
    beside = {f"{stem}.npz": npz(arrays)}
    return Reading("\n".join([*lines, "    return splits"]) + "\n", f'HERE / "{stem}.npz"', beside, note, imports)
