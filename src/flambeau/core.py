"""The nouns that everything else is built from: columns, splits, data sets, tasks, phases, losses, state, records.

A batch makes eight hops: source → read → collate → transform → ``train()`` → ``update()`` → ``phase.loss`` → backward,
clip, step. The first three belong to a :class:`Task`, the rest to the engine; nothing here knows what a picture is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from flambeau.recipe import Recipe
    from flambeau.report.page import Card, Section

Column = Tensor | list[Any]
"""One named column: a tensor whose first dimension counts rows, or a list of whatever a row holds."""

Columns = Mapping[str, Column]
"""Columns of equal length, by name."""

Batch = Mapping[str, Tensor]
"""What a network is trained on: tensors by name, each with the batch dimension first."""

Facts = dict[str, Any]
"""What a task learnt from its training split, as JSON values (class names, sizes, channel statistics)."""

Builder = Callable[..., nn.Module]
"""Makes a network: called with the facts, and with the recipe's arguments by name."""

Scores = dict[str, float]
"""Numbers by name, such as ``accuracy`` (a fraction) and ``loss``."""


@dataclass(frozen=True, slots=True)
class Split:
    """One part of a data set: named columns of equal length.

    Example:
        >>> split = Split({"label": torch.tensor([3, 1, 2])})
        >>> len(split), split.take(torch.tensor([2, 0])).columns["label"].tolist()
        (3, [2, 3])
    """

    columns: Columns

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns of a split differ in length: {lengths}.")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def tensor(self, name: str) -> Tensor:
        """A column that must be a tensor by now."""
        column = self.columns[name]
        if not isinstance(column, Tensor):
            raise TypeError(f"The column {name!r} is a list; it has not been read yet.")
        return column

    def take(self, rows: Tensor) -> Split:
        """The rows of these numbers, ``(n,)`` int64, in this order."""
        return Split({name: _take(column, rows) for name, column in self.columns.items()})

    def with_columns(self, **columns: Column) -> Split:
        """A copy with columns added or replaced."""
        return Split({**self.columns, **columns})


def _take(column: Column, rows: Tensor) -> Column:
    if isinstance(column, Tensor):
        return column.index_select(0, rows.to(column.device))
    return [column[row] for row in rows.tolist()]


def _rows(batch: Batch) -> int:
    return len(next(iter(batch.values())))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Named splits, the facts that come with the data, and a hash of the content.

    Attributes:
        name: What the data set is called in run folders and reports.
        splits: ``train``, and ``val`` and ``test`` where they exist.
        info: JSON values that the source states: ``classes``, ``source``, ``licence``, ``mirror`` (whether a mirrored
            picture keeps its meaning), ``notes`` (what was left out or assumed, in sentences).
        hash: SHA-256 over the rows of all splits, as the source gave them.
    """

    name: str
    splits: Mapping[str, Split]
    info: Mapping[str, Any]
    hash: str

    def _repr_html_(self) -> str:
        from flambeau.report.notebook import dataset_html

        return dataset_html(self)


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
    """

    start: Callable[[torch.device], dict[str, Tensor]]
    add: Callable[[dict[str, Tensor], Batch, Batch], None]
    result: Callable[[Mapping[str, Tensor]], Scores]
    select: str
    mode: Literal["max", "min"]

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
class Outcome:
    """What a task's part of the report is made from.

    Attributes:
        facts: The task's.
        dataset: Splits as the task reads them.
        split: The split that was scored.
        evaluation: Its scores and outputs.
        calibration: What ``Task.calibrate`` returned, empty when nothing was fitted.
    """

    facts: Facts
    dataset: Dataset
    split: str
    evaluation: Evaluation
    calibration: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture to look at after training: as a PNG for the run folder, and as Rich renders it in a terminal.

    Attributes:
        name: The file's name.
        png: Its bytes.
        terminal: Makes the renderable for a terminal of so many columns.
    """

    name: str
    png: bytes
    terminal: Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class Task:
    """What is special about one kind of problem: a frozen record of plain functions.

    ``read`` and ``collate`` serve a data set and a single request alike, and each works row by row (many rows give
    what the rows give alone), so that training and serving agree by construction. The contract tests hold that.

    Attributes:
        name: As in ``--task``.
        input: The raw column that a single input fills when someone predicts (``image``).
        facts: What must be known before anything is read, from the raw training split.
        read: Raw columns to example columns; raises :class:`~flambeau.errors.BadRows` naming every unreadable row.
        measure: Facts completed with statistics of the training split as it was read.
        collate: Example columns to a batch.
        transform: Makes the training-time augmentation, or None when the recipe asks for none.
        build: Makes the model from the recipe, the facts and the builder of the network (which the catalog finds by
            name, or the user gives). What normalises its input and calibrates its output are buffers of it, so that
            they travel with the weights.
        phases: What is optimised.
        metrics: How it is scored.
        predict: Batch to tensors only, so that it can be exported.
        decode: Outputs to what a person reads, one JSON value a row.
        example: A batch of the right shapes and dtypes, for export and inspection.
        checks: Mistakes in a recipe that only this task can see, before any data is read.
        keep: Outputs and columns of the batch that an evaluation keeps for calibration and report.
        report: The task's part of the report: headline numbers and sections.
        tell: What is printed after training, from the outcome: lines of text, and pictures.
        doubts: For each example of a batch a sentence when it is unlike everything the model was trained on, else
            None; judged by what the facts say about the training split. A prediction carries it.
        calibrate: Fits what is fitted after training (such as a temperature) on validation outputs, and stores it
            in the model; returns what it fitted, as numbers by name.
    """

    name: str
    input: str
    facts: Callable[[Split, Mapping[str, Any], Recipe], Facts]
    read: Callable[[Columns, Facts], dict[str, Column]]
    measure: Callable[[Split, Facts, Recipe], Facts]
    collate: Callable[[Columns], Batch]
    transform: Callable[[Recipe, Facts], Transform | None]
    build: Callable[[Recipe, Facts, Builder], nn.Module]
    phases: Callable[[Recipe, Facts], tuple[Phase, ...]]
    metrics: Callable[[Recipe, Facts], Metrics]
    predict: Callable[[nn.Module, Batch], dict[str, Tensor]]
    decode: Callable[[Batch, Facts], list[Any]]
    example: Callable[[Facts], Batch]
    checks: Callable[[Recipe], list[str]] = lambda recipe: []
    keep: tuple[str, ...] = ()
    report: Callable[[Outcome], tuple[list[Card], list[Section]]] = lambda outcome: ([], [])
    tell: Callable[[Outcome, Recipe], list[str | Shown]] = lambda outcome, recipe: []
    doubts: Callable[[Batch, Facts], list[str | None]] = lambda batch, facts: [None] * _rows(batch)
    calibrate: Callable[[nn.Module, Mapping[str, Tensor]], dict[str, float]] | None = None


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
        best: The best selection score so far, and the step it was reached at.
        stale: Validations since then.
        scores: The scores of the last validation.
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
    best_step: int | None = None
    stale: int = 0
    scores: Scores = field(default_factory=dict)


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
