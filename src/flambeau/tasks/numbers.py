"""What tasks share that predict numbers, whatever an example is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.columns import Dataset, Split
from flambeau.core import Batch, Evaluation, Facts, Loss, Metrics, Phase
from flambeau.errors import DataError
from flambeau.metrics.regression import regression
from flambeau.models.regressor import Regressor, standardized
from flambeau.program import Compared
from flambeau.recipe import Recipe
from flambeau.task import Baseline, Breakdown, Outcome
from flambeau.tasks import answers
from flambeau.tasks.common import loss_checks, loss_name, optimizer_checks, optimizer_of

KEPT = ("values", "target")
"""What an evaluation keeps for the report."""

Elementwise = Callable[[Tensor, Tensor], Tensor]


def _squared(outputs: Tensor, wanted: Tensor) -> Tensor:
    return F.mse_loss(outputs, wanted, reduction="none")


_ELEMENTWISE: Mapping[str, Elementwise] = {
    "mse": _squared,
    "mae": lambda outputs, wanted: F.l1_loss(outputs, wanted, reduction="none"),
    "huber": lambda outputs, wanted: F.huber_loss(outputs, wanted, reduction="none"),
    # Both sides are logarithms here, so that the squared error is that of the logarithms.
    "msle": _squared,
}

LOSSES = tuple(_ELEMENTWISE)


def measured(split: Split, recipe: Recipe, names: list[str]) -> dict[str, Any]:
    """Facts about the numbers of a training split.

    Args:
        split: Has ``target``, float32 ``(N, T)``.
        recipe: Its loss says whether the network is to work with logarithms.
        names: Of the T numbers.

    Returns:
        ``shift`` and ``scale``, ``log``, and ``range`` (of each number the least and the greatest).

    Raises:
        DataError: The loss is ``msle`` and a number is -1 or less.
    """
    target = split.tensor("target").double()
    log = loss_name(recipe, LOSSES) == "msle"
    if log and bool((target <= -1).any()):
        raise DataError(
            "The loss msle compares logarithms of 1 + number, and there are numbers of -1 or less.",
            where=names[int((target <= -1).any(0).nonzero()[0])],
            expected="numbers above -1",
            remedy="Choose loss.name = mse, mae or huber.",
        )
    shown = target.log1p() if log else target
    spread = shown.std(0, unbiased=False)
    return {
        "shift": shown.mean(0).tolist(),
        # Of numbers that do not vary any unit will do.
        "scale": torch.where(spread > 0, spread, 1.0).tolist(),
        "log": log,
        "range": [[low, high] for low, high in zip(target.amin(0).tolist(), target.amax(0).tolist(), strict=True)],
    }


def phases_of(recipe: Recipe, forward: Callable[[nn.Module, Batch], Tensor]) -> tuple[Phase, ...]:
    """One phase: one of :data:`LOSSES`, of numbers in units of the training split's spread."""
    elementwise = _ELEMENTWISE[loss_name(recipe, LOSSES)]

    def loss(model: nn.Module, batch: Batch) -> Loss:
        wanted = cast(Regressor, model).standard(batch["target"])
        return Loss(elementwise(forward(model, batch), wanted).sum())

    return (Phase("loss", loss, lambda batch: batch["target"].numel(), optimizer_of(recipe)),)


def metrics(recipe: Recipe, facts: Facts) -> Metrics:
    """Errors in the units of the data, and the loss in units of the spread."""
    elementwise = _ELEMENTWISE[loss_name(recipe, LOSSES)]
    shift, scale = (torch.tensor(facts[name], dtype=torch.float32) for name in ("shift", "scale"))
    made = regression(facts["targets"], [(low + high) / 2 for low, high in facts["range"]])

    def add(sums: dict[str, Tensor], outputs: Batch, batch: Batch) -> None:
        target = batch["target"]
        wanted = standardized(target, shift.to(target.device), scale.to(target.device), log=facts["log"])
        made.add(sums, {**outputs, "loss": elementwise(outputs["standard"], wanted).mean(1)}, batch)

    return replace(made, add=add, select="loss", mode="min")


