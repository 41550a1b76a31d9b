"""Data sets from what Python already holds: arrays, tensors, lists of pictures, torch data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flambeau.columns import Column, Dataset, Split
from flambeau.data import shares
from flambeau.data.hashing import dataset_hash
from flambeau.errors import DataError

Pair = tuple[Any, Any]
"""Pictures and their labels."""


def from_arrays(
    pairs: Mapping[str, Pair],
    *,
    name: str = "arrays",
    classes: Sequence[str] | None = None,
    source: str = "arrays in memory",
    notes: Iterable[str] = (),
) -> Dataset:
    """A data set from pictures and labels by split.

    Args:
        pairs: For ``train``, and ``val`` and ``test`` where they exist: pictures as an array, a tensor or a list (of
            paths, bytes, pictures of Pillow, arrays or tensors), and a label for each (whole numbers or texts), or a
            distribution over the classes (``(N, K)`` numbers, or a dictionary by class for each).
        name: What the data set is called.
        classes: Names of the classes 0, 1, ...; otherwise the labels themselves are the names.
        source: Where it comes from, for the report.
        notes: Sentences for the report.

    Raises:
        DataError: Shapes, types or labels are not those of labelled pictures.

    Example:
        >>> data = from_arrays({"train": (np.zeros((4, 8, 8), np.uint8), ["cat", "dog", "cat", "dog"])})
        >>> data.info["classes"], data.splits["train"]["label"].tolist()
        (['cat', 'dog'], [0, 1, 0, 1])
    """
    unknown = sorted(set(pairs) - {"train", "val", "test"})
    if unknown or "train" not in pairs:
        raise DataError(
            "These are not the names of splits.", expected="train, and if you like val and test", received=list(pairs)
        )
    told = list(notes)
    columns = {split: pictures(images, where=split, notes=told) for split, (images, _) in pairs.items()}
    names, targets = _encoded({split: given for split, (_, given) in pairs.items()}, classes, told)
    splits = {}
    for split, column in columns.items():
        count = len(targets[split])
        if len(column) != count:
            raise DataError(
                "There is not one label for each picture.",
                where=split,
                expected=f"{len(column)} labels for {len(column)} pictures",
                received=f"{count} labels",
            )
        splits[split] = Split({"image": column, **targets[split].columns})
    info = {"classes": names, "source": source, "mirror": may_mirror(names), "notes": told}
    return Dataset(name, splits, info, dataset_hash(splits))


def _encoded(
    given: Mapping[str, Any], classes: Sequence[str] | None, notes: list[str]
) -> tuple[list[str], dict[str, Split]]:
    """The names of the classes; and by split the column ``label``, with ``target`` where train has distributions."""
    if not shares.are_distributions(given["train"]):
        names, labels = encode_labels(given, classes, notes)
        return names, {split: Split({"label": label}) for split, label in labels.items()}
    soft = {split: labels for split, labels in given.items() if shares.are_distributions(labels)}
    names, targets = shares.of_python(soft, classes)
    notes += shares.notes_on(names, targets["train"].tolist())
    # A class is a distribution too: test pictures may have the one that is right.
    _, labels = encode_labels({split: labels for split, labels in given.items() if split not in soft}, names, notes)
    targets |= {split: torch.nn.functional.one_hot(label, len(names)).float() for split, label in labels.items()}
    return names, {split: shares.with_likeliest(Split({"target": target})) for split, target in targets.items()}


def may_mirror(classes: Sequence[str]) -> bool:
    """Whether pictures of these classes keep their meaning in a mirror: letters and numbers do not."""
    return not all(len(name) == 1 or name.removeprefix("-").isdigit() for name in classes)


def pictures(images: Any, *, where: str, notes: list[str]) -> Column:
    """Pictures as a dense uint8 tensor ``(N, C, H, W)`` where they are an array or of one size, else as a list.

    Values from 0 to 1 are multiplied by 255 and rounded, which a note says.

    Raises:
        DataError: The type, shape or range of values is not that of pictures.
    """
    if isinstance(images, np.ndarray | Tensor):
        if images.ndim not in (3, 4):
            raise DataError(
                "This does not hold a number of pictures.",
                where=where,
                expected="three dimensions (N, H, W), or four with channels last (N, H, W, C) or first (N, C, H, W)",
                received=f"shape {tuple(images.shape)}",
            )
        last = images.ndim == 4 and _channels_last(tuple(images.shape), isinstance(images, np.ndarray), where)
        tensor = _bytes(torch.as_tensor(images).detach().cpu(), where, notes)
        tensor = tensor.unsqueeze(1) if tensor.dim() == 3 else tensor
        tensor = tensor.permute(0, 3, 1, 2) if last else tensor
        return tensor.contiguous()
    # A text names a file here; its content is what tells one row from another.
    given = (Path(row) if isinstance(row, str) else row for row in images)
    rows = [_row(row, f"{where} row {number}", notes) for number, row in enumerate(given)]
    same = {(type(row), tuple(row.shape)) for row in rows if isinstance(row, Tensor)}
    if len(same) == 1 and all(isinstance(row, Tensor) for row in rows):
        return torch.stack(rows)
    return rows


def _channels_last(shape: tuple[int, ...], array: bool, where: str) -> bool:
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first and last:
        # Both readings are possible; arrays have the channels last by custom, tensors first.
        return array
    if not first and not last:
        raise DataError(
            "The pictures have neither one nor three channels.",
            where=where,
            expected="shape (N, H, W, C) or (N, C, H, W) with C = 1 or 3",
            received=f"shape {shape}",
        )
    return last


def _row(row: Any, where: str, notes: list[str]) -> Any:
    """One picture of a list: arrays and tensors become uint8 ``(C, H, W)``, everything else is decoded later."""
    if isinstance(row, np.ndarray):
        tensor = _bytes(torch.as_tensor(row), where, notes)
        return tensor.permute(2, 0, 1).contiguous() if tensor.dim() == 3 and row.shape[2] in (1, 3) else tensor
    if isinstance(row, Tensor):
        return _bytes(row.detach().cpu(), where, notes)
    return row


def _bytes(values: Tensor, where: str, notes: list[str]) -> Tensor:
    if values.dtype == torch.uint8:
        return values
    if not values.is_floating_point():
        low, high = (int(values.min()), int(values.max())) if values.numel() else (0, 0)
        if values.dtype != torch.bool and low >= 0 and high <= 255:
            return values.to(torch.uint8)
        raise DataError(
            "The pictures hold whole numbers that are not pixels.",
            where=where,
            expected="uint8, or whole numbers from 0 to 255",
            received=f"{str(values.dtype).removeprefix('torch.')} from {low} to {high}",
        )
    least, most = (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)
    if not (least >= 0 and most <= 1):
        raise DataError(
            "The pictures hold floating-point values of which it is not clear what they mean.",
            where=where,
            expected="values from 0 to 1, or uint8 from 0 to 255",
            received=f"{str(values.dtype).removeprefix('torch.')} from {least:.4g} to {most:.4g}",
            remedy="Give the pictures before normalisation; Flambeau normalises them itself.",
        )
    note = "Floating-point pictures with values from 0 to 1 were multiplied by 255 and rounded."
    if note not in notes:
        notes.append(note)
    return (values * 255).round().to(torch.uint8)


def encode_labels(
    given: Mapping[str, Any], classes: Sequence[str] | None, notes: list[str]
) -> tuple[list[str], dict[str, Tensor]]:
    """The names of the classes, and the labels of each split as int64 class numbers.

    Raises:
        DataError: A label is missing, not a whole number, out of range, or not among those of the training split.
    """
    values = {split: _plain(labels, split) for split, labels in given.items()}
    if classes is not None:
        names = [str(name) for name in classes]
        known: dict[Any, int] = {number: number for number in range(len(names))}
        if any(isinstance(value, str) for rows in values.values() for value in rows):
            known = {name: number for number, name in enumerate(names)}
    else:
        distinct = sorted(set(values["train"]), key=lambda value: (isinstance(value, str), value))
        names = [str(value) for value in distinct]
        known = {value: number for number, value in enumerate(distinct)}
        if distinct and not isinstance(distinct[0], str) and distinct != list(range(len(distinct))):
            notes.append(f"The labels are not 0 to {len(distinct) - 1}; the classes are {', '.join(names[:20])}.")
    encoded = {}
    for split, rows in values.items():
        wrong = next((row for row, value in enumerate(rows) if value not in known), None)
        if wrong is not None:
            raise DataError(
                "The label is not that of a class.",
                where=f"{split} row {wrong}",
                expected=f"one of {', '.join(str(value) for value in list(known)[:20])}",
                received=repr(rows[wrong]),
                remedy="Correct the label" + ("." if split == "train" else ", or add the class to the training split."),
            )
        encoded[split] = torch.tensor([known[value] for value in rows], dtype=torch.int64)
    if len(names) < 2:
        raise DataError(
            "There is only one class, so there is nothing to tell apart." if names else "There are no rows.",
            where="train",
            received=", ".join(names) or None,
            expected="at least two classes",
            remedy="Add rows of another class, or name the right column: --set data.columns.label=NAME. "
            "Where a cell holds several labels, as in cat;dog: --task image-multilabel.",
        )
    return names, encoded


def as_labels(cells: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Labels as the cells of tables give them: numbers where every one is a whole number, else texts without margins.

    Example:
        >>> as_labels({"train": ["10", " 2"]}), as_labels({"train": ["a ", "2"]})
        ({'train': [10, 2]}, {'train': ['a', '2']})
    """
    everything = [label for part in cells.values() for label in part]
    numbers = all(isinstance(label, str) and _WHOLE.fullmatch(label.strip()) for label in everything)
    return {
        split: [int(label) if numbers else label.strip() if isinstance(label, str) else label for label in part]
        for split, part in cells.items()
    }


