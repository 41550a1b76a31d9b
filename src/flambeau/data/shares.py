"""Distributions over the classes in place of one class a row: probabilities, or the votes of several people.

Each row is divided by its sum. Beside its distribution (``target``) a row keeps the class with the largest share
(``label``, the first among equals), by which rows are divided, counted and shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flambeau.columns import Split
from flambeau.data.listings import Listing, Row, usable
from flambeau.errors import BadRows, DataError, FlambeauError

Rows = dict[str, list[tuple[float, ...]]]
"""The shares of each row, in the order of the classes, by split."""

NOTE = "Each picture has a distribution over the classes. Where one class is needed, as in counts, it is the likeliest."
_SHOWN = 20


def shares(values: Sequence[float], where: str) -> tuple[float, ...]:
    """Numbers of 0 and more as shares of their sum.

    Raises:
        DataError: One is negative or not finite, or all are 0.

    Example:
        >>> shares([3, 1, 0], "here")
        (0.75, 0.25, 0.0)
    """
    wrong = next((value for value in values if not (value >= 0 and math.isfinite(value))), None)
    if wrong is not None:
        raise DataError(
            f"{wrong:g} is no share of a class.", where=where, expected="a finite number of 0 or more for each class"
        )
    total = sum(values)
    if not 0 < total < math.inf:
        raise DataError("No class has a share." if not total else "The shares are too large to be added.", where=where)
    return tuple(value / total for value in values)


def with_likeliest(split: Split) -> Split:
    """The split with the class of the largest share in each row of ``target`` as its ``label``, int64 ``(N,)``."""
    return split.with_columns(label=split.tensor("target").argmax(1))


def of_columns(listing: Listing, classes: Sequence[str]) -> tuple[list[str], Rows]:
    """The classes, and the shares that the columns of these names hold; bad rows leave the listing.

    Raises:
        DataError: There are fewer than two classes.
    """
    _require_two(classes)

    def encode(row: Row) -> tuple[float, ...]:
        pairs = zip(classes, row.values, strict=True)
        return shares([_number(cell, name, row.where) for name, cell in pairs], row.where)

    return list(classes), usable(listing, encode)


def of_objects(listing: Listing) -> tuple[list[str], Rows]:
    """The classes, and the shares that objects such as ``{"cat": 0.7, "dog": 0.3}`` hold; bad rows leave the listing.

    A class that an object does not name has no share. A label that is a text is a class with all of it.

    Raises:
        DataError: The training split names fewer than two classes.
    """
    named = usable(listing, _named)
    classes = _ordered({name for row in named.get("train", []) for name, _ in row})
    _require_two(classes)

    def encode(row: Row) -> tuple[float, ...]:
        given = dict(_named(row))
        unknown = next((name for name in given if name not in classes), None)
        if unknown is not None:
            raise _unknown(unknown, classes, row.where)
        return shares([given.get(name, 0.0) for name in classes], row.where)

    return classes, usable(listing, encode)


def _named(row: Row) -> tuple[tuple[str, float], ...]:
    given = row.inner if isinstance(row.inner, dict) else {row.label: 1}
    return tuple((name.strip(), _number(value, name, row.where)) for name, value in given.items())


def _number(value: Any, name: str, where: str) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        told = "is empty" if value in ("", None) else "is not a number"
        received = None if value in ("", None) else repr(value)[:80]
        raise DataError(f"The share of {name} {told}.", where=where, expected="a number", received=received) from None


def _unknown(name: str, classes: Sequence[str], where: str) -> DataError:
    return DataError(
        f"The training split does not have the class {name!r}.",
        where=where,
        expected=f"classes among {', '.join(classes[:_SHOWN])}",
    )


def _ordered(classes: set[str]) -> list[str]:
    """By name; by number where all are numbers, as labels are."""
    whole = all(name.removeprefix("-").isdecimal() for name in classes)
    return sorted(classes, key=lambda name: (int(name) if whole else 0, name))


def _require_two(classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise DataError(
            "A distribution needs at least two classes.", received=", ".join(classes) or "none", where="classes"
        )


def are_distributions(labels: Any) -> bool:
    """Whether the labels of Python are rows with a number for each class, not one class each."""
    if isinstance(labels, np.ndarray | Tensor) and labels.dtype != object:
        return labels.ndim == 2 and labels.shape[1] > 1
    first = labels[0] if isinstance(labels, Sequence | np.ndarray) and len(labels) else None
    return isinstance(first, dict | list | tuple) or (isinstance(first, np.ndarray | Tensor) and first.ndim == 1)


def of_python(given: Mapping[str, Any], classes: Sequence[str] | None) -> tuple[list[str], dict[str, Tensor]]:
    """The classes, and the shares float32 ``(N, K)`` of each split.

    Args:
        given: By split, ``train`` among them: an array, tensor or list of rows with a number for each class, or a list
            of dictionaries with a number by class.
        classes: Their names; without any those in the dictionaries, or the numbers of the columns.

    Raises:
        BadRows: Rows are no distributions over the classes; it has the error of each.
        DataError: There are fewer than two classes.

    Example:
        >>> names, found = of_python({"train": [{"cat": 3, "dog": 1}, {"dog": 2}]}, None)
        >>> names, found["train"].tolist()
        (['cat', 'dog'], [[0.75, 0.25], [0.0, 1.0]])
    """
    rows = {split: [_plain(row) for row in labels] for split, labels in given.items()}
    first = rows["train"][0] if rows["train"] else []
    if classes is not None:
        names = [str(name) for name in classes]
    elif isinstance(first, dict):
        names = _ordered({str(name) for row in rows["train"] if isinstance(row, dict) for name in row})
    else:
        names = [str(number) for number in range(len(first))]
    _require_two(names)
    bad: dict[int, FlambeauError] = {}
    made: dict[str, Tensor] = {}
    for split, part in rows.items():
        kept = []
        for number, row in enumerate(part):
            try:
                kept.append(_row(row, names, f"{split} row {number}"))
            except DataError as error:
                bad[len(bad)] = error
        made[split] = torch.tensor(kept, dtype=torch.float32)
    if bad:
        raise BadRows(bad)
    return names, made


def _plain(row: Any) -> Any:
    return row.tolist() if isinstance(row, np.ndarray | Tensor) else row


def _row(row: Any, classes: Sequence[str], where: str) -> tuple[float, ...]:
    """The shares of one row of Python."""
    if isinstance(row, dict):
        given = {str(name): _number(value, str(name), where) for name, value in row.items()}
        unknown = next((name for name in given if name not in classes), None)
        if unknown is not None:
            raise _unknown(unknown, classes, where)
        return shares([given.get(name, 0.0) for name in classes], where)
    if not isinstance(row, list | tuple) or len(row) != len(classes):
        raise DataError(
            "There is not one number for each class.",
            where=where,
            expected=f"{len(classes)} numbers, for {', '.join(classes[:_SHOWN])}",
            received=len(row) if isinstance(row, list | tuple) else repr(row)[:80],
        )
    return shares([_number(value, name, where) for value, name in zip(row, classes, strict=True)], where)


def notes_on(classes: Sequence[str], train: Sequence[Sequence[float]]) -> list[str]:
    """What is to be said of distributions: what stands for a single class, ties, and classes that nothing teaches.

    Args:
        classes: Their names.
        train: The shares of the training rows.
    """
    notes = [NOTE]
    matrix = torch.tensor(train, dtype=torch.float64).reshape(-1, len(classes))
    ties = int(((matrix == matrix.amax(1, keepdim=True)).sum(1) > 1).sum())
    if ties:
        notes.append(f"In {ties:,} training rows several classes are likeliest; the first of them is taken.")
    unseen = [name for name, total in zip(classes, matrix.sum(0).tolist(), strict=True) if not total]
    if unseen:
        notes.append(f"No training row has a share of {', '.join(unseen[:_SHOWN])}, so it cannot be learnt.")
    return notes
