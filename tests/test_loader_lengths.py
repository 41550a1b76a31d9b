"""Batches of rows of like length: the order, what padding it saves, and that it goes on from any batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flambeau.columns import Columns, Ragged, Split
from flambeau.core import Batch, Draw
from flambeau.data.loader import batches, bucketed, order, stream


def some_lengths(n: int, seed: int = 0, most: int = 60) -> Tensor:
    """Lengths as those of sentences: many short ones, a few long ones."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, generator=generator) ** 2 * most).long() + 1


def texts(lengths: Tensor) -> Split:
    """Rows of these lengths, each filled with its own number plus one."""
    number = torch.arange(1, len(lengths) + 1, dtype=torch.int32)
    values = number.repeat_interleave(lengths)
    return Split({"tokens": Ragged(values, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))})


def collate(columns: Columns) -> Batch:
    tokens = columns["tokens"]
    assert isinstance(tokens, Ragged)
    return {"tokens": tokens.padded()}


def padding(found: list[Batch]) -> float:
    """The part of all places that hold padding."""
    return 1 - sum(int((b["tokens"] > 0).sum()) for b in found) / sum(b["tokens"].numel() for b in found)


@given(st.integers(0, 2**62), st.integers(0, 50), st.integers(0, 300), st.integers(1, 40), st.integers(1, 50))
def test_a_bucketed_order_meets_every_row_once(seed: int, epoch: int, n: int, size: int, most: int) -> None:
    lengths = some_lengths(n, most=most)
    found = bucketed(seed, epoch, lengths, size)
    assert found.dtype == torch.int64 and sorted(found.tolist()) == list(range(n))
    assert torch.equal(found, bucketed(seed, epoch, lengths, size))


def test_the_order_is_another_in_every_epoch_and_for_every_seed() -> None:
    lengths = some_lengths(500)
    assert len({tuple(bucketed(s, e, lengths, 8).tolist()) for s in range(3) for e in range(3)}) == 9


def test_the_order_is_pinned() -> None:
    # A resume on another machine, or with a later version, must meet the same order.
    assert bucketed(1, 2, torch.tensor([5, 1, 4, 1, 3, 2, 9]), 2).tolist() == PINNED


PINNED = [5, 2, 0, 6, 1, 3, 4]


def test_rows_of_like_length_come_together_and_batches_in_any_order() -> None:
    lengths, size = some_lengths(4000), 16
    rows = bucketed(0, 0, lengths, size)
    by_batch = lengths[rows].view(-1, size)
    plain = lengths[order(0, 0, 4000)].view(-1, size)
    spread = (by_batch.amax(1) - by_batch.amin(1)).double().mean()
    assert spread < 0.1 * (plain.amax(1) - plain.amin(1)).double().mean()
    means = by_batch.double().mean(1)
    rising = (means.diff() > 0).double().mean()
    assert 0.35 < rising < 0.65, "Short batches come before long ones, or the other way."


def test_which_rows_share_a_batch_changes() -> None:
    lengths, size = torch.full((800,), 7), 8
    pairs = [
        {frozenset(batch) for batch in bucketed(0, epoch, lengths, size).view(-1, size).tolist()} for epoch in (0, 1)
    ]
    assert not pairs[0] & pairs[1]


def test_the_last_batch_is_the_one_that_is_not_full() -> None:
    lengths = some_lengths(203)
    found = list(stream(texts(lengths), collate, batch_size=8, seed=3, lengths=lengths).epoch(0, 0))
    assert [len(batch["row"]) for batch in found] == [8] * 25 + [3]


def test_a_batch_of_one_row_is_left_out_as_without_lengths() -> None:
    lengths = some_lengths(33)
    source = stream(texts(lengths), collate, batch_size=8, lengths=lengths)
    left_out = set()
    for epoch in range(30):
        found = list(source.epoch(epoch, 0))
        assert [len(batch["row"]) for batch in found] == [8] * 4 and source.length == 4
        left_out |= set(range(33)) - set(torch.cat([batch["row"] for batch in found]).tolist())
    assert len(left_out) > 1, "It is the same row in every epoch."


@pytest.mark.parametrize("start", [0, 1, 7, 24, 25, 26])
def test_an_epoch_goes_on_from_any_batch(start: int) -> None:
    def transform(batch: Batch, draw: Draw) -> Batch:
        return {**batch, "tokens": batch["tokens"] * 10 + draw.epoch}

    lengths = some_lengths(203)
    source = stream(texts(lengths), collate, batch_size=8, seed=3, lengths=lengths, transform=transform)
    whole, rest = list(source.epoch(2, 0)), list(source.epoch(2, start))
    assert len(rest) == max(0, len(whole) - start)
    for one, other in zip(whole[start:], rest, strict=True):
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_batch_holds_its_rows() -> None:
    lengths = some_lengths(100)
    for batch in stream(texts(lengths), collate, batch_size=7, lengths=lengths).epoch(0, 0):
        assert torch.equal((batch["tokens"] > 0).sum(1), lengths[batch["row"]])
        assert torch.equal(batch["tokens"][:, 0], batch["row"].int() + 1)


def test_buckets_save_most_of_the_padding() -> None:
    lengths = some_lengths(5000)
    split = texts(lengths)
    plain = padding(list(stream(split, collate, batch_size=32).epoch(0, 0)))
    saved = padding(list(stream(split, collate, batch_size=32, lengths=lengths).epoch(0, 0)))
    assert plain > 0.5 and saved < 0.05


def test_an_evaluation_goes_by_length_too() -> None:
    lengths = some_lengths(300)
    found = list(batches(texts(lengths), collate, 32, lengths=lengths))
    met = torch.cat([batch["row"] for batch in found])
    assert sorted(met.tolist()) == list(range(300)) and bool((lengths[met].diff() >= 0).all())
    assert padding(found) < 0.2 < padding(list(batches(texts(lengths), collate, 32)))
    in_order = torch.cat([batch["row"] for batch in batches(texts(lengths), collate, 32)])
    assert torch.equal(in_order, torch.arange(300))


def test_equal_lengths_keep_their_order_in_an_evaluation() -> None:
    lengths = torch.full((20,), 3)
    met = torch.cat([batch["row"] for batch in batches(texts(lengths), collate, 6, lengths=lengths)])
    assert torch.equal(met, torch.arange(20))


def test_no_rows_at_all() -> None:
    assert list(batches(texts(torch.zeros(0, dtype=torch.int64)), collate, 4)) == []
    assert bucketed(0, 0, torch.zeros(0, dtype=torch.int64), 4).tolist() == []
