"""From what was asked for to a recipe: names, files, settings and flags put together in their order of precedence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from flambeau import catalog
from flambeau.datasets import task_of
from flambeau.errors import ModelError, RecipeError
from flambeau.modelfile import read_header
from flambeau.models.frozen import check_parts
from flambeau.models.published import published
from flambeau.recipe import Recipe, contradictions, parse, put, read_toml, with_settings
from flambeau.run import MODEL
from flambeau.task import Task
from flambeau.tasks.common import SMOOTHED
from flambeau.userfile import in_file


def resolve(
    source: str | None,
    recipe: str | Path | Mapping[str, Any] | Recipe | None,
    *,
    settings: Iterable[str] = (),
    model: str | None = None,
    task: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    init: str | Path | None = None,
) -> Recipe:
    """The recipe of a run.

    Args:
        source: Replaces the recipe's data source; its own recipe is the default, where there is one of its name.
        recipe: A name, a path that ends in ``.toml``, tables, or a recipe.
        settings: ``key=value`` texts, stronger than the recipe.
        model: Stronger still, as are the following. A model of another name (here or in ``settings``) brings its own
            default arguments.
        task: The task's name.
        epochs: How many.
        seed: The run's.
        device: Where to train.
        init: A run or a saved model to go on from: it brings its network and the pictures that it takes, where
            nothing else is named.

    Raises:
        RecipeError: With every mistake that can be seen before data is read.
        ModelError: What ``init`` names is no model.
        UsageError: Nobody knows the recipe's name.
    """
    raw, where = _load(recipe, source, task)
    settings = list(settings)
    named = with_settings({}, settings)
    if init is not None:
        raw = _going_on(raw, Path(init))
    # Before the settings, since these may hold arguments of the model that a flag names.
    raw = _unsmoothed(_renamed(raw, model or _entry(named, "model", "name")), _entry(named, "loss", "name"))
    if _entry(named, "augment", "preset") is not None:
        # A preset replaces all that the recipe says of augmentation; single settings beside it win over it.
        raw = {table: value for table, value in raw.items() if table != "augment"}
    raw = with_settings(raw, settings)
    flags = {
        "data.source": source,
        "model.name": model,
        "task": task,
        "train.epochs": epochs,
        "seed": seed,
        "train.device": device,
    }
    for key, value in flags.items():
        if value is not None:
            put(raw, key.split("."), value)
    timed, counted = _entry(named, "train", "minutes"), epochs or _entry(named, "train", "epochs")
    if counted is not None and timed is None and isinstance(raw.get("train"), dict):
        # A number of epochs that is asked for is stronger than the recipe's time.
        raw["train"].pop("minutes", None)
    resolved = parse(_completed(raw), where=where, checks=catalog.CHECKS)
    resolved, mistakes = with_inputs(resolved)
    of = catalog.task(resolved.task)
    mistakes += [
        *_unknown_parts(resolved, of),
        *contradictions(resolved),
        *_unmeasurable(resolved, of, timed and counted),
        *of.checks(resolved),
    ]
    if mistakes:
        raise RecipeError(mistakes, where=where)
    return _spelt_out(resolved)


def _unmeasurable(recipe: Recipe, task: Task, counted: Any) -> Iterable[str]:
    """What no measurement can find out: a rate for several losses, or a number of epochs that is given already."""
    if counted:
        yield f"train.minutes: decides how many epochs there are, and {counted} were asked for; leave one of them out"
    if recipe.optimizer.lr == "auto" and len(names := [phase.name for phase in task.phases(recipe, task.toy)]) > 1:
        yield f"optimizer.lr: auto is for one loss, and {recipe.task} has {' and '.join(names)}; give a number"


def _unknown_parts(recipe: Recipe, task: Task) -> Iterable[str]:
    """Parts that are to be frozen and that the network, built for a small problem, has not."""
    names = recipe.model.freeze
    if not isinstance(names, list) or not catalog.has_network(recipe.model.name, task):
        return
    # Published weights are for colour pictures.
    facts = {**task.toy, "channels": 3}
    try:
        with torch.device("meta"):
            network = catalog.network(recipe.model.name, task)(facts, **recipe.model.arguments())
    except ModelError:
        return  # it does not fit the small problem; whether it fits the data is found out there
    try:
        check_parts(network, names)
    except ModelError as error:
        yield f"{error.where}: {error.problem} Expected {error.expected}"


def _entry(raw: Mapping[str, Any], table: str, key: str) -> Any:
    inner = raw.get(table)
    return inner.get(key) if isinstance(inner, Mapping) else None


def _going_on(raw: dict[str, Any], init: Path) -> dict[str, Any]:
    """The tables with the network of a saved model, and the pictures that it takes."""
    path = init / MODEL if init.is_dir() else init
    earlier = read_header(path).description
    wanted, known = catalog.task(raw.get("task", Recipe().task)), catalog.task(earlier.task)
    if known.input != wanted.input:
        raise ModelError(
            "The model is of another kind of data.",
            where=init,
            expected=f"a model that takes what {wanted.name} takes",
            received=f"a model for {known.name}",
            remedy="Go on from another model, or leave --init out.",
        )
    model = dict(earlier.recipe.get("model", {}))
    model.pop("pretrained", None)  # they have become this model's weights
    facts, images = earlier.facts, dict(raw.get("images", {}))
    if "images" in known.parts:
        images = {name: facts[name] for name in ("size", "channels", "mean", "std") if facts.get(name)} | images
    given = {"task": earlier.task, "model": model, "initial": {"model": str(path.absolute())}}
    return {**raw, **given, **({"images": images} if images else {})}


def with_inputs(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """The recipe with pictures as the weights that training begins from want them, where it says nothing else; and
    what in it contradicts these weights."""
    name, arguments, task = recipe.model.name, recipe.model.arguments(), catalog.task(recipe.task)
    if not catalog.has_network(name, task):  # a class of the user's own
        return recipe, []
    known = published(catalog.network(name, task))
    wanted, images = {} if known is None else known.inputs(arguments), recipe.images
    if not wanted:
        random = bool(recipe.model.freeze) and recipe.initial.model is None
        instead = "go on from a model by --init" if known is None else "set model.pretrained = true as well"
        return recipe, [f"model.freeze: the weights are random; {instead}"] if random else []
    if "images" not in task.parts or images.channels == 1:
        return recipe, ["model.pretrained: the weights are for colour pictures; grey ones are turned into these"]
    chosen: dict[str, Any] = {}
    if images.size == "auto":
        chosen["size"] = tuple(wanted["size"])
    if images.mean is None and images.normalize == "statistics":
        chosen |= {"mean": wanted["mean"], "std": wanted["std"]}
    chosen["channels"] = wanted["channels"]
    return recipe.model_copy(update={"images": images.model_copy(update=chosen)}), []


def _completed(raw: dict[str, Any]) -> dict[str, Any]:
    """The tables with the model of the task's own recipe, where none is named."""
    name, model = raw.get("task", Recipe().task), raw.get("model", {})
    known = in_file(str(name)) or name in catalog.names("tasks")
    if not known or not isinstance(model, Mapping) or "name" in model:
        return raw
    return {**raw, "model": {**catalog.tables(catalog.task(name))["model"], **model}}


