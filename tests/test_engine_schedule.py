"""Schedules: functions of the step alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flambeau.engine.schedule import SCHEDULES, constant, cosine, in_segments, one_cycle, scaled, step_down
from flambeau.recipe import parse
from flambeau.workflow.segments import TAIL, Segment, appended, first, schedule_of


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 2000), st.integers(0, 300), st.integers(0, 3000))
def test_a_factor_is_never_negative_and_never_above_one(name: str, steps: int, warmup: int, step: int) -> None:
    assert 0 <= SCHEDULES[name](steps, warmup)(step) <= 1


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_the_first_step_moves_and_warming_up_rises_in_equal_steps(name: str) -> None:
    rate = SCHEDULES[name](100, 9)
    assert rate(0) > 0
    assert [rate(step) for step in range(9)] == pytest.approx([(step + 1) / 10 for step in range(9)])
    assert rate(9) == 1.0


def test_a_constant_rate_is_constant() -> None:
    assert {constant(10)(step) for step in range(10)} == {1.0}


def test_cosine_is_that_of_torch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    ours = cosine(50)
    for step in range(50):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-6)
        optimizer.step()
        theirs.step()


def test_one_cycle_has_the_shape_of_torch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=100, pct_start=0.3)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = [one_cycle(100)(step) for step in range(100)]
    peak = max(range(100), key=ours.__getitem__)
    assert abs(peak - max(range(100), key=rates.__getitem__)) <= 1
    assert ours[:peak] == sorted(ours[:peak]) and ours[peak:] == sorted(ours[peak:], reverse=True)
    assert max(abs(a - b) for a, b in zip(ours[31:], rates[31:], strict=True)) < 0.03
    assert ours[-1] < 0.01


@pytest.mark.parametrize("every", [1, 7, 30])
def test_going_down_in_steps_is_that_of_torch(every: int) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, step_size=every, gamma=0.3)
    ours = step_down(60, every=every, factor=0.3)
    for step in range(60):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(("every", "epochs"), [(2, 4), (2.5, 3), (10, 3), (0.5, 2)])
def test_after_going_down_in_steps_a_run_goes_on_where_it_is(every: float, epochs: int) -> None:
    recipe = parse({"schedule": {"name": "step", "every": every, "factor": 0.5}, "train": {"epochs": epochs}})
    rate = schedule_of([first(recipe), appended(recipe, epochs, 2)], 10)
    last = rate(10 * epochs - 1)
    assert last == 0.5 ** ((10 * epochs - 1) // (10 * every))
    assert [rate(step) for step in range(10 * epochs, 10 * epochs + 20)] == [last] * 20
    second = appended(recipe, epochs, 20, first(recipe))
    assert appended(recipe, epochs + 20, 5, second).factor == second.factor == last, "Nor does it move the next time."


def test_segments_count_their_own_steps() -> None:
    rate = in_segments([(10, cosine(10)), (5, constant(5)), (20, scaled(cosine(20), 0.1))])
    assert [rate(step) for step in (0, 5, 10, 14)] == [1.0, pytest.approx(0.5), 1.0, 1.0]
    assert rate(15) == pytest.approx(0.1) and rate(25) == pytest.approx(0.05)


def test_an_appended_segment_states_its_schedule() -> None:
    recipe = parse({"schedule": {"name": "one-cycle"}, "train": {"epochs": 3}})
    added = appended(recipe, 3, 2)
    assert added == Segment(3, 2, "cosine", 0.0, TAIL)
    assert str(added) == "epochs 4 to 5, cosine schedule, starting at 0.1 times the recipe's learning rate"
    rate = schedule_of([first(recipe), added], 10)
    assert rate(29) < 0.01 and rate(30) == pytest.approx(0.1) and rate(49) < 0.01
    steady = parse({"schedule": {"name": "constant"}})
    assert appended(steady, 10, 1) == Segment(10, 1, "constant", 0.0)


def test_a_first_segment_that_stopped_early_gives_way_where_it_stopped() -> None:
    early = [Segment(0, 10, "cosine", 0.0), Segment(4, 2, "constant", 0.0)]
    rate = schedule_of(early, 5)
    assert rate(19) == pytest.approx(0.5 * (1 + math.cos(math.pi * 19 / 50)))
    assert rate(20) == 1.0
