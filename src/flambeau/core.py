"""The nouns of training: batches, losses, phases, metrics, state, records.

A batch makes eight hops: source → read → collate → transform → ``train()`` → ``update()`` → ``phase.loss`` → backward,
clip, step. The first four belong to a :class:`~flambeau.task.Task`, the rest to the engine; nothing here knows what a
picture is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
"""What a network is trained on: tensors by name, each with the batch dimension first."""

Facts = dict[str, Any]
"""What a task learnt from its training split, as JSON values (class names, sizes, channel statistics)."""

Builder = Callable[..., nn.Module]
"""Makes a network: called with the facts, and with the recipe's arguments by name."""

Scores = dict[str, float]
"""Numbers by name, such as ``accuracy`` (a fraction) and ``loss``."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What one batch costs.

    Attributes:
        total: A scalar, summed over what ``Phase.count`` counts; the engine divides it when it goes backward.
        parts: Named scalars to log beside it, summed in the same way.
        additive: False for a loss whose sum over micro-batches is not the loss of the batch; gradient accumulation
            is refused for it.
    """

    total: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    additive: bool = True


@dataclass(frozen=True, slots=True)
class Phase:
    """One objective and the parameters that it trains. A GAN has two phases, nearly everything else has one.

    Attributes:
        name: As it appears in logs and checkpoints.
        loss: The loss of a batch, summed.
        count: What that sum is divided by, known before the forward pass: the number of examples, tokens, or the
            sum of their weights.
        optimizer: Makes the optimiser for a list of named parameters.
        trains: Whether the parameter of this name belongs to the phase.
        every: The phase is updated at every so many steps.
    """

    name: str
    loss: Callable[[nn.Module, Batch], Loss]
    count: Callable[[Batch], float]
    optimizer: Callable[[Sequence[tuple[str, nn.Parameter]]], torch.optim.Optimizer]
    trains: Callable[[str], bool] = lambda name: True
    every: int = 1


@dataclass(frozen=True, slots=True)
class Metrics:
    """How predictions are scored: sums that add up over batches, and what follows from them.

    Attributes:
        start: Empty sums, on a device.
        add: Adds the outputs of ``Task.predict`` for one batch to the sums, in place.
        result: Scores from the sums.
        select: The score by which one state of the model is preferred over another.
        mode: Whether more or less of that score is better.
        columns: The scores to show while training goes on, each with the format of its number.
    """

    start: Callable[[torch.device], dict[str, Tensor]]
    add: Callable[[dict[str, Tensor], Batch, Batch], None]
    result: Callable[[Mapping[str, Tensor]], Scores]
    select: str
    mode: Literal["max", "min"]
    columns: tuple[tuple[str, str], ...] = (("loss", ".4f"),)

    def better(self, score: float, than: float | None) -> bool:
        """Whether a score improves on an earlier one (on none: always, unless it is not a number)."""
        if than is None:
            return score == score
        return score > than if self.mode == "max" else score < than


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a pass over a split gave.

    Attributes:
        scores: By the metric's name.
        sums: The sums behind them, such as a confusion matrix, on the CPU.
        outputs: The kept outputs of all rows, by name, on the CPU.
    """

    scores: Scores
    sums: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Draw:
    """The coordinates of one batch's randomness: augmentation is a function of these and of nothing else.

    Attributes:
        seed: The run's seed.
        epoch: From 0.
        rows: The row numbers of the batch in its split, ``(n,)`` int64.
    """

    seed: int
    epoch: int
    rows: Tensor


Transform = Callable[[Batch, Draw], Batch]
"""A training-time augmentation of a whole batch."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Batches as the engine takes them.

    Attributes:
        epoch: Yields the batches of one epoch from the batch of a given number on.
        length: Batches in an epoch.
    """

    epoch: Callable[[int, int], Iterable[Batch]]
    length: int


@dataclass(slots=True)
class State:
    """Everything that can affect weights or stopping. What is in it resumes; nothing else matters to a resume.

    Attributes:
        model: The network being trained.
        phases: What is optimised, in order.
        optimizers: One for each phase, by its name.
        ema: The averaged weights by name, when the recipe asks for them.
        step: Updates done.
        epoch: The epoch that the next update belongs to, from 0.
        batch: The batch within it that comes next.
        meters: Sums that logged means are made of: numbers on the CPU, scalars on the device elsewhere, so that
            only logging waits for the device.
        best: The best selection score so far.
        best_loss: The validation loss that came with it, which decides between equal scores.
        best_step: The step it was reached at.
        stale: Validations since then.
        rate: What the schedule is multiplied by: 1, and less after plateaus.
        scores: The scores of the last validation.
        scaler: What keeps gradients from vanishing in float16; None in other precisions.
        skipped: Updates that were not made, for gradients overflowed float16.
        halvings: How often memory was too small for a micro-batch, so that it was cut in two.
    """

    model: nn.Module
    phases: tuple[Phase, ...]
    optimizers: dict[str, torch.optim.Optimizer]
    ema: dict[str, Tensor] | None = None
    step: int = 0
    epoch: int = 0
    batch: int = 0
    meters: dict[str, float | Tensor] = field(default_factory=dict)
    best: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    stale: int = 0
    rate: float = 1.0
    scores: Scores = field(default_factory=dict)
    scaler: torch.amp.GradScaler | None = None
    skipped: int = 0
    halvings: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """What one step or one validation tells the outside, valid until the next one.

    Attributes:
        kind: ``epoch-start`` before the first update of an epoch, ``step`` after an update, ``validate`` after each
            batch of validation, ``epoch`` after that.
        step: Updates done.
        epoch: The epoch it belongs to, from 0.
        batch: Batches done within the epoch.
        values: What ``metrics.jsonl`` gets, or nothing when this record is not logged.
        loss: The mean loss of the batch, of the first phase: a number on the CPU, a detached scalar elsewhere.
        best: Whether this validation is the best so far.
    """

    kind: Literal["epoch-start", "step", "validate", "epoch"]
    step: int
    epoch: int
    batch: int
    values: Mapping[str, float] = field(default_factory=dict)
    loss: float | Tensor | None = None
    best: bool = False


Observer = Callable[[Record, State], None]
"""A function that watches: it may print, write and count, and changes nothing that training depends on."""


def device_of(model: nn.Module) -> torch.device:
    """Where the parameters of a model are; the processor for one that has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
