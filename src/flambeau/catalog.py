"""Everything that has a name: tasks, models, data sets, export formats and recipes, imported only when asked for.

An entry is a ``"module:function"`` string. Other packages add entries of their own through entry points in the groups
``flambeau.tasks``, ``flambeau.models``, ``flambeau.datasets``, ``flambeau.formats``; one of ours is never replaced.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata, resources
from typing import Any, cast

import torch

from flambeau.core import Builder, Task
from flambeau.errors import ModelError, RecipeError, UsageError, did_you_mean
from flambeau.recipe import Recipe, parse, read_toml

TASKS = {
    "image-classification": "flambeau.tasks.image_classification:TASK",
}

MODELS = {
    "compact": "flambeau.models.compact:compact",
    "lenet": "flambeau.models.lenet:lenet",
    "mlp": "flambeau.models.mlp:mlp",
    "sequential": "flambeau.models.sequential:sequential",
    "tutorial-cifar10": "flambeau.models.tutorial:tutorial_cifar10",
}

DATASETS = {
    "cifar10": "flambeau.data.datasets.cifar10:load",
    "digits": "flambeau.data.datasets.digits:load",
    "fashion-mnist": "flambeau.data.datasets.fashion_mnist:load",
    "fashion-mnist-mini": "flambeau.data.datasets.fashion_mnist_mini:load",
    "mnist": "flambeau.data.datasets.mnist:load",
}

FORMATS = {
    "state-dict": "flambeau.export.state_dict:export",
}

DEFAULT_RECIPE = "pictures"
"""The recipe of a source that has none of its own name."""


@functools.cache
def names(kind: str) -> dict[str, str]:
    """The entries of one kind (``tasks``, ``models``, ``datasets``, ``formats``), ours and other packages'."""
    ours = {"tasks": TASKS, "models": MODELS, "datasets": DATASETS, "formats": FORMATS}[kind]
    theirs = {point.name: point.value for point in metadata.entry_points(group=f"flambeau.{kind}")}
    return dict(sorted((theirs | ours).items()))


def find(kind: str, name: str) -> Any:
    """The object behind a name.

    Raises:
        UsageError: Nobody knows the name; the closest names are suggested.
    """
    entries = names(kind)
    if name not in entries:
        raise UsageError(f"There is no {_SINGULAR[kind]} called {name!r}.", remedy=did_you_mean(name, entries))
    module, _, attribute = entries[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


_SINGULAR = {"tasks": "task", "models": "model", "datasets": "data set", "formats": "format"}


def task(name: str) -> Task:
    """The task of this name."""
    return cast(Task, find("tasks", name))


def builder(name: str) -> Builder:
    """The builder of a network by its name, or of the user's own class by ``FILE.py:CLASS``."""
    if ".py:" in name:
        from flambeau.models.custom import from_file

        return lambda facts, **arguments: from_file(name, facts, arguments)
    return cast(Builder, find("models", name))


def recipe_names() -> list[str]:
    """The named recipes that come with the package, such as ``tutorial/mnist``."""
    root = resources.files("flambeau.recipes")
    found = [entry.name for entry in root.iterdir() if entry.name.endswith(".toml")]
    found += [f"{d.name}/{e.name}" for d in root.iterdir() if d.is_dir() for e in d.iterdir()]
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """The TOML text of a named recipe.

    Raises:
        UsageError: Nobody knows the name.
    """
    if name not in recipe_names():
        raise UsageError(
            f"There is no recipe called {name!r}.",
            remedy=f"{did_you_mean(name, recipe_names())} A file of your own is given as a path ending in .toml.",
        )
    return resources.files("flambeau.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def recipe(name: str) -> Recipe:
    """A named recipe."""
    return parse(read_toml(recipe_text(name), where=name), where=name, checks=CHECKS)


def check_names(raw: Mapping[str, Any]) -> Iterable[str]:
    """Mistakes in the names of task and model, and in the arguments of the model's builder."""
    task_name = raw.get("task", "image-classification")
    if task_name not in names("tasks"):
        yield f"task: there is no task called {task_name!r}. {did_you_mean(str(task_name), names('tasks'))}"
    model = raw.get("model", {})
    if isinstance(model, Mapping):
        yield from _check_model({"name": "compact", **model})


def _check_model(model: Mapping[str, Any]) -> Iterable[str]:
    name = model["name"]
    if not isinstance(name, str):
        yield f"model.name: expected a name, received {name!r}"
    elif name.startswith("python:") or ".py:" in name:
        return
    elif name.endswith(".py"):
        yield f"model.name: {name} names a file; say which class in it, as in {name}:Net"
    elif name not in names("models"):
        yield f"model.name: there is no model called {name!r}. {did_you_mean(name, names('models'))}"
    else:
        known = arguments(find("models", name))
        given = {key: value for key, value in model.items() if key != "name"}
        unknown = given.keys() - known.keys()
        for key in sorted(unknown):
            yield f"model.{key}: {name} has no such argument. {did_you_mean(key, known)}"
        if not unknown:
            yield from _try_arguments(name, given)


def arguments(builder: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a model's builder that a recipe may set, with their defaults."""
    parameters = inspect.signature(builder).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _try_arguments(name: str, given: Mapping[str, Any]) -> Iterable[str]:
    """Builds the model for a small problem, so that a wrong value is found before any data is read."""
    facts = {"classes": ["a", "b"], "size": [32, 32], "channels": 3}
    try:
        with torch.device("meta"):
            find("models", name)(facts, **given)
    except ModelError as error:
        if str(error.where).startswith("model."):
            yield _in_one_line(error)
    except RecipeError as error:
        yield from error.mistakes
    except (TypeError, ValueError, RuntimeError) as error:
        yield f"model: {name} cannot be built with {dict(given)}: {error}"


def _in_one_line(error: ModelError) -> str:
    details = (("expected", error.expected), ("received", error.received))
    said = ", ".join(f"{label} {text}" for label, text in details if text)
    return f"{error.where}: {error.problem.removesuffix('.')}{f'; {said}' if said else ''}"


CHECKS = (check_names,)
