"""What tasks of every kind share: the recipe's optimiser, other data's classes, and checks of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from flambeau.columns import Columns
from flambeau.core import Facts
from flambeau.engine.optim import Factory, optimizer
from flambeau.errors import DataError, ModelError, did_you_mean
from flambeau.recipe import Recipe

SMOOTHED = ("cross-entropy", "bce")
"""The losses that label smoothing goes with."""


def tensors(examples: Columns) -> dict[str, Tensor]:
    """The columns that are tensors already, as they are: the whole of ``collate`` where all examples have one size."""
    return {name: column for name, column in examples.items() if isinstance(column, Tensor)}


def renumbered(info: Mapping[str, Any], facts: Facts, noun: str, remedy: str | None = None) -> list[int]:
    """For each class of other data its number among the model's, by name.

    Args:
        info: The other data's; has ``classes``.
        facts: The model's; have ``classes``.
        noun: What the classes are called in the error, in the plural.
        remedy: For the error.

    Raises:
        DataError: The data has classes that the model does not know.
    """
    theirs, classes = [str(name) for name in info["classes"]], facts["classes"]
    unknown = [name for name in theirs if name not in classes]
    if unknown:
        raise DataError(
            f"The data has {noun} that the model does not know: {', '.join(unknown[:10])}.",
            where=info.get("source"),
            expected=f"{noun} among {', '.join(classes[:20])}",
            remedy=remedy,
        )
    return [classes.index(name) for name in theirs]


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


def column_checks(recipe: Recipe, *roles: str) -> list[str]:
    """Columns of tables that the recipe names and the task, which knows these, has no use for."""
    mistakes = [
        f"data.columns.{name}: there is no such setting. {did_you_mean(name, roles)}"
        for name in sorted(set(recipe.data.columns) - set(roles))
    ]
    if recipe.data.group is not None and "group" in recipe.data.columns:
        mistakes.append("data.group: says the same as data.columns.group; give one of the two")
    return mistakes


def optimizer_checks(recipe: Recipe) -> list[str]:
    """Settings of the optimiser that contradict each other."""
    mistakes = []
    if recipe.optimizer.nesterov and (recipe.optimizer.name != "sgd" or not recipe.optimizer.momentum):
        mistakes.append("optimizer.nesterov: goes with sgd, and needs optimizer.momentum above 0")
    if recipe.optimizer.name not in ("sgd", "rmsprop", "muon") and recipe.optimizer.momentum:
        mistakes.append(f"optimizer.momentum: goes with sgd, rmsprop and muon; {recipe.optimizer.name} takes none")
    return mistakes


def loss_name(recipe: Recipe, known: Sequence[str]) -> str:
    """The loss that the recipe asks for; the first of those that the task knows where it asks for none."""
    return known[0] if recipe.loss.name == "auto" else recipe.loss.name


def loss_checks(recipe: Recipe, known: Sequence[str]) -> list[str]:
    """A loss that the task does not know, and smoothing of one that has nothing to smooth."""
    name = loss_name(recipe, known)
    if name not in known:
        return [f"loss.name: {recipe.task} takes {', '.join(known)}, received {name!r}"]
    if recipe.loss.label_smoothing and name not in SMOOTHED:
        return [f"loss.label_smoothing: goes with {' and '.join(SMOOTHED)}; with {name} leave it at 0"]
    return []


def classless_checks(recipe: Recipe) -> list[str]:
    """Settings that only mean something where there are classes, for tasks that have none."""
    mistakes = []
    if recipe.loss.class_weights is not None:
        mistakes.append(f"loss.class_weights: {recipe.task} has no classes to weigh")
    mistakes += loss_checks(recipe, ("cross-entropy",))
    if recipe.show.by_class or recipe.show.class_names:
        mistakes.append(f"show.by_class, show.class_names: {recipe.task} has no classes to show")
    return mistakes


def check_outputs(recipe: Recipe, outputs: Tensor) -> None:
    """Whether a network gives what the loss takes.

    Args:
        recipe: Its loss; only ``nll`` asks for more than scores.
        outputs: What the network gives for some example, ``(N, K)``.

    Raises:
        ModelError: The loss takes log-probabilities and the outputs are none.
    """
    if recipe.loss.name != "nll" or outputs.is_meta or bool((outputs.logsumexp(1).abs() < 1e-3).all()):
        return
    raise ModelError(
        "The loss nll takes log-probabilities, and the network gives scores.",
        where="loss.name",
        expected="a network that ends in a log-softmax",
        received=recipe.model.name,
        remedy="Take loss.name = cross-entropy, which has the log-softmax in it; or end the network in one, as mlp "
        "does with model.log_softmax = true and sequential with a last layer LogSoftmax.",
    )