def outputs_of(model: nn.Module, outputs: Tensor) -> dict[str, Tensor]:
    """The numbers in the units of the data (``values``) and as the network gave them (``standard``), ``(N, T)``."""
    return {"values": cast(Regressor, model).values(outputs), "standard": outputs}


EXPORTED = {
    "values": "the numbers in the units of the data, (N, T) float32",
    "standard": "the same as the network gives them, in units of the training data's spread, (N, T) float32",
}
"""What comes out of an exported graph."""


def compared(facts: Facts) -> tuple[Compared, ...]:
    """What an exported file must agree in: numbers to the 10,000th part of their spread."""
    most = max(abs(end) for ends in facts["range"] for end in ends)
    # Logarithms are turned back at the end, which makes of a difference one in proportion to the number.
    spread = max(facts["scale"]) * (1 + most if facts["log"] else 1)
    return Compared("standard"), Compared("values", within=1e-4 * spread + 1e-6 * most)


def decode(outputs: Batch, facts: Facts) -> list[dict[str, Any]]:
    """For each row ``values``, the numbers by name; of a single one also ``value``."""
    return [answers.numbers_of(facts["targets"], values) for values in outputs["values"].tolist()]


line, cells = answers.numbers_line, answers.numbers_cells


def align(split: Split, info: Mapping[str, Any], facts: Facts) -> Split:
    """Rows of other data with their numbers in the model's order, by name.

    Raises:
        DataError: A number that the model predicts is not there.
    """
    theirs = [str(name) for name in info["targets"]]
    if len(theirs) == len(facts["targets"]) == 1:
        return split
    missing = [name for name in facts["targets"] if name not in theirs]
    if missing:
        raise DataError(
            f"The data lacks numbers that the model predicts: {', '.join(missing[:10])}.",
            where=info.get("source"),
            received=", ".join(theirs[:20]),
        )
    return split.with_columns(target=split.tensor("target")[:, [theirs.index(name) for name in facts["targets"]]])


def baseline(dataset: Dataset, facts: Facts, recipe: Recipe) -> Baseline:
    """Always saying the training split's mean (of logarithms, where the network works with these)."""
    target = dataset.splits["test"].tensor("target")
    shift = torch.tensor(facts["shift"], dtype=torch.float32)
    outputs = {
        "values": (shift.expm1() if facts["log"] else shift).expand_as(target),
        "standard": torch.zeros_like(target),
    }
    made = metrics(recipe, facts)
    sums = made.start(torch.device("cpu"))
    made.add(sums, outputs, {"target": target})
    return Baseline("always saying the mean", made.result(sums))


def breakdown(evaluation: Evaluation, facts: Facts) -> Breakdown:
    """The errors of each number, where there are several."""
    names = facts["targets"]
    if len(names) == 1:
        return Breakdown()
    scores = evaluation.scores
    keys = ("mae", "rmse", "r2")
    rows = [[name, *(f"{scores[f'{key}/{name}']:.4g}" for key in keys)] for name in names]
    return Breakdown(table=[["number", *keys], *rows])


def tell(outcome: Outcome) -> list[str]:
    """The errors on the test split, in a line for each number."""
    scores, names = outcome.evaluation.scores, outcome.facts["targets"]
    ends = [""] if len(names) == 1 else [f"/{name}" for name in names]
    return [
        f"test {name}: mean absolute error {scores[f'mae{end}']:.4g}, root mean squared {scores[f'rmse{end}']:.4g}, "
        f"R² {scores[f'r2{end}']:.3f}"
        for name, end in zip(names, ends, strict=True)
    ]


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    mistakes = loss_checks(recipe, LOSSES)
    if recipe.loss.class_weights is not None:
        mistakes.append(f"loss.class_weights: {recipe.task} has no classes to weigh")
    if recipe.show.by_class or recipe.show.class_names:
        mistakes.append(f"show.by_class, show.class_names: {recipe.task} has no classes to show")
    return mistakes + optimizer_checks(recipe)
