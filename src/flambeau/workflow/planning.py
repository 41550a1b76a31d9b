"""From what was asked for to a recipe: names, files, settings and flags put together in their order of precedence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flambeau import catalog
from flambeau.errors import RecipeError
from flambeau.recipe import Recipe, parse, put, read_toml, with_settings


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

    Raises:
        RecipeError: With every mistake that can be seen before data is read.
        UsageError: Nobody knows the recipe's name.
    """
    raw, where = _load(recipe, source)
    settings = list(settings)
    named = with_settings({}, settings).get("model", {})
    # Before the settings, since these may hold arguments of the model that a flag names.
    raw = _renamed(raw, model or (named.get("name") if isinstance(named, Mapping) else None))
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
    resolved = parse(raw, where=where, checks=catalog.CHECKS)
    mistakes = catalog.task(resolved.task).checks(resolved)
    if mistakes:
        raise RecipeError(mistakes, where=where)
    return resolved


def _renamed(raw: dict[str, Any], model: str | None) -> dict[str, Any]:
    """The tables with another model; the arguments of the former model would mean nothing to it, so they go."""
    former = raw.get("model", {})
    if model is None or not isinstance(former, Mapping) or former.get("name", Recipe().model.name) == model:
        return raw
    return {**raw, "model": {"name": model}}


def _load(
    recipe: str | Path | Mapping[str, Any] | Recipe | None, source: str | None
) -> tuple[dict[str, Any], str | None]:
    """The tables to begin with, and what to call them in an error."""
    if isinstance(recipe, Recipe):
        return recipe.to_dict(), recipe.name
    if isinstance(recipe, Mapping):
        return dict(recipe), None
    if recipe is not None and str(recipe).endswith(".toml"):
        return _read_file(Path(recipe)), str(recipe)
    name = str(recipe) if recipe is not None else default_recipe(source)
    return {"name": name, **read_toml(catalog.recipe_text(name), where=name)}, name


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        hint = "the recipes of `flambeau recipes` are named without .toml"
        raise RecipeError([f"the file cannot be read ({error.strerror}); {hint}"], where=path) from error
    except UnicodeDecodeError as error:
        raise RecipeError([f"the file is not UTF-8 text ({error.reason})"], where=path) from error
    return {"name": path.stem, **read_toml(text, where=path)}


def default_recipe(source: str | None) -> str:
    """The recipe of a source: the one of its name, else the one for pictures of any kind."""
    return source if source in catalog.recipe_names() else catalog.DEFAULT_RECIPE
