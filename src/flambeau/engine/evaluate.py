"""Measuring: a model's outputs and scores over a split, without touching what training depends on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator

import torch
from torch import Tensor, nn

from flambeau.core import Batch, Evaluation, Metrics, State, device_of
from flambeau.engine.compiling import as_written

Predict = Callable[[nn.Module, Batch], dict[str, Tensor]]


def evaluating(
    model: nn.Module, batches: Iterable[Batch], predict: Predict, metrics: Metrics, keep: Collection[str] = ()
) -> Generator[int, None, Evaluation]:
    """Evaluates step by step: yields the number of batches done, returns the :class:`Evaluation`."""
    sums = metrics.start(device_of(model))
    wanted = {*keep, "row"}
    kept: dict[str, list[Tensor]] = {}
    with evaluation_mode(model):
        for number, batch in enumerate(batches, start=1):
            with torch.inference_mode():
                outputs = predict(model, batch)
                metrics.add(sums, outputs, batch)
            for name, tensor in (dict(batch) | outputs).items():
                if name in wanted:
                    kept.setdefault(name, []).append(tensor.cpu())
            yield number
    on_cpu = {name: value.cpu() for name, value in sums.items()}
    return Evaluation(metrics.result(on_cpu), on_cpu, _in_order({name: _joined(parts) for name, parts in kept.items()}))


def _joined(parts: list[Tensor]) -> Tensor:
    """One tensor of the batches' rows; where their widths differ, zeros fill the narrower ones on the right."""
    if parts[0].dim() > 1 and len({part.shape[1] for part in parts}) > 1:
        width = max(part.shape[1] for part in parts)
        missing = [[0, 0] * (part.dim() - 2) + [0, width - part.shape[1]] for part in parts]
        parts = [torch.nn.functional.pad(part, pad) for part, pad in zip(parts, missing, strict=True)]
    return torch.cat(parts)


def _in_order(kept: dict[str, Tensor]) -> dict[str, Tensor]:
    """The kept outputs in the order of the rows' numbers, whatever order the batches came in."""
    row = kept.pop("row", None)
    if row is None or bool((row.diff() > 0).all()):
        return kept
    order = torch.argsort(row)
    return {name: tensor[order] for name, tensor in kept.items()}


def evaluate(
    model: nn.Module, batches: Iterable[Batch], predict: Predict, metrics: Metrics, keep: Collection[str] = ()
) -> Evaluation:
    """Scores a model over batches.

    Args:
        model: Is put into evaluation mode for the pass, and back.
        batches: On the model's device.
        predict: The task's.
        metrics: The task's.
        keep: Names of outputs (or of the batch's tensors) to keep for every row.
    """
    steps = evaluating(model, batches, predict, metrics, keep)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            evaluation: Evaluation = stop.value
            return evaluation


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the ``with`` block; afterwards every module is in the mode it was in.

    A compiled network runs as it is written, so that it scores here as it will when it is loaded from its file.
    """
    # Told to modules one by one it takes as long as a small network's pass, so a served model is only looked at.
    modes = [(module, module.training) for module in model.modules()]
    changes = any(training for _, training in modes)
    if changes:
        model.eval()
    try:
        with as_written(model):
            yield
    finally:
        if changes:
            for module, training in modes:
                module.training = training


@contextlib.contextmanager
def averaged_weights(state: State) -> Iterator[None]:
    """The averaged weights in the model inside the ``with`` block, when the state has any."""
    if state.ema is None:
        yield
        return
    current = {name: value.clone() for name, value in state.model.state_dict().items()}
    state.model.load_state_dict(state.ema)
    try:
        yield
    finally:
        state.model.load_state_dict(current)
