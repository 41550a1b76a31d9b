"""The record of a task: what is special about one kind of problem, as plain functions in frozen records.

A task says three things. :class:`Task` itself is the mathematics: what must be known, how a row is read, what is
built, minimised and measured. Its :class:`Intake` says how data comes in, its :class:`View` how people ask and what
they are shown. Nobody outside ``tasks/`` asks which task it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from flambeau.columns import Column, Columns, Dataset, Split
from flambeau.core import Batch, Builder, Evaluation, Facts, Metrics, Phase, Scores, Transform
from flambeau.program import Programmer
from flambeau.wire import Wire

if TYPE_CHECKING:
    from pydantic import BaseModel

    from flambeau.recipe import Recipe
    from flambeau.report.page import Card, Section


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture to look at: as a PNG for the run folder, and as Rich renders it in a terminal.

    Attributes:
        name: The file's name.
        png: Its bytes.
        terminal: Makes the renderable for a terminal of so many columns.
    """

    name: str
    png: bytes
    terminal: Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class Insight:
    """Something to see of how a model took one input: a picture, or how much pieces of two texts have to do with each
    other.

    Attributes:
        about: What it is, in a sentence.
        png: The picture, or nothing.
        columns: Pieces of the input.
        rows: Pieces of the answer.
        weights: For each row a weight for each column, from 0 to 1.
    """

    about: str
    png: bytes = b""
    columns: Sequence[str] = ()
    rows: Sequence[str] = ()
    weights: Sequence[Sequence[float]] = ()


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a simple method reaches on the same splits, so that nobody takes a network for more than it is.

    Attributes:
        name: What it is, as in "a bag of n-grams".
        scores: On the test split, by the names of the task's own scores.
    """

    name: str
    scores: Scores


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task's part of the report is made from.

    Attributes:
        facts: The task's.
        dataset: Splits as the task reads them.
        split: The split that was scored.
        evaluation: Its scores and outputs.
        calibration: What ``Task.calibrate`` returned, empty when nothing was fitted.
        model: The selected model, in evaluation mode.
        baseline: What ``Task.baseline`` reached, or None.
        snapshots: What ``Task.snapshot`` made after each epoch: its epoch (from 0) and the PNG's bytes.
    """

    facts: Facts
    dataset: Dataset
    split: str
    evaluation: Evaluation
    calibration: Mapping[str, float]
    model: nn.Module
    baseline: Baseline | None = None
    snapshots: Sequence[tuple[int, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Scores in more detail, for ``evaluate``.

    Attributes:
        intervals: For some of the scores the 95 % interval.
        table: A heading and rows of text, or nothing.
        json: The same for programs, added to what ``--json`` prints.
    """

    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    table: Sequence[Sequence[str]] = ()
    json: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """What someone who wants new examples asks for; each task uses what means something to it.

    Attributes:
        n: How many.
        prompt: The text to go on from.
        length: The most tokens of a text.
        temperature: Divides the logits that are drawn from; 0 always takes the most probable.
        top_k: Draws among so many most probable tokens only.
        seed: Of the draws.
    """

    n: int = 1
    prompt: str = ""
    length: int = 500
    temperature: float = 1.0
    top_k: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """A network with published weights that few examples are better begun from than random ones.

    Attributes:
        model: Its name and arguments, as in a recipe's table ``model``.
        below: Data with fewer examples counts as few.
        file: What its file of weights is called in the cache.
        megabytes: The file's size.
        gain: What is to be gained by it, in a sentence.
    """

    model: Mapping[str, Any]
    below: int
    file: str
    megabytes: int
    gain: str


@dataclass(frozen=True, slots=True)
class Intake:
    """How the data of a task comes in.

    Attributes:
        forms: What may be given as data, as a phrase: ``a folder of pictures (class/...)``.
        claims: Whether a file or folder looks like data for this task; reads no more than it takes to say so.
        open: The data set in a file or folder, with the splits that it comes with. Raw columns; ``info`` as
            :class:`~flambeau.columns.Dataset` says. Raises ``DataError`` for what cannot be used.
        of_python: The same from objects of Python: the object, a name for it and its origin (or None), the recipe.
        divide: The data set with its ``test`` and ``val`` splits made where the recipe asks for them.
        align: A raw split of other data than the model was trained on, with its labels in the model's numbering;
            takes the split, the other data set's ``info`` and the model's facts. Raises ``DataError`` for labels
            that the model does not know.
        describe: A data set in JSON values, for ``inspect``: ``name``, ``rows`` (by split), ``notes``, ``hash``, and
            where there are classes ``classes`` and ``counts`` (by split, then by class).
    """

    forms: str
    claims: Callable[[Path], bool]
    open: Callable[[Path, Recipe], Dataset]
    of_python: Callable[[Any, str | None, str | None, Recipe], Dataset]
    divide: Callable[[Dataset, Recipe], Dataset]
    describe: Callable[[Dataset], dict[str, Any]]
    align: Callable[[Split, Mapping[str, Any], Facts], Split] = lambda split, info, facts: split


@dataclass(frozen=True, slots=True)
class View:
    """How people ask a model of this task, and what they are shown.

    Attributes:
        asks: What ``predict`` takes, as in a usage line: ``PICTURE...``.
        inputs: What the arguments of ``predict`` stand for: for each input a name to print and the raw value. Raises
            ``DataError`` for what cannot be an input at all.
        line: One decoded prediction in a line, listing at most so many classes.
        cells: The same as a row of CSV, by column.
        breakdown: The scores of an evaluation in more detail.
        report: The task's part of the report: headline numbers and sections.
        tell: What is printed after training, from the outcome: lines of text, and pictures.
        about: What ``inspect`` prints about data beside the counts: labels and texts, from ``Intake.describe``.
        samples: A few rows of a data set to look at: lines of text, or one picture.
        thumbnail: A raw input as a picture, uint8 ``(C, H, W)``, or None where it is none.
        insight: What there is to see of how a model took one raw input, from the model, its facts and the input; nobody
            else uses the model meanwhile. None for nothing.
        truth: What each row of a raw split really is, in words; None where rows are no inputs with an answer.
        noun: What an example is called, in the plural.
        private: Facts that are machinery and not worth a reader's time, such as a tokeniser's tables.
    """

    asks: str
    inputs: Callable[[Sequence[str]], list[tuple[str, Any]]]
    line: Callable[[Any, int], str]
    cells: Callable[[Any, int], dict[str, str]]
    breakdown: Callable[[Evaluation, Facts], Breakdown] = lambda evaluation, facts: Breakdown()
    report: Callable[[Outcome], tuple[list[Card], list[Section]]] = lambda outcome: ([], [])
    tell: Callable[[Outcome, Recipe], list[str | Shown]] = lambda outcome, recipe: []
    about: Callable[[Mapping[str, Any]], dict[str, str]] = lambda facts: {}
    samples: Callable[[Dataset, int], list[str | Shown]] = lambda dataset, count: []
    thumbnail: Callable[[Any, Facts], Tensor | None] = lambda raw, facts: None
    insight: Callable[[nn.Module, Facts, Any], list[Insight]] | None = None
    truth: Callable[[Split, Facts], list[str]] | None = None
    noun: str = "examples"
    private: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """What is special about one kind of problem: a frozen record of plain functions.

    ``read`` and ``collate`` serve a data set and a single request alike, and each works row by row (many rows give
    what the rows give alone), so that training and serving agree by construction. The contract tests hold that.

    Attributes:
        name: As in ``--task``.
        about: What it does, in a sentence.
        family: The group of models in the catalog that it can train.
        recipe: The recipe that is used when nothing else says which: its name, or its tables.
        input: The raw column that a single input fills when someone predicts (``image``).
        intake: How data comes in.
        view: How people ask, and what they are shown.
        facts: What must be known before anything is read, from the raw training split.
        read: Raw columns to example columns; raises :class:`~flambeau.errors.BadRows` naming every unreadable row.
        measure: Facts completed with statistics of the training split as it was read.
        collate: Example columns to a batch.
        transform: Makes the training-time augmentation (or whatever else is drawn with the data), or None.
        build: Makes the model from the recipe, the facts and the builder of the network (which the catalog finds by
            name, or the user gives). What normalises its input and calibrates its output are buffers of it, so that
            they travel with the weights.
        phases: What is optimised.
        metrics: How it is scored.
        predict: Batch to tensors only, so that it can be exported. Outputs have the batch's rows in front.
        decode: Outputs to what a person reads, one JSON value a row.
        example: A batch of the right shapes and dtypes, for export and inspection.
        start: What a file or folder with few examples is begun from where nobody names a network, or None.
        networks: Networks of its own beside the family's: builders by name.
        toy: The facts of a small problem, by which a network's arguments are tried and its parameters counted.
        parts: The optional tables of a recipe that it uses (``images``, ``augment``, ``text``, ``audio``).
        options: The pydantic model of its own table ``options`` in a recipe.
        checks: Mistakes in a recipe that only this task can see, before any data is read.
        arrange: The examples of a split from its rows as they were read, where the two are not the same (a text is
            read once, and cut into many windows).
        lengths: How long each row of a read split is, ``(n,)`` int64, so that batches are made of rows of like length.
        ready: Puts into a fresh model what it needs of the data and JSON facts cannot hold, such as a graph.
        condense: A split with what never changes in training computed beforehand, such as the features of a frozen
            network, so that it is not computed in every epoch; the split itself where there is nothing of the kind.
        keep: Outputs and columns of the batch, where it has them, that an evaluation keeps for calibration and report.
        glance: A cheaper ``predict`` for the validation between epochs.
        trace: One plain pass through the model, for counting layers where ``predict`` is a search.
        doubts: For each example of a batch a sentence when it is unlike everything the model was trained on, else
            None; judged by what the facts say about the training split. A prediction carries it.
        calibrate: Fits what is fitted after training (such as a temperature) on validation outputs, and stores it
            in the model; returns what it fitted, as numbers by name.
        baseline: What a simple method reaches on the same data.
        sample: New examples from the model: texts, or pictures.
        snapshot: A picture of how far the model has come, made after each epoch; draws from generators of its own.
        program: The model as graphs that other programs run, for export; None for a task that cannot be exported.
        wire: What a model takes and gives over a network, from its facts; None for a task that cannot be served.
    """

    name: str
    about: str
    family: str
    recipe: str | Mapping[str, Any]
    input: str
    intake: Intake
    view: View
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
    toy: Facts
    start: Start | None = None
    networks: Mapping[str, Builder] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    options: type[BaseModel] | None = None
    checks: Callable[[Recipe], list[str]] = lambda recipe: []
    arrange: Callable[[Split, Facts], Split] = lambda split, facts: split
    lengths: Callable[[Split], Tensor] | None = None
    ready: Callable[[nn.Module, Dataset], None] = lambda model, dataset: None
    condense: Callable[[nn.Module, Split], Split] = lambda model, split: split
    keep: tuple[str, ...] = ()
    glance: Callable[[nn.Module, Batch], dict[str, Tensor]] | None = None
    trace: Callable[[nn.Module, Batch], Any] | None = None
    doubts: Callable[[Batch, Facts], list[str | None]] = lambda batch, facts: [None] * _rows(batch)
    calibrate: Callable[[nn.Module, Mapping[str, Tensor]], dict[str, float]] | None = None
    baseline: Callable[[Dataset, Facts, Recipe], Baseline] | None = None
    sample: Callable[[nn.Module, Facts, SampleRequest], Iterator[str | Shown]] | None = None
    snapshot: Callable[[nn.Module, Facts], Shown] | None = None
    program: Programmer | None = None
    wire: Callable[[Facts], Wire] | None = None


def _rows(batch: Batch) -> int:
    return len(next(iter(batch.values())))