_WHOLE = re.compile(r"-?(0|[1-9]\d*)", re.ASCII)


def _plain(labels: Any, where: str) -> list[Any]:
    """Labels as Python integers or texts."""
    if isinstance(labels, np.ndarray | Tensor) and labels.ndim != 1:
        raise DataError(
            "There must be one label for each picture.",
            where=where,
            expected="labels of shape (N,)",
            received=f"shape {tuple(labels.shape)}",
            remedy="For a distribution over the classes give shape (N, K), a number for each class.",
        )
    rows = labels.tolist() if isinstance(labels, np.ndarray | Tensor) else list(labels)
    plain: list[Any] = []
    for row, value in enumerate(rows):
        value = value.item() if isinstance(value, np.generic | Tensor) else value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise DataError(
                "The label is neither a whole number nor a text.", where=f"{where} row {row}", received=repr(value)
            )
        plain.append(value)
    return plain


def from_torch(dataset: Any, *, name: str | None = None, source: str | None = None) -> Dataset:
    """A data set from a torch ``Dataset`` that gives pairs of a picture and a label; it is read once, into memory.

    torchvision's sets without transforms are taken over as the arrays they hold.

    Raises:
        DataError: A row is not such a pair, or reading one failed.
    """
    title = name or type(dataset).__name__
    notes: list[str] = []
    return from_arrays(
        {"train": pair_of(dataset, notes)},
        name=title,
        classes=classes_of(dataset),
        source=source or f"{type(dataset).__module__}.{type(dataset).__qualname__}",
        notes=notes,
    )


