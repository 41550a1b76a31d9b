"""Batches: their order as a function of seed and epoch, their assembly, and their way to the device.

A resume needs no state from here: the engine asks for an epoch from a given batch on and gets the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from flambeau.columns import Columns, Split
from flambeau.core import Batch, Draw, Stream, Transform
from flambeau.data.hashing import key, keys

Collate = Callable[[Columns], Batch]

_POOL = 50
"""About so many batches are sorted by length together: more would save hardly any padding, and mix the rows less."""

_RESIDENT = 0.25
"""The part of an accelerator's free memory that a split may take up to live there."""


def order(seed: int, epoch: int, n: int) -> Tensor:
    """The order of the rows in an epoch: a permutation ``(n,)`` int64 that depends on the arguments alone.

    Example:
        >>> sorted(order(0, 0, 4).tolist()), order(0, 0, 100).equal(order(0, 1, 100))
        ([0, 1, 2, 3], False)
    """
    return torch.argsort(keys(key(seed, epoch, 0x0D), torch.arange(n)), stable=True)


def bucketed(seed: int, epoch: int, lengths: Tensor, batch_size: int) -> Tensor:
    """As :func:`order`, but with rows of like length beside each other, so that batches need little padding.

    The shuffled rows are cut into pools of many batches, each pool is sorted by length and cut into batches, and these
    are shuffled; a batch that is not full comes last.

    Args:
        seed: The run's.
        epoch: From 0.
        lengths: Of each row, ``(n,)`` int64.
        batch_size: Rows a batch.
    """
    rows = order(seed, epoch, len(lengths))
    # What is left over for the last batch is any rows, not the longest: in another epoch it is others.
    last = len(rows) // batch_size * batch_size
    full, rest = rows[:last], rows[last:]
    # Pools of equal size: a small last one would be all padding.
    batches = len(full) // batch_size
    pools = max(1, round(batches / _POOL))
    pool = torch.arange(len(full)) // (-(-batches // pools) * batch_size)
    longest = int(lengths.max()) + 1 if len(lengths) else 1
    full = full[torch.argsort(pool * longest + lengths[full], stable=True)].view(-1, batch_size)
    places = torch.argsort(keys(key(seed, epoch, 0x0B), torch.arange(len(full))), stable=True)
    return torch.cat([full[places].flatten(), rest])


def stream(
    split: Split,
    collate: Collate,
    *,
    batch_size: int,
    seed: int = 0,
    shuffle: bool = True,
    lengths: Tensor | None = None,
    transform: Transform | None = None,
    device: torch.device | str = "cpu",
) -> Stream:
    """The training batches of a split, on a device, augmented.

    Each batch has the rows' numbers beside its columns, as ``row`` ``(n,)`` int64. When shuffling, a last batch of one
    single row is left out (another row in every epoch): batch normalisation cannot take it.

    Args:
        split: Columns as the task reads them.
        collate: The task's.
        batch_size: Rows a batch; the last one may have fewer.
        seed: Of order and augmentation.
        shuffle: Otherwise the rows come as they are, and batches are views of them.
        lengths: Of each row, ``(n,)`` int64: rows of like length come together, also when the order is not shuffled.
        transform: The augmentation; it runs on the device.
        device: Where the batches are wanted.
    """
    device = torch.device(device)
    split = resident(split, device)
    n = len(split)
    by_length = None if lengths is None else torch.argsort(lengths, stable=True)
    left_out = 1 if shuffle and batch_size > 1 and n > 1 and n % batch_size == 1 else 0

    def epoch(number: int, start: int = 0) -> Iterator[Batch]:
        if lengths is None:
            permutation = order(seed, number, n) if shuffle else None
        else:
            permutation = bucketed(seed, number, lengths, batch_size) if shuffle else by_length
        for first in range(start * batch_size, n - left_out, batch_size):
            batch = _batch(split, collate, permutation, first, min(first + batch_size, n - left_out), device)
            yield batch if transform is None else transform(batch, Draw(seed, number, batch["row"]))

    return Stream(epoch, -(-(n - left_out) // batch_size))


def batches(
    split: Split,
    collate: Collate,
    batch_size: int,
    device: torch.device | str = "cpu",
    *,
    lengths: Tensor | None = None,
) -> Iterator[Batch]:
    """All rows of a split for evaluation, with their numbers as ``row``: in order, or by length where it is given."""
    made = stream(split, collate, batch_size=batch_size, shuffle=False, lengths=lengths, device=device)
    yield from made.epoch(0, 0)


def resident(split: Split, device: torch.device) -> Split:
    """The split with its tensors on the accelerator, where they take up little of its memory; else as it is."""
    if device.type != "cuda":
        return split
    tensors = {name: column for name, column in split.columns.items() if isinstance(column, Tensor)}
    free, _ = torch.cuda.mem_get_info(device)
    if sum(column.nbytes for column in tensors.values() if column.device != device) > _RESIDENT * free:
        return split
    return split.with_columns(**{name: column.to(device) for name, column in tensors.items()})


def _batch(
    split: Split, collate: Collate, permutation: Tensor | None, first: int, last: int, device: torch.device
) -> Batch:
    if permutation is None:
        rows = torch.arange(first, last)
        part = split.slice(first, last)
    else:
        rows = permutation[first:last]
        part = split.take(rows)
    batch = {**collate(part.columns), "row": rows}
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
