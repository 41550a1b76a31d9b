from __future__ import annotations

import pytest
import torch

from flambeau.columns import Columns, Split
from flambeau.core import Batch, Draw
from flambeau.data.loader import batches, order, stream


def whole(columns: Columns) -> Batch:
    return {name: column for name, column in columns.items() if isinstance(column, torch.Tensor)}


def rows(n: int) -> Split:
    return Split({"image": torch.arange(n * 4).reshape(n, 1, 2, 2), "label": torch.arange(n) % 3})


@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_order_is_a_permutation_that_depends_on_seed_and_epoch(n: int) -> None:
    assert sorted(order(3, 1, n).tolist()) == list(range(n))
    assert torch.equal(order(3, 1, n), order(3, 1, n))
    if n > 2:
        assert len({tuple(order(seed, epoch, n).tolist()) for seed in range(3) for epoch in range(3)}) == 9


def test_order_is_pinned() -> None:
    # A resume on another machine, or with a later version, must meet the same order.
    assert order(0, 0, 8).tolist() == PINNED_FIRST
    assert order(2**62 + 5, 3, 8).tolist() == PINNED_SECOND


PINNED_FIRST = [7, 5, 0, 2, 1, 4, 3, 6]
PINNED_SECOND = [6, 2, 1, 7, 3, 5, 0, 4]


def test_order_has_no_preference() -> None:
    orders = torch.stack([order(0, epoch, 50) for epoch in range(2000)]).double()
    # The mean of 2,000 uniform ranks of 50 has a standard deviation of 0.32.
    assert (orders.mean(0) - 24.5).abs().max() < 5 * 0.33
    neighbours = ((orders[:, 1:] - orders[:, :-1]) == 1).double().mean()
    assert abs(float(neighbours) - 1 / 50) < 0.003


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("n", "size"), [(10, 3), (12, 4), (11, 5), (5, 8), (1, 4), (7, 1)])
def test_an_epoch_meets_every_row_once(n: int, size: int, shuffle: bool) -> None:
    source = stream(rows(n), whole, batch_size=size, seed=1, shuffle=shuffle)
    found = list(source.epoch(0, 0))
    seen = torch.cat([batch["row"] for batch in found]).tolist()
    left_out = shuffle and n > 1 and size > 1 and n % size == 1
    assert len(found) == source.length and len(seen) == len(set(seen)) == n - left_out
    for batch in found:
        assert torch.equal(batch["image"], rows(n).tensor("image")[batch["row"]])
        assert torch.equal(batch["label"], batch["row"] % 3)
    if not shuffle:
        assert seen == list(range(n))


def test_no_batch_of_one_when_shuffling_and_another_row_is_left_out_each_time() -> None:
    source = stream(rows(9), whole, batch_size=4, shuffle=True)
    left_out = set()
    for epoch in range(40):
        found = list(source.epoch(epoch, 0))
        assert [len(batch["row"]) for batch in found] == [4, 4] and source.length == 2
        left_out |= set(range(9)) - set(torch.cat([batch["row"] for batch in found]).tolist())
    assert left_out == set(range(9))


@pytest.mark.parametrize("start", [0, 1, 3, 4, 5])
def test_an_epoch_goes_on_from_any_batch(start: int) -> None:
    def transform(batch: Batch, draw: Draw) -> Batch:
        assert draw.rows is batch["row"]
        return {**batch, "image": batch["image"] * 100 + draw.seed * 10 + draw.epoch}

    source = stream(rows(23), whole, batch_size=5, seed=4, transform=transform)
    expected = list(source.epoch(2, 0))[start:]
    found = list(source.epoch(2, start))
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_batches_in_order_are_views() -> None:
    split = rows(10)
    found = list(batches(split, whole, 4))
    assert [len(batch["row"]) for batch in found] == [4, 4, 2]
    assert found[1]["image"].data_ptr() == split.tensor("image")[4:].data_ptr()


def test_nothing_touches_the_global_generator() -> None:
    before = torch.get_rng_state()
    list(stream(rows(20), whole, batch_size=3).epoch(0, 0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_an_accelerator_are_those_of_the_cpu() -> None:
    here = list(stream(rows(50), whole, batch_size=7, seed=1).epoch(1, 0))
    there = list(stream(rows(50), whole, batch_size=7, seed=1, device="cuda").epoch(1, 0))
    assert all(value.is_cuda for batch in there for value in batch.values())
    for one, two in zip(here, there, strict=True):
        assert all(torch.equal(one[name], two[name].cpu()) for name in one)
