"""What tasks of every kind share: the recipe's optimiser, and checks of settings that contradict each other."""

from __future__ import annotations

from torch import Tensor

from flambeau.columns import Columns
from flambeau.engine.optim import Factory, optimizer
from flambeau.recipe import Recipe


def tensors(examples: Columns) -> dict[str, Tensor]:
    """The columns that are tensors already, as they are: the whole of ``collate`` where all examples have one size."""
    return {name: column for name, column in examples.items() if isinstance(column, Tensor)}


def optimizer_of(recipe: Recipe) -> Factory:
    """The optimiser that the recipe asks for, as a factory for a phase."""
    part = recipe.optimizer
    return optimizer(
        part.name,
        lr=part.rate,
        momentum=part.momentum,
        nesterov=part.nesterov,
        weight_decay=part.weight_decay,
        betas=part.betas,
    )


def optimizer_checks(recipe: Recipe) -> list[str]:
    """Settings of the optimiser that contradict each other."""
    mistakes = []
    if recipe.optimizer.nesterov and (recipe.optimizer.name != "sgd" or not recipe.optimizer.momentum):
        mistakes.append("optimizer.nesterov: goes with sgd, and needs optimizer.momentum above 0")
    if recipe.optimizer.name not in ("sgd", "rmsprop", "muon") and recipe.optimizer.momentum:
        mistakes.append(f"optimizer.momentum: goes with sgd, rmsprop and muon; {recipe.optimizer.name} takes none")
    return mistakes


def classless_checks(recipe: Recipe) -> list[str]:
    """Settings that only mean something where there are classes, for tasks that have none."""
    mistakes = []
    if recipe.loss.class_weights is not None:
        mistakes.append(f"loss.class_weights: {recipe.task} has no classes to weigh")
    if recipe.loss.name != "cross-entropy":
        mistakes.append(f"loss.name: {recipe.task} takes cross-entropy, received {recipe.loss.name!r}")
    if recipe.show.by_class or recipe.show.class_names:
        mistakes.append(f"show.by_class, show.class_names: {recipe.task} has no classes to show")
    return mistakes
