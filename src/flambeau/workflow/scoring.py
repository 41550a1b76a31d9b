"""Scoring a saved model or a run, on its own data or on another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flambeau.columns import Dataset, Split
from flambeau.core import Evaluation
from flambeau.data.loader import batches
from flambeau.data.prepare import prepare, read_split
from flambeau.datasets import opened
from flambeau.engine.evaluate import evaluate as evaluate_batches
from flambeau.errors import DataError, UsageError, did_you_mean
from flambeau.model import Model, load
from flambeau.recipe import parse
from flambeau.run import Run
from flambeau.task import Breakdown


@dataclass(frozen=True, slots=True)
class Scored:
    """What an evaluation found.

    Attributes:
        split: The split that was scored.
        examples: How many there were.
        scores: By name, such as ``accuracy`` (a fraction) and ``loss`` (nats).
        evaluation: With the sums behind the scores, such as the confusion matrix.
        classes: The class names, in the order of the sums; empty where there are none.
        breakdown: The scores in more detail, as the task gives it.
        noun: What an example is called, in the plural.
    """

    split: str
    examples: int
    scores: dict[str, float]
    evaluation: Evaluation
    classes: list[str]
    breakdown: Breakdown
    noun: str = "examples"


def evaluate(
    model: str | Path | Run | Model,
    source: Any = None,
    *,
    split: str = "test",
    device: str = "cpu",
    network: Any = None,
    trust_code: bool = False,
) -> Scored:
    """Scores a model on a split.

    Args:
        model: A run, a model, or the path of one.
        source: Other data than it was trained on, such as another folder; classes are matched by name. A source
            without that split is scored whole.
        split: ``train``, ``val`` or ``test``.
        device: Where to do it.
        network: As for :func:`flambeau.load`.
        trust_code: As for :func:`flambeau.load`.

    Raises:
        DataError: The data cannot be used, or has classes that the model does not know.
        UsageError: There is no such split.
    """
    loaded = model if isinstance(model, Model) else load(model, device=device, network=network, trust_code=trust_code)
    recipe = parse(loaded.description.recipe)
    if source is None:
        if recipe.data.source is None:
            raise UsageError("The model was trained on objects of Python.", remedy="Give the data to evaluate on.")
        _, dataset = prepare(opened(recipe), loaded.task, recipe)
        _require_same(dataset, loaded)
        rows = _split(dataset, split)
    else:
        rows, split = _foreign(loaded, opened(recipe, source), split)
    metrics = loaded.task.metrics(recipe, loaded.facts)
    lengths = loaded.task.lengths(rows) if loaded.task.lengths else None
    size = recipe.train.eval_batch_size
    stream = batches(rows, loaded.task.collate, size, device=loaded.device, lengths=lengths)
    evaluation = evaluate_batches(loaded.network, stream, loaded.task.predict, metrics, loaded.task.keep)
    breakdown = loaded.task.view.breakdown(evaluation, loaded.facts)
    noun = loaded.task.view.noun
    return Scored(split, len(rows), evaluation.scores, evaluation, loaded.classes, breakdown, noun)


def _split(dataset: Dataset, split: str) -> Split:
    if split not in dataset.splits:
        raise UsageError(
            f"There is no split called {split!r}.", where="--split", remedy=did_you_mean(split, dataset.splits)
        )
    return dataset.splits[split]


def _require_same(dataset: Dataset, model: Model) -> None:
    if dataset.hash != model.description.data["hash"]:
        raise DataError(
            "The data is not what it was when the model was trained, so its splits may have moved.",
            where=dataset.info.get("source") or dataset.name,
            remedy="Name the data to evaluate on, as in `flambeau evaluate RUN SOURCE`; it is then taken as new data.",
        )


def _foreign(model: Model, dataset: Dataset, split: str) -> tuple[Split, str]:
    """A split of other data, in the model's numbering and read as the model reads."""
    name = split if split in dataset.splits or len(dataset.splits) > 1 else next(iter(dataset.splits))
    raw = _split(dataset, name)
    aligned = model.task.intake.align(raw, {"source": dataset.name, **dataset.info}, model.facts)
    return read_split(aligned, model.task, model.facts, name), name if name == split else "all"
