"""Inputs of several requests in one call of a graph, where their shapes allow it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flambeau.export.portable.asking import Inputs

VALUES = 1 << 24
"""Values that go through a graph at a time, unless a single batch has more."""


def rows_of(batch: Inputs) -> int:
    """How many rows a batch has."""
    return len(next(iter(batch.values())))


def shared_out(answers: Sequence[Any], counts: Sequence[int]) -> list[list[Any]]:
    """The answers of each part, which has so many.

    Example:
        >>> shared_out(["a", "b", "c"], [2, 0, 1])
        [['a', 'b'], [], ['c']]
    """
    ends = list(accumulate(counts))
    return [list(answers[end - count : end]) for end, count in zip(ends, counts, strict=True)]


def grouped(batches: Iterable[Inputs], about: Mapping[str, Any]) -> Iterator[Inputs]:
    """Neighbouring batches that one call can take, joined; rows keep their order.

    Args:
        batches: Inputs by name, rows in front.
        about: What the card says: graphs of one shape (``static``) take batches as they are, and rows of tokens are
            joined in any length where there is a ``padding``.
    """
    waiting: list[Inputs] = []
    for batch in batches:
        if waiting and (about.get("static") or not _fits(waiting, batch, "padding" in about)):
            yield _joined(waiting, about.get("padding", 0))
            waiting = []
        waiting.append(batch)
    if waiting:
        yield _joined(waiting, about.get("padding", 0))


def _fits(waiting: list[Inputs], batch: Inputs, padded: bool) -> bool:
    for name, value in batch.items():
        first = waiting[0][name]
        ragged = padded and value.ndim == 2
        if value.ndim != first.ndim or value.dtype != first.dtype or not (ragged or value.shape[1:] == first.shape[1:]):
            return False
        rows = sum(len(one[name]) for one in waiting) + len(value)
        row = max(one[name][0].size for one in [*waiting, batch])
        if rows * row > VALUES:
            return False
    return True


def _joined(batches: list[Inputs], padding: int) -> Inputs:
    if len(batches) == 1:
        return batches[0]
    return {name: _stacked([batch[name] for batch in batches], padding) for name in batches[0]}


def _stacked(arrays: list[NDArray[Any]], padding: int) -> NDArray[Any]:
    if len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    width = max(array.shape[1] for array in arrays)
    wide = [np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=padding) for array in arrays]
    return np.concatenate(wide)