def classes_of(dataset: Any) -> list[str] | None:
    """The class names that a torch data set states, as torchvision's do."""
    classes = getattr(dataset, "classes", None)
    return [str(name) for name in classes] if isinstance(classes, list | tuple) and classes else None


def pair_of(dataset: Any, notes: list[str]) -> Pair:
    """Pictures and labels of a torch data set."""
    untouched = all(getattr(dataset, name, None) is None for name in ("transform", "target_transform", "transforms"))
    data, targets = getattr(dataset, "data", None), getattr(dataset, "targets", None)
    if untouched and isinstance(data, np.ndarray | Tensor) and targets is not None and len(data) == len(targets):
        return data, targets
    rows = range(len(dataset)) if hasattr(dataset, "__len__") else None
    images, labels = [], []
    try:
        for number, row in enumerate(dataset if rows is None else (dataset[index] for index in rows)):
            if not isinstance(row, tuple | list) or len(row) != 2:
                raise DataError(
                    "A row of the data set is not a pair.",
                    where=f"{type(dataset).__name__} row {number}",
                    expected="(picture, label)",
                    received=f"{type(row).__name__}" + (f" of {len(row)}" if hasattr(row, "__len__") else ""),
                )
            images.append(row[0])
            labels.append(row[1])
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            "Reading the data set failed.",
            where=f"{type(dataset).__name__} row {len(images)}",
            received=f"{type(error).__name__}: {error}",
        ) from error
    notes.append(
        f"The data set {type(dataset).__name__} was read once into memory; random transforms in it are frozen as they "
        "came out then."
    )
    return images, labels
