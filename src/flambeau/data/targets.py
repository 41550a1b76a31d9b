"""Pictures whose target is not one class: several labels each, or numbers; from tables and from objects of Python."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flambeau.columns import Column, Dataset, Split
from flambeau.data.arrays import may_mirror, pictures
from flambeau.data.hashing import dataset_hash
from flambeau.data.listings import Inner, Listing, Row, listed, read_tables, tables_of, usable
from flambeau.data.opening import EXTENSIONS
from flambeau.data.pictures import IMAGES, Targets, from_listing
from flambeau.data.tables import cell_text, check_classes, is_table
from flambeau.errors import BadRows, DataError
from flambeau.recipe import Recipe

FORMS = (
    "a table of pictures (.csv, .tsv, .jsonl, .parquet) with {what}, a folder with one in it, or from Python a pair "
    "(pictures, {pair}), also by split"
)

NUMBERS = FORMS.format(what="a column of numbers", pair="numbers (N,) or (N, T)")
LABELS = FORMS.format(
    what='a column of labels such as cat;dog or ["cat", "dog"]',
    pair="(N, K) of 0 and 1, or a list of names for each",
)

SEPARATORS = (";", "|", ",")
"""What parts the labels in a cell: the first of these that is in any."""

YES, NO = ("1", "true", "yes", "y", "t"), ("0", "false", "no", "n", "f", "")
FEW = 10
"""A label with fewer examples is named in a note."""

Encode = Callable[[Listing, list[str]], Targets]
OfPython = Callable[[Mapping[str, Any]], tuple[dict[str, Tensor], list[str]]]


def open_tables(
    path: Path, recipe: Recipe, values: Sequence[str], encode: Encode, forms: str, inner: type[Inner] | None = None
) -> Dataset:
    """The data set of a table of pictures, or of a folder with one for each split.

    Args:
        path: Of either.
        recipe: Names columns, and says what to do about bad rows.
        values: The columns of the target; empty for the label column.
        encode: Makes targets of the rows; takes rows out whose target cannot be used.
        forms: What may be given, for the error.
        inner: Whether a label may be a list, too.

    Raises:
        DataError: It is neither, or cannot be used.
        BadRows: Some rows or pictures cannot be used, and ``data.on_bad`` is ``fail``.
    """
    is_one = path.is_file() and is_table(path)
    tables = {"train": path} if is_one else {}
    if path.is_dir():
        tables = tables_of(path, recipe.data, role="image", usual=IMAGES, endings=EXTENSIONS, labels=())
    if not tables:
        raise DataError("There is no table of pictures.", where=path, expected=forms)
    read = read_tables(tables, EXTENSIONS)
    listing = listed(
        read,
        recipe.data,
        role="image",
        usual=IMAGES,
        endings=EXTENSIONS,
        classes=False,
        values=values,
        inner=inner,
    )
    title = path.name if is_one else path.absolute().name
    return from_listing(listing, title.partition(".")[0] or "pictures", str(path.absolute()), recipe, encode)


def of_python(source: Any, name: str | None, origin: str | None, encode: OfPython, key: str) -> Dataset:
    """The data set of a pair (pictures, targets), or of such pairs by split.

    Args:
        source: Of Python.
        name: What it is called.
        origin: Where it comes from.
        encode: Makes a tensor of targets ``(N, T)`` of those of each split, and says what the T are called.
        key: The column and what its names are called in ``info``, as in ``target targets``.

    Raises:
        DataError: It is neither.
    """
    parts = source if isinstance(source, Mapping) else {"train": source}
    unknown = sorted({*map(str, parts)} - {"train", "val", "test"})
    if unknown or "train" not in parts or not all(isinstance(p, tuple) and len(p) == 2 for p in parts.values()):
        raise DataError(
            "This cannot serve as data.",
            expected="a pair (pictures, targets), or such pairs by split: train, val, test",
            received=type(source).__name__ if not unknown else ", ".join(unknown),
        )
    column, names_key = key.split()
    notes: list[str] = []
    splits: dict[str, Split] = {}
    made, names = encode({str(split): targets for split, (_, targets) in parts.items()})
    for split, (images, _) in parts.items():
        found: Column = pictures(images, where=split, notes=notes)
        if len(found) != len(made[split]):
            raise DataError(
                "There is not one target for each picture.", where=split, expected=len(found), received=len(made[split])
            )
        splits[str(split)] = Split({"image": found, column: made[split]})
    widths = {split: targets.shape[1] for split, targets in made.items()}
    if len(set(widths.values())) > 1:
        raise DataError("The splits have different numbers of targets.", received=widths)
    info = {names_key: names, "source": origin or "objects in memory", "mirror": False, "notes": notes}
    return Dataset(name or "arrays", splits, info, dataset_hash(splits))


def numbers_of(names: Sequence[str]) -> Encode:
    """Targets of float32 numbers from the columns of these names, or from the label column where there is none."""

    def encode(listing: Listing, notes: list[str]) -> Targets:
        rows = usable(listing, lambda row: tuple(_number(c, row) for c in (row.values if names else (row.label,))))
        told = list(names) or [listing.columns["label"]]
        return Targets(rows, {"targets": told, "mirror": False}, "target", torch.float32)

    return encode


def _number(cell: str, row: Row) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        told = f"The target {cell[:40]!r} is not a finite number." if cell else "The target is empty."
        raise DataError(told, where=row.where, expected="a finite number")
    return value


def numbers_of_python(given: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """Numbers ``(N, T)`` float32 from an array, a tensor or a list for each split, with their names."""
    made = {split: _numbers(targets, split) for split, targets in given.items()}
    width = made["train"].shape[1]
    return made, ["value"] if width == 1 else [f"value {n + 1}" for n in range(width)]


def _numbers(targets: Any, where: str) -> Tensor:
    try:
        made = torch.as_tensor(np.asarray(targets, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise DataError("The targets are not numbers.", where=where, received=str(error)[:120]) from error
    made = made.unsqueeze(1) if made.dim() == 1 else made
    if made.dim() != 2 or not made.shape[1] or not bool(made.isfinite().all()):
        raise DataError(
            "The targets are not finite numbers.", where=where, expected="(N,) or (N, T)", received=tuple(made.shape)
        )
    return made.to(torch.float32)


def labels_of(names: Sequence[str]) -> Encode:
    """Targets of 0 and 1 for each label: from columns of these names, or from the names in the label column."""

    def encode(listing: Listing, notes: list[str]) -> Targets:
        if names:
            rows = usable(listing, lambda row: tuple(float(_is_yes(cell, row)) for cell in row.values))
            classes = list(names)
        else:
            classes, rows = _named(listing, notes)
        counts = [sum(column) for column in zip(*rows.get("train", []), strict=True)]
        scarce = [f"{name} ({count:.0f})" for name, count in zip(classes, counts, strict=False) if count < FEW]
        if scarce:
            notes.append(f"Fewer than {FEW} training pictures have the labels {', '.join(scarce[:20])}.")
        return Targets(rows, {"classes": classes, "mirror": may_mirror(classes)}, "labels", torch.uint8)

    return encode


def _is_yes(cell: str, row: Row) -> bool:
    text = cell.strip().lower().removesuffix(".0")
    if text not in YES and text not in NO:
        raise DataError(f"{cell[:40]!r} says neither yes nor no.", where=row.where, expected="0 or 1")
    return text in YES


def _named(listing: Listing, notes: list[str]) -> tuple[list[str], dict[str, list[tuple[float, ...]]]]:
    cells = [row.label for rows in listing.rows.values() for row in rows if row.inner is None]
    lists = any(row.inner is not None for rows in listing.rows.values() for row in rows)
    separator = next((mark for mark in SEPARATORS if any(mark in cell for cell in cells)), None)

    def parts(row: Row) -> list[str]:
        if isinstance(row.inner, list):
            return [_name(value, row) for value in row.inner]
        found = row.label.split(separator) if separator else [row.label]
        return [name for part in found if (name := part.strip())]

    counted = Counter(name for names in usable(listing, parts).get("train", []) for name in names)
    if not counted and listing.rows.get("train"):
        raise DataError("No row has a label.", expected='names of labels, parted by ; | or , or in a list: ["a", "b"]')
    check_classes(list(counted.elements()))
    classes = sorted(counted)
    number = {name: place for place, name in enumerate(classes)}

    def encode(row: Row) -> tuple[float, ...]:
        made = [0.0] * len(classes)
        for name in parts(row):
            if name not in number:
                raise _unknown(name, row.where)
            made[number[name]] = 1.0
        return tuple(made)

    if separator or not lists:
        notes.append(f"Labels in a cell are parted by {separator!r}." if separator else "Every cell holds one label.")
    return classes, usable(listing, encode)


def _name(value: Any, row: Row) -> str:
    """A label in a list: a text, or a number that stands for one."""
    name = "" if isinstance(value, bool | dict | list) else cell_text(value).strip()
    if not name:
        raise DataError(
            "A label in the list is neither a text nor a number.", where=row.where, received=repr(value)[:80]
        )
    return name


def labels_of_python(given: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """Labels ``(N, K)`` uint8 for each split, from 0 and 1 or from a list of names for each picture; with their names.

    Raises:
        BadRows: Names are none, or not among those of the training split.
        DataError: They are something else.

    Example:
        >>> made, names = labels_of_python({"train": [["car", "tree"], ["tree"], []]})
        >>> names, made["train"].tolist()
        (['car', 'tree'], [[1, 1], [0, 1], [0, 0]])
    """
    if not any(_are_names(targets) for targets in given.values()):
        made = {split: _zeros_and_ones(targets, split) for split, targets in given.items()}
        return made, [str(number) for number in range(made["train"].shape[1])]
    rows = {split: [[str(name).strip() for name in row] for row in targets] for split, targets in given.items()}
    classes = sorted({name for row in rows["train"] for name in row})
    wrong = {
        f"{split} row {number}": name
        for split, part in rows.items()
        for number, row in enumerate(part)
        for name in row
        if name not in classes
    }
    bad = {n: _unknown(name, where) for n, (where, name) in enumerate(wrong.items())}
    if bad:
        raise BadRows(bad)
    named = {split: [[float(name in row) for name in classes] for row in part] for split, part in rows.items()}
    return {split: torch.tensor(part).to(torch.uint8) for split, part in named.items()}, classes


def _are_names(targets: Any) -> bool:
    """Whether each row is a list of texts, or an empty one."""
    if isinstance(targets, Tensor) or (isinstance(targets, np.ndarray) and targets.dtype != object):
        return False
    rows = list(targets)
    lists = all(isinstance(row, list | tuple | set | frozenset) for row in rows)
    return lists and any(isinstance(name, str) for row in rows for name in row)


def _zeros_and_ones(targets: Any, where: str) -> Tensor:
    expected = 'shape (N, K) of 0 and 1, or a list of names for each picture, such as [["car", "tree"], []]'
    try:
        made = torch.as_tensor(np.asarray(targets, dtype=np.float64))
    except (TypeError, ValueError) as error:
        received = str(error)[:120]
        raise DataError("These are no labels.", where=where, expected=expected, received=received) from error
    if made.dim() != 2 or not bool(((made == 0) | (made == 1)).all()):
        raise DataError("The labels are not 0 and 1.", where=where, expected=expected, received=tuple(made.shape))
    return made.to(torch.uint8)


def _unknown(name: str, where: str) -> DataError:
    return DataError(f"The training split does not have the label {name!r}.", where=where)
