"""Data sets by name or path, for use without a training run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flambeau import catalog
from flambeau.columns import Dataset
from flambeau.data.archives import is_archive, unpacked
from flambeau.data.sources import open_source
from flambeau.recipe import Recipe
from flambeau.userfile import in_file


def names() -> list[str]:
    """The built-in data sets."""
    return list(catalog.names("datasets"))


def load(source: Any, *, task: str | None = None, **settings: Any) -> Dataset:
    """Opens a data set as its source gives it: raw columns, the splits it comes with.

    Args:
        source: A built-in name, a file or folder, ``FILE.py:CLASS``, or objects of Python; as for
            :func:`flambeau.train`.
        task: What it is to be read for; found out from the source where it is not said.
        settings: Fields of a recipe's ``data`` part, such as ``root=["/data"]``.

    Raises:
        DataError: There is no such source, or it cannot be used.

    Example:
        >>> mini = load("fashion-mnist-mini")
        >>> len(mini.splits["train"]), mini.info["classes"][9]
        (5000, 'Ankle boot')
    """
    name = task or task_of(source)
    return opened(Recipe.model_validate({"task": name, "data": settings}), source)


def opened(recipe: Recipe, source: Any = None) -> Dataset:
    """The data of a recipe, or another source opened by the recipe's rules."""
    wanted = recipe.data.source if source is None else source
    return open_source(wanted, recipe, catalog.task(recipe.task).intake, loaders())


def task_of(source: Any) -> str:
    """The task that a source is for: that of the recipe of its name, else the first that a path looks right to."""
    if isinstance(source, str) and source in catalog.recipe_names():
        return str(catalog.recipe_tables(source).get("task", DEFAULT))
    if isinstance(source, str | os.PathLike) and not in_file(os.fspath(source)):
        path = Path(source).expanduser()
        if path.exists():
            inside = unpacked(path) if is_archive(path) else path
            return next((name for name in catalog.task_names() if catalog.task(name).intake.claims(inside)), DEFAULT)
    return DEFAULT


DEFAULT = "image-classification"
"""The task of a source that says nothing for itself, so that its errors are about pictures."""


def loaders() -> dict[str, Any]:
    """The built-in data sets, each loaded (and its module imported) only when it is called."""
    return {name: lambda root, name=name: catalog.find("datasets", name)(root) for name in names()}
