"""One step of training: the last three hops of a batch, from the loss to the changed weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flambeau.core import Batch, Loss, Phase, State
from flambeau.engine.schedule import Schedule
from flambeau.errors import TrainingError

SMALLEST_SCALE = 2.0**-10
"""Below this scale of gradients in float16 nothing can be learnt any more; it begins at 65,536 and is halved."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What :func:`update` follows.

    Attributes:
        schedule: The learning rate's factor at a step.
        accumulate: Micro-batches that a batch is cut into; the gradient is that of the whole batch.
        clip: The largest gradient norm.
        ema: The decay of the averaged weights.
        autocast: The type that a loss computes in where 16 bits are enough; None is float32 throughout.
    """

    schedule: Schedule
    accumulate: int = 1
    clip: float | None = None
    ema: float | None = None
    autocast: torch.dtype | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """What an update was: mean losses by phase (and by named part), and the gradient norm where it was taken.

    A step that was skipped has no norm, and only those losses that are finite.
    """

    losses: Mapping[str, Tensor]
    gradient_norm: Tensor | None


def update(state: State, batch: Batch, rules: Rules, *, measure_gradient: bool = False) -> Update:
    """Does one step of every phase that is due, and counts it.

    The loss is divided when it goes backward, by a count that is known before the forward pass. So the gradient is
    that of the mean loss bit for bit, and stays so when the batch is cut into micro-batches of unequal counts.
    Where memory is too small for a micro-batch, it is cut in two from then on.

    Args:
        state: Is changed in place; its model must be in training mode.
        batch: On the model's device.
        rules: Schedule, accumulation, clipping, averaging.
        measure_gradient: Takes the gradient norm also where nothing is clipped.

    Raises:
        TrainingError: The gradient norm was taken and is not finite (on the CPU, where looking costs nothing); or a
            single row does not fit into memory.
    """
    rate = rules.schedule(state.step) * state.rate
    losses: dict[str, Tensor] = {}
    norm = None
    due = [phase for phase in state.phases if state.step % phase.every == 0]
    for phase in due:
        optimizer = state.optimizers[phase.name]
        if len(state.phases) > 1:
            train_only(state.model, phase)
        optimizer.zero_grad(set_to_none=True)
        losses.update(_backward_in_memory(state, phase, batch, rules))
        if state.scaler is not None:
            state.scaler.unscale_(optimizer)
        if rules.clip is not None or measure_gradient:
            norm = _gradient_norm(state, optimizer, rules.clip)
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", optimizer.defaults["lr"]) * rate
        if state.scaler is None:
            optimizer.step()
        else:
            state.scaler.step(optimizer)
    skipped = state.scaler is not None and bool(due) and _skipped(state, state.scaler)
    if skipped:
        losses, norm = {name: value for name, value in losses.items() if value.isfinite()}, None
    elif state.ema is not None and rules.ema is not None:
        # Early on a long memory would mostly remember the random start, so the memory grows with the run.
        _average(state.ema, state.model, min(rules.ema, (1 + state.step) / (10 + state.step)))
    state.step += 1
    state.batch += 1
    return Update(losses, norm)


def _skipped(state: State, scaler: torch.amp.GradScaler) -> bool:
    """Moves the scale on; says whether gradients overflowed, so that no step was made with them.

    To know it, the processor waits for the device at every step; so do PyTorch's own steps in float16.
    """
    before = scaler.get_scale()
    scaler.update()
    if scaler.get_scale() >= before:
        return False
    state.skipped += 1
    if scaler.get_scale() < SMALLEST_SCALE:
        raise TrainingError(
            f"Gradients overflow float16 however they are scaled ({state.skipped} steps were skipped).",
            remedy="Set train.precision = 'bfloat16' or 'float32', or lower optimizer.lr.",
        )
    return True


def _backward_in_memory(state: State, phase: Phase, batch: Batch, rules: Rules) -> dict[str, Tensor]:
    """The losses of a phase, whose gradients are in the parameters; begins anew in smaller parts when memory ends."""
    while True:
        parts = rules.accumulate * 2**state.halvings
        try:
            return _backward(state, phase, batch, parts, rules.autocast)
        except torch.OutOfMemoryError as error:
            if parts >= rows_of(batch):
                raise TrainingError(
                    f"Memory is too small for a single row of a batch ({str(error).splitlines()[0]}).",
                    remedy="Take a smaller network or smaller examples, or another device.",
                ) from error
        # Here the exception is gone, and with it what its traceback kept in memory.
        state.halvings += 1
        state.optimizers[phase.name].zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _backward(
    state: State, phase: Phase, batch: Batch, accumulate: int, autocast: torch.dtype | None
) -> dict[str, Tensor]:
    parts = [batch] if accumulate == 1 else micro_batches(batch, accumulate)
    count = sum(phase.count(part) for part in parts)
    if not count > 0:
        raise TrainingError(
            f"The batch counts for nothing in phase {phase.name!r}, so its loss has no mean.",
            received=f"a count of {count:g}",
            remedy="Give every class a weight above 0, or use larger batches.",
        )
    losses: dict[str, Tensor] = {}
    for part in parts:
        with _in_precision(part, autocast):
            loss = phase.loss(state.model, part)
        if not loss.additive and len(parts) > 1:
            raise TrainingError(
                f"The loss of phase {phase.name!r} does not add up over micro-batches, so it cannot be accumulated.",
                remedy="Lower train.batch_size: memory is too small for a whole batch."
                if state.halvings
                else "Set train.accumulate = 1.",
            )
        share = loss.total.new_tensor(1 / count)
        share = share if state.scaler is None else state.scaler.scale(share)
        loss.total.backward(gradient=share)  # type: ignore[no-untyped-call]
        for name, value in _named(phase, loss):
            mean = value.detach() / count
            losses[name] = losses[name] + mean if name in losses else mean
    return losses


def _in_precision(batch: Batch, autocast: torch.dtype | None) -> contextlib.AbstractContextManager[None]:
    if autocast is None:
        return contextlib.nullcontext()
    return torch.autocast(next(iter(batch.values())).device.type, autocast)


def _named(phase: Phase, loss: Loss) -> list[tuple[str, Tensor]]:
    return [(phase.name, loss.total), *((f"{phase.name}/{part}", value) for part, value in loss.parts.items())]


def micro_batches(batch: Batch, parts: int) -> list[Batch]:
    """A batch cut along its first dimension into so many parts (fewer when it has fewer rows)."""
    rows = rows_of(batch)
    pieces = {name: tensor.tensor_split(min(parts, rows)) for name, tensor in batch.items()}
    return [dict(zip(pieces, values, strict=True)) for values in zip(*pieces.values(), strict=True)]


def rows_of(batch: Batch) -> int:
    """How many rows a batch has: as many as its shortest tensor."""
    return min(len(tensor) for tensor in batch.values())


def train_only(model: nn.Module, phase: Phase) -> None:
    """Switches gradients on for the parameters of a phase and off for all others."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(phase.trains(name))


def _gradient_norm(state: State, optimizer: torch.optim.Optimizer, clip: float | None) -> Tensor:
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    if state.scaler is None and norm.device.type == "cpu" and not math.isfinite(norm.item()):
        raise TrainingError(
            f"The gradient's norm is {norm.item()} at step {state.step + 1} (epoch {state.epoch + 1}, batch "
            f"{state.batch + 1}).",
            remedy="Lower optimizer.lr, or set train.clip = 1.0; the last checkpoint is intact.",
        )
    return norm


@torch.no_grad()
def _average(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    """Moves the averaged weights towards the current ones; counters and the like are copied."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)
