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
from flambeau.data.listings import Listing, Row, listed, read_tables, tables_of
from flambeau.data.opening import EXTENSIONS
from flambeau.data.pictures import IMAGES, Targets, from_listing
from flambeau.data.tables import check_classes, is_table
from flambeau.errors import DataError
from flambeau.recipe import Recipe

FORMS = (
    "a table of pictures (.csv, .tsv, .jsonl, .parquet) with {what}, a folder with one in it, or from Python a pair "
    "(pictures, {pair}), also by split"
)

NUMBERS = FORMS.format(what="a column of numbers", pair="numbers (N,) or (N, T)")
LABELS = FORMS.format(what="a column of labels such as cat;dog", pair="labels (N, K) of 0 and 1")

SEPARATORS = (";", "|", ",")
"""What parts the labels in a cell: the first of these that is in any."""

YES, NO = ("1", "true", "yes", "y", "t"), ("0", "false", "no", "n", "f", "")
FEW = 10
"""A label with fewer examples is named in a note."""

Encode = Callable[[Listing, list[str]], Targets]


def open_tables(path: Path, recipe: Recipe, values: Sequence[str], encode: Encode, forms: str) -> Dataset:
    """The data set of a table of pictures, or of a folder with one for each split.

    Args:
        path: Of either.
        recipe: Names columns, and says what to do about bad rows.
        values: The columns of the target; empty for the label column.
        encode: Makes targets of the rows; takes rows out whose target cannot be used.
        forms: What may be given, for the error.

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
    listing = listed(read, recipe.data, role="image", usual=IMAGES, endings=EXTENSIONS, classes=False, values=values)
    title = path.name if is_one else path.absolute().name
    return from_listing(listing, title.partition(".")[0] or "pictures", str(path.absolute()), recipe, encode)


def of_python(
    source: Any, name: str | None, origin: str | None, encode: Callable[[Any, str], tuple[Tensor, list[str]]], key: str
) -> Dataset:
    """The data set of a pair (pictures, targets), or of such pairs by split.

    Args:
        source: Of Python.
        name: What it is called.
        origin: Where it comes from.
        encode: A tensor of targets ``(N, T)`` with their names, from the targets of a split and its name.
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
    names: list[str] = []
    for split, (images, targets) in parts.items():
        found: Column = pictures(images, where=split, notes=notes)
        made, names = encode(targets, split)
        if len(found) != len(made):
            raise DataError(
                "There is not one target for each picture.", where=split, expected=len(found), received=len(made)
            )
        splits[str(split)] = Split({"image": found, column: made})
    widths = {split: part.tensor(column).shape[1] for split, part in splits.items()}
    if len(set(widths.values())) > 1:
        raise DataError("The splits have different numbers of targets.", received=widths)
    info = {names_key: names, "source": origin or "objects in memory", "mirror": False, "notes": notes}
    return Dataset(name or "arrays", splits, info, dataset_hash(splits))


def numbers_of(names: Sequence[str]) -> Encode:
    """Targets of float32 numbers from the columns of these names, or from the label column where there is none."""

    def encode(listing: Listing, notes: list[str]) -> Targets:
        rows = _usable(listing, lambda row: tuple(_number(c, row) for c in (row.values if names else (row.label,))))
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


def numbers_of_python(targets: Any, where: str) -> tuple[Tensor, list[str]]:
    """Numbers ``(N, T)`` float32 from an array, a tensor or a list, with their names."""
    try:
        made = torch.as_tensor(np.asarray(targets, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise DataError("The targets are not numbers.", where=where, received=str(error)[:120]) from error
    made = made.unsqueeze(1) if made.dim() == 1 else made
    if made.dim() != 2 or not made.shape[1] or not bool(made.isfinite().all()):
        raise DataError(
            "The targets are not finite numbers.", where=where, expected="(N,) or (N, T)", received=tuple(made.shape)
        )
    return made.to(torch.float32), ["value"] if made.shape[1] == 1 else [f"value {n + 1}" for n in range(made.shape[1])]


def labels_of(names: Sequence[str]) -> Encode:
    """Targets of 0 and 1 for each label: from columns of these names, or from the names in the label column."""

    def encode(listing: Listing, notes: list[str]) -> Targets:
        if names:
            rows = _usable(listing, lambda row: tuple(float(_is_yes(cell, row)) for cell in row.values))
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
    cells = [row.label for rows in listing.rows.values() for row in rows]
    separator = next((mark for mark in SEPARATORS if any(mark in cell for cell in cells)), None)

    def parts(row: Row) -> list[str]:
        found = row.label.split(separator) if separator else [row.label]
        return [name for part in found if (name := part.strip())]

    counted = Counter(name for row in listing.rows.get("train", []) for name in parts(row))
    if not counted:
        raise DataError("No row has a label.", expected="names of labels, parted by ; | or ,")
    check_classes(list(counted.elements()))
    classes = sorted(counted)
    number = {name: place for place, name in enumerate(classes)}

    def encode(row: Row) -> tuple[float, ...]:
        made = [0.0] * len(classes)
        for name in parts(row):
            if name not in number:
                raise DataError(
                    f"The training split does not have the label {name!r}.", where=row.where, received=row.label[:80]
                )
            made[number[name]] = 1.0
        return tuple(made)

    notes.append(f"Labels in a cell are parted by {separator!r}." if separator else "Every cell holds one label.")
    return classes, _usable(listing, encode)


def labels_of_python(targets: Any, where: str) -> tuple[Tensor, list[str]]:
    """Labels ``(N, K)`` uint8 from an array or tensor of 0 and 1, with their names."""
    try:
        made = torch.as_tensor(np.asarray(targets, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise DataError("The labels are not numbers.", where=where, received=str(error)[:120]) from error
    if made.dim() != 2 or not bool(((made == 0) | (made == 1)).all()):
        raise DataError("The labels are not 0 and 1.", where=where, expected="(N, K)", received=tuple(made.shape))
    return made.to(torch.uint8), [str(number) for number in range(made.shape[1])]


def _usable(listing: Listing, encode: Callable[[Row], tuple[float, ...]]) -> dict[str, list[tuple[float, ...]]]:
    """The targets by split; rows whose target cannot be used leave the listing, with their errors."""
    made: dict[str, list[tuple[float, ...]]] = {}
    for split, rows in listing.rows.items():
        kept: list[Row] = []
        made[split] = []
        for row in rows:
            try:
                made[split].append(encode(row))
                kept.append(row)
            except DataError as error:
                listing.bad[row.where] = error
        listing.rows[split] = kept
    return made