def _spelt_out(recipe: Recipe) -> Recipe:
    """The recipe with every table that the task uses set, so that the run's copy says all that determines it."""
    task = catalog.task(recipe.task)
    values: dict[str, Any] = {part: getattr(recipe, part) for part in task.parts}
    if task.options is not None:
        values["options"] = task.options.model_validate(recipe.options).model_dump(mode="json")
    return recipe.model_copy(update=values)


def _renamed(raw: dict[str, Any], model: str | None) -> dict[str, Any]:
    """The tables with another model; the arguments of the former model would mean nothing to it, so they go."""
    former = raw.get("model", {})
    if model is None or not isinstance(former, Mapping) or former.get("name", Recipe().model.name) == model:
        return raw
    return {**raw, "model": {"name": model}}


def _unsmoothed(raw: dict[str, Any], loss: str | None) -> dict[str, Any]:
    """The tables without the recipe's label smoothing, where another loss is asked for that has nothing to smooth."""
    given = raw.get("loss", {})
    if loss in (None, "auto", *SMOOTHED) or not isinstance(given, Mapping):
        return raw
    return {**raw, "loss": {key: value for key, value in given.items() if key != "label_smoothing"}}


def _load(
    recipe: str | Path | Mapping[str, Any] | Recipe | None, source: str | None, task: str | None
) -> tuple[dict[str, Any], str | None]:
    """The tables to begin with, and what to call them in an error."""
    if isinstance(recipe, Recipe):
        return recipe.to_dict(), recipe.name
    if isinstance(recipe, Mapping):
        return dict(recipe), None
    if recipe is not None and str(recipe).endswith(".toml"):
        return _read_file(Path(recipe)), str(recipe)
    if recipe is not None:
        return catalog.recipe_tables(str(recipe)), str(recipe)
    raw = default_recipe(source, task)
    return raw, raw.get("name")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        hint = "the recipes of `flambeau recipes` are named without .toml"
        raise RecipeError([f"the file cannot be read ({error.strerror}); {hint}"], where=path) from error
    except UnicodeDecodeError as error:
        raise RecipeError([f"the file is not UTF-8 text ({error.reason})"], where=path) from error
    return {"name": path.stem, **read_toml(text, where=path)}


def default_recipe(source: str | None, task: str | None) -> dict[str, Any]:
    """The tables of a source's recipe: the one of its name, if it is for the task that is wanted, else the task's own.

    Where no task is named, it is the one that the source looks like.
    """
    wanted = task or task_of(source)
    if source is not None and source in catalog.recipe_names() and task_of(source) == wanted:
        return catalog.recipe_tables(source)
    return {**catalog.tables(catalog.task(wanted)), "task": wanted}
