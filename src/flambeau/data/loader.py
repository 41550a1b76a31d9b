"""Batches: their order as a function of seed and epoch, their assembly, and their way to the device.

A resume needs no state from here: the engine asks for an epoch from a given batch on and gets the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from flambeau.core import Batch, Columns, Draw, Split, Stream, Transform
from flambeau.data.hashing import key, keys

Collate = Callable[[Columns], Batch]

_RESIDENT = 0.25
"""The part of an accelerator's free memory that a split may take up to live there."""


def order(seed: int, epoch: int, n: int) -> Tensor:
    """The order of the rows in an epoch: a permutation ``(n,)`` int64 that depends on the arguments alone.

    Example:
        >>> sorted(order(0, 0, 4).tolist()), order(0, 0, 100).equal(order(0, 1, 100))
        ([0, 1, 2, 3], False)
    """
    return torch.argsort(keys(key(seed, epoch, 0x0D), torch.arange(n)), stable=True)


def stream(
    split: Split,
    collate: Collate,
    *,
    batch_size: int,
    seed: int = 0,
    shuffle: bool = True,
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
        transform: The augmentation; it runs on the device.
        device: Where the batches are wanted.
    """
    device = torch.device(device)
    split = resident(split, device)
    n = len(split)
    left_out = 1 if shuffle and batch_size > 1 and n > 1 and n % batch_size == 1 else 0

    def epoch(number: int, start: int = 0) -> Iterator[Batch]:
        permutation = order(seed, number, n) if shuffle else None
        for first in range(start * batch_size, n - left_out, batch_size):
            batch = _batch(split, collate, permutation, first, min(first + batch_size, n - left_out), device)
            yield batch if transform is None else transform(batch, Draw(seed, number, batch["row"]))

    return Stream(epoch, -(-(n - left_out) // batch_size))


def batches(split: Split, collate: Collate, batch_size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
    """All rows of a split in order, for evaluation, with the rows' numbers as ``row``."""
    yield from stream(split, collate, batch_size=batch_size, shuffle=False, device=device).epoch(0, 0)


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
        part = Split({name: column[first:last] for name, column in split.columns.items()})
    else:
        rows = permutation[first:last]
        part = split.take(rows)
    batch = {**collate(part.columns), "row": rows}
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
