"""The loop: what it tells and when, where it may be left, when it stops."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest
import torch
from engine_toys import (
    PLAIN,
    accuracy,
    batch,
    classification,
    equal,
    network,
    predict,
    state_of,
    stream,
    weights_of,
)
from torch import nn

from flambeau.core import Phase, Record, Scores, State
from flambeau.engine.evaluate import evaluating
from flambeau.engine.loop import Plan, train
from flambeau.engine.schedule import cosine
from flambeau.engine.update import Rules
from flambeau.errors import TrainingError

BATCHES = [batch(6, seed=number) for number in range(10)]


def plan(**changes: Any) -> Plan:
    def validate(model: nn.Module) -> Generator[int, None, Scores]:
        evaluation = yield from evaluating(model, BATCHES[:3], predict, accuracy())
        return evaluation.scores

    return replace(Plan(stream(BATCHES), 2, PLAIN, accuracy(), validate, log_every=4), **changes)


def scripted(scores: list[float], losses: list[float] | None = None) -> Any:
    """A validation whose scores are given in advance."""
    left = iter([{"accuracy": score} for score in scores])
    if losses is not None:
        left = iter([{"accuracy": score, "loss": loss} for score, loss in zip(scores, losses, strict=True)])

    def validate(model: nn.Module) -> Generator[int, None, Scores]:
        yield 1
        return next(left)

    return validate


def test_the_records_come_in_order() -> None:
    state = state_of(network(), classification())
    told = [(record.kind, record.step, record.epoch, record.batch) for record in train(state, plan())]
    one = [
        ("epoch-start", 0, 0, 0),
        *(("step", n, 0, n) for n in range(1, 11)),
        *(("validate", 10, 0, n) for n in (1, 2, 3)),
    ]
    assert told[: len(one) + 1] == [*one, ("epoch", 10, 0, 10)]
    assert told[-1] == ("epoch", 20, 1, 10)
    assert (state.step, state.epoch, state.batch, state.meters) == (20, 2, 0, {})


@pytest.mark.parametrize(
    ("first", "logged"), [(False, [4, 8]), (True, [1, 5, 9])], ids=["the last of a window", "the first of a window"]
)
def test_windows_of_logged_losses(first: bool, logged: list[int]) -> None:
    state = state_of(network(), classification())
    steps = [record for record in train(state, plan(log_first=first)) if record.kind == "step"]
    losses = [float(record.loss or 0) for record in steps]
    assert [record.batch for record in steps if record.values] == logged * 2
    for previous, now in zip([0, *logged], logged, strict=False):
        values = steps[now - 1].values
        assert values["loss"] == losses[now - 1]
        assert values["mean_loss"] == pytest.approx(sum(losses[previous:now]) / (now - previous))
        assert values["gradient_norm"] > 0 and values["lr"] == 0.1


def test_the_epoch_tells_the_mean_of_its_batches() -> None:
    state = state_of(network(), classification())
    records = list(train(state, plan(epochs=1)))
    losses = [float(record.loss or 0) for record in records if record.kind == "step"]
    assert records[-1].values["train/loss"] == pytest.approx(sum(losses) / 10)
    assert records[-1].values["val/accuracy"] == state.best


def copied(state: State) -> dict[str, Any]:
    weights = weights_of(state.model)
    return {**weights, "step": torch.tensor(state.step), "epoch": torch.tensor(state.epoch)}


@pytest.mark.parametrize("stop", [1, 4, 11, 12, 13, 15, 16, 22])
def test_the_loop_may_be_left_at_any_record_and_taken_up_again(stop: int) -> None:
    rules = Rules(cosine(20), ema=0.9, clip=1.0)
    through = state_of(network(dropout=0.3), classification(), ema=True)
    torch.manual_seed(5)
    told = [(r.kind, r.step, dict(r.values)) for r in train(through, plan(rules=rules))]
    left = state_of(network(dropout=0.3), classification(), ema=True)
    torch.manual_seed(5)
    heard = []
    loop = train(left, plan(rules=rules))
    for number, record in enumerate(loop, start=1):
        heard.append((record.kind, record.step, dict(record.values)))
        if number == stop:
            loop.close()
    heard += [(record.kind, record.step, dict(record.values)) for record in train(left, plan(rules=rules))]
    assert equal(copied(left), copied(through))
    assert [item for item in heard if item[2]] == [item for item in told if item[2]]


def test_leaving_during_a_validation_gives_the_model_its_own_weights_back() -> None:
    state = state_of(network(), classification(), ema=True)
    own: dict[str, torch.Tensor] = {}
    loop = train(state, plan(rules=replace(PLAIN, ema=0.99)))
    for record in loop:
        if record.kind == "step":
            own = weights_of(state.model)
        if record.kind == "validate":
            assert state.ema is not None and equal(weights_of(state.model), state.ema)
            loop.close()
    assert equal(weights_of(state.model), own)


def test_patience_runs_out_after_so_many_validations_without_improvement() -> None:
    state = state_of(network(), classification())
    scores = [0.5, 0.6, 0.6, 0.4, 0.9]
    epochs = [r for r in train(state, plan(epochs=9, validate=scripted(scores), patience=2)) if r.kind == "epoch"]
    assert [record.best for record in epochs] == [True, True, False, False]
    assert (state.best, state.best_step, state.stale) == (0.6, 20, 2)
    assert not list(train(state, plan(epochs=9, validate=scripted([1.0]), patience=2)))


def test_between_equal_scores_the_loss_decides() -> None:
    state = state_of(network(), classification())
    validate = scripted([1.0, 1.0, 1.0, 1.0, 0.9], [0.5, 0.3, 0.4, math.nan, 0.1])
    epochs = [r for r in train(state, plan(epochs=5, validate=validate)) if r.kind == "epoch"]
    assert [record.best for record in epochs] == [True, True, False, False, False]
    assert (state.best, state.best_loss, state.best_step, state.stale) == (1.0, 0.3, 20, 3)


def test_a_plateau_lowers_the_rate_as_that_of_torch_does() -> None:
    scores = [0.5, 0.6, 0.6, 0.4, 0.5, 0.5, 0.5, 0.7, 0.6, 0.6]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=1, threshold=0.0)
    wanted = []
    for score in scores:
        theirs.step(score)
        wanted.append(optimizer.param_groups[0]["lr"])
    state, found = state_of(network(), classification(lr=0.4)), []
    for record in train(state, plan(epochs=10, validate=scripted(scores), plateau=(2, 0.5))):
        if record.kind == "epoch":
            found.append(state.rate)
        if record.kind == "step":
            assert state.optimizers["loss"].param_groups[0]["lr"] == 0.4 * state.rate
    assert found == wanted == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.125]


def test_a_score_that_is_not_a_number_is_never_the_best() -> None:
    state = state_of(network(), classification())
    list(train(state, plan(epochs=3, validate=scripted([math.nan, 0.3, math.nan]))))
    assert (state.best, state.best_step) == (0.3, 20)


def test_without_validation_there_is_no_best() -> None:
    state = state_of(network(), classification())
    records = list(train(state, plan(validate=None)))
    assert (state.best, state.best_step) == (None, None)
    assert not [record for record in records if record.kind == "validate" or record.best]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", [0, 5, 9])
def test_a_loss_that_is_not_finite_stops_training(bad: float, where: int) -> None:
    batches = [dict(part) for part in BATCHES]
    batches[where] = {**batches[where], "x": torch.full((6, 5), bad)}
    state = state_of(network(), classification())
    records: list[Record] = []
    with pytest.raises(TrainingError, match=rf"The loss is nan at step {where + 1} \(epoch 1, batch {where + 1}\)"):
        records.extend(train(state, plan(stream=stream(batches), log_every=100)))
    careful = state_of(network(), classification())
    with pytest.raises(TrainingError, match="gradient"):
        list(train(careful, plan(stream=stream(batches), careful=True)))
    assert careful.step == where
    assert all(torch.isfinite(value).all() for value in careful.model.state_dict().values())


def test_a_phase_that_rests_does_not_lend_its_name_to_another() -> None:
    first, second = classification(), replace(classification(), name="second")
    seldom: Phase = replace(first, every=3)
    state = state_of(network(), seldom, second)
    steps = [record for record in train(state, plan(epochs=1, log_every=5)) if record.kind == "step"]
    assert [record.step for record in steps if record.loss is not None] == [1, 4, 7, 10]
    due = [float(record.loss or 0) for record in steps if record.loss is not None]
    assert steps[4].values["mean_loss"] == pytest.approx(sum(due[:2]) / 2)
    assert "loss" not in steps[4].values and "second" in steps[4].values


def test_all_phases_may_rest_at_once() -> None:
    state = state_of(network(), replace(classification(), every=4))
    records = list(train(state, plan(epochs=1, log_every=2)))
    assert records[-1].kind == "epoch" and math.isfinite(records[-1].values["train/loss"])
