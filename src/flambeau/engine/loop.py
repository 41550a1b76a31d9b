"""The one training loop. It knows batches, phases and scores, and nothing of what they are about."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flambeau.core import Metrics, Record, Scores, State, Stream
from flambeau.engine.evaluate import averaged_weights
from flambeau.engine.update import Rules, Update, update
from flambeau.errors import TrainingError

Validate = Callable[[nn.Module], Generator[int, None, Scores]]
"""Scores a model on the validation split; yields after each batch."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What :func:`train` carries out.

    Attributes:
        stream: The training batches.
        epochs: The epoch to stop before, counted from 0 over the whole life of the run.
        rules: How one update is done.
        metrics: Which score selects, and in which direction.
        validate: Scores the model after each epoch; None goes without.
        log_every: Batches between two logged steps; the count starts anew with each epoch.
        log_first: Logs the first batch of each such group instead of the last.
        patience: Validations without improvement after which training stops.
        plateau: After so many validations without improvement, and again after as many more, the learning rate is
            multiplied by the second number.
        careful: Looks at every gradient, to find the batch that spoils one.
    """

    stream: Stream
    epochs: int
    rules: Rules
    metrics: Metrics
    validate: Validate | None = None
    log_every: int = 100
    log_first: bool = False
    patience: int | None = None
    plateau: tuple[int, float] | None = None
    careful: bool = False


def train(state: State, plan: Plan) -> Generator[Record, None, None]:
    """Trains from wherever the state stands to the end of the plan, and tells of every step.

    Whoever iterates may stop at any record: the state is whole between two of them, and training goes on from it as
    if nothing had happened. Observers watch records and state; they change neither.

    Args:
        state: Changed in place.
        plan: What to do.

    Yields:
        A record before each epoch, after each step, after each batch of validation, and after each epoch.

    Raises:
        TrainingError: A loss is not finite.
    """
    while state.epoch < plan.epochs and not out_of_patience(state, plan):
        if state.batch == 0:
            yield Record("epoch-start", state.step, state.epoch, 0)
        state.model.train()
        for batch in plan.stream.epoch(state.epoch, state.batch):
            logged = log_due(state.batch, plan)
            done = update(state, batch, plan.rules, measure_gradient=logged or plan.careful)
            loss = _count(state, done)
            values = _log(state, done, loss) if logged else {}
            yield Record("step", state.step, state.epoch, state.batch, values, loss)
        yield from _end_epoch(state, plan)


def out_of_patience(state: State, plan: Plan) -> bool:
    """Whether validation has not improved for as many epochs as the plan allows."""
    return plan.patience is not None and state.stale >= plan.patience


def log_due(batch: int, plan: Plan) -> bool:
    """Whether the batch of this number, from 0, is logged."""
    return batch % plan.log_every == (0 if plan.log_first else plan.log_every - 1)


def _is_best(state: State, metrics: Metrics, scores: Scores) -> bool:
    """Whether a validation beats all before it. Between equal scores, which small data often has, the loss decides."""
    score, loss = scores[metrics.select], scores.get("loss")
    if score == state.best and loss is not None and state.best_loss is not None:
        return loss < state.best_loss
    return metrics.better(score, state.best)


def _end_epoch(state: State, plan: Plan) -> Generator[Record, None, None]:
    """Validates, notes the best, and moves on to the next epoch."""
    scores: Scores = {}
    if plan.validate is not None:
        with averaged_weights(state):
            validation = plan.validate(state.model)
            while True:
                try:
                    number = next(validation)
                except StopIteration as stop:
                    scores = stop.value
                    break
                yield Record("validate", state.step, state.epoch, number)
    batches = max(1.0, _number(state.meters, "epoch/batches"))
    values = {"train/loss": _number(state.meters, "epoch/loss") / batches}
    values |= {f"val/{name}": score for name, score in scores.items()}
    _require_finite(values["train/loss"], state)
    best = bool(scores) and _is_best(state, plan.metrics, scores)
    if best:
        state.best, state.best_loss = scores[plan.metrics.select], scores.get("loss")
        state.best_step, state.stale = state.step, 0
    elif scores:
        state.stale += 1
        if plan.plateau is not None and state.stale % plan.plateau[0] == 0:
            state.rate *= plan.plateau[1]
    state.scores = scores
    ended, state.epoch, state.batch = state.epoch, state.epoch + 1, 0
    state.meters.clear()
    yield Record("epoch", state.step, ended, plan.stream.length, values, best=best)


def _count(state: State, done: Update) -> float | Tensor | None:
    """Adds the losses of an update to the meters; returns the first phase's loss, when that phase was due."""
    first: float | Tensor | None = None
    for name, mean in done.losses.items():
        value = _value(mean)
        if name == state.phases[0].name:
            first = value
            _add(state, "epoch/loss", value)
            _add(state, "epoch/batches", 1.0)
        _add(state, f"window/{name}", value)
        _add(state, f"batches/{name}", 1.0)
        if isinstance(value, float):
            _require_finite(value, state)
    return first


def _value(mean: Tensor) -> float | Tensor:
    """A number on the CPU; elsewhere a scalar that is not waited for, in the widest type that Metal has too."""
    if mean.device.type == "cpu":
        return mean.item()
    return mean.to(torch.float32 if mean.device.type == "mps" else torch.float64)


def _log(state: State, done: Update, loss: float | Tensor | None) -> dict[str, float]:
    """The values of a logged step: this batch's loss, the means since the last one, the rate, the gradient norm."""
    names = [name.removeprefix("window/") for name in state.meters if name.startswith("window/")]
    means = {name: _number(state.meters, f"window/{name}") / _number(state.meters, f"batches/{name}") for name in names}
    for mean in means.values():
        _require_finite(mean, state)
    first = state.phases[0].name
    group = state.optimizers[first].param_groups[0]
    values = {} if loss is None else {"loss": float(loss)}
    values |= {"mean_loss": means.pop(first)} if first in means else {}
    values["lr"] = float(group["lr"])
    if done.gradient_norm is not None:
        values["gradient_norm"] = float(done.gradient_norm)
    for name in names:
        del state.meters[f"window/{name}"], state.meters[f"batches/{name}"]
    return values | means


def _add(state: State, name: str, value: float | Tensor) -> None:
    state.meters[name] = state.meters.get(name, 0.0) + value


def _number(meters: dict[str, float | Tensor], name: str) -> float:
    return float(meters.get(name, 0.0))


def _require_finite(loss: float, state: State) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"The loss is {loss} at step {state.step} (epoch {state.epoch + 1}, batch {state.batch}).",
            remedy="Lower optimizer.lr, or set train.clip = 1.0; the last checkpoint is intact.",
        )
