"""Columns, splits and data sets: what data is while it is on its way to a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different lengths, laid end to end in one tensor: token numbers, samples of sound.

    Attributes:
        values: All rows in order, ``(total,)``.
        offsets: Where each row begins and the last one ends, ``(n + 1,)`` int64.

    Example:
        >>> rows = Ragged.of([[5, 6, 7], [8]])
        >>> rows.take(torch.tensor([1, 0])).padded().tolist()
        [[8, 0, 0], [5, 6, 7]]
    """

    values: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, rows: Iterable[Sequence[int] | Sequence[float] | Tensor], dtype: torch.dtype = torch.int32) -> Ragged:
        """From a sequence of rows."""
        tensors = [torch.as_tensor(row, dtype=dtype) for row in rows]
        lengths = torch.tensor([len(row) for row in tensors], dtype=torch.int64)
        values = torch.cat(tensors) if tensors else torch.zeros(0, dtype=dtype)
        return cls(values, _offsets(lengths))

    @classmethod
    def join(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of several, one after the other."""
        return cls(torch.cat([part.values for part in parts]), _offsets(torch.cat([part.lengths for part in parts])))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: slice) -> Ragged:
        """Neighbouring rows, without a copy of their values."""
        first, last, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("Rows are taken with a step of 1; take() gives any others.")
        offsets = self.offsets[first : max(first, last) + 1]
        return Ragged(self.values[int(offsets[0]) : int(offsets[-1])], offsets - offsets[0])

    def __iter__(self) -> Iterator[Tensor]:
        return (self.row(number) for number in range(len(self)))

    def row(self, number: int) -> Tensor:
        """One row, ``(length,)``."""
        return self.values[int(self.offsets[number]) : int(self.offsets[number + 1])]

    @property
    def lengths(self) -> Tensor:
        """How long each row is, ``(n,)`` int64."""
        return self.offsets.diff()

    def take(self, rows: Tensor) -> Ragged:
        """The rows of these numbers, ``(m,)`` int64, in this order."""
        lengths = self.lengths[rows]
        offsets = _offsets(lengths)
        # Each value's place: its row's old start, plus how far into the row it is.
        places = torch.arange(int(offsets[-1])) + (self.offsets[rows] - offsets[:-1]).repeat_interleave(lengths)
        return Ragged(self.values[places], offsets)

    def padded(self, fill: float = 0, *, width: int | None = None) -> Tensor:
        """As a matrix ``(n, width)`` of the values' dtype, each row followed by ``fill``; what is wider is cut off."""
        lengths = self.lengths
        if width is None:
            width = int(lengths.max()) if len(lengths) else 0
        matrix = self.values.new_full((len(self), width), fill)
        there = torch.arange(width) < lengths.unsqueeze(1)
        longest = int(lengths.max()) if len(lengths) else 0
        if longest <= width:
            matrix[there] = self.values
        else:
            within = torch.arange(len(self.values)) - self.offsets[:-1].repeat_interleave(lengths)
            matrix[there] = self.values[within < width]
        return matrix


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


Column = Tensor | Ragged | list[Any]
"""One named column: a tensor whose first dimension counts rows, ragged rows, or a list of whatever a row holds."""

Columns = Mapping[str, Column]
"""Columns of equal length, by name."""


@dataclass(frozen=True, slots=True)
class Split:
    """One part of a data set: named columns of equal length.

    Example:
        >>> split = Split({"label": torch.tensor([3, 1, 2])})
        >>> len(split), split.take(torch.tensor([2, 0])).columns["label"].tolist()
        (3, [2, 3])
    """

    columns: Columns

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns of a split differ in length: {lengths}.")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def tensor(self, name: str) -> Tensor:
        """A column that must be a tensor by now."""
        column = self.columns[name]
        if not isinstance(column, Tensor):
            raise TypeError(f"The column {name!r} is no tensor; it has not been read yet.")
        return column

    def ragged(self, name: str) -> Ragged:
        """A column that must be ragged by now."""
        column = self.columns[name]
        if not isinstance(column, Ragged):
            raise TypeError(f"The column {name!r} is not ragged; it has not been read yet.")
        return column

    def take(self, rows: Tensor) -> Split:
        """The rows of these numbers, ``(n,)`` int64, in this order."""
        return Split({name: _take(column, rows) for name, column in self.columns.items()})

    def slice(self, first: int, last: int) -> Split:
        """Neighbouring rows; tensors are views."""
        return Split({name: column[first:last] for name, column in self.columns.items()})

    def with_columns(self, **columns: Column) -> Split:
        """A copy with columns added or replaced."""
        return Split({**self.columns, **columns})

    def without(self, *names: str) -> Split:
        """A copy without these columns."""
        return Split({name: column for name, column in self.columns.items() if name not in names})


def _take(column: Column, rows: Tensor) -> Column:
    if isinstance(column, Tensor):
        return column.index_select(0, rows.to(column.device))
    if isinstance(column, Ragged):
        return column.take(rows)
    return [column[row] for row in rows.tolist()]


def joined(parts: Sequence[Split]) -> Split:
    """The rows of several splits of the same columns, one after the other."""
    if not parts:
        return Split({})
    columns: dict[str, Column] = {}
    for name, first in parts[0].columns.items():
        pieces = [part[name] for part in parts]
        if isinstance(first, Tensor):
            columns[name] = torch.cat([piece for piece in pieces if isinstance(piece, Tensor)])
        elif isinstance(first, Ragged):
            columns[name] = Ragged.join([piece for piece in pieces if isinstance(piece, Ragged)])
        else:
            columns[name] = [value for piece in pieces for value in piece]
    return Split(columns)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Named splits, the facts that come with the data, and a hash of the content.

    Attributes:
        name: What the data set is called in run folders and reports.
        splits: ``train``, and ``val`` and ``test`` where they exist.
        info: JSON values that the source states: ``classes``, ``source``, ``licence``, ``mirror`` (whether a mirrored
            picture keeps its meaning), ``notes`` (what was left out or assumed, in sentences).
        hash: SHA-256 over the rows of all splits, as the source gave them.
    """

    name: str
    splits: Mapping[str, Split]
    info: Mapping[str, Any]
    hash: str

    def _repr_html_(self) -> str:
        from flambeau.report.notebook import dataset_html

        return dataset_html(self)
