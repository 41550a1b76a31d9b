"""Data sets by name or path, for use without a training run."""

from __future__ import annotations

from typing import Any

from flambeau import catalog
from flambeau.core import Dataset
from flambeau.data.opening import PictureRules
from flambeau.data.sources import open_source
from flambeau.recipe import Data, Recipe


def names() -> list[str]:
    """The built-in data sets."""
    return list(catalog.names("datasets"))


def load(source: Any, **settings: Any) -> Dataset:
    """Opens a data set as its source gives it: raw columns, the splits it comes with.

    Args:
        source: A built-in name, a folder of pictures, ``FILE.py:CLASS``, or objects of Python; as for
            :func:`flambeau.train`.
        settings: Fields of a recipe's ``data`` part, such as ``root=["/data"]``.

    Raises:
        DataError: There is no such source, or it cannot be used.

    Example:
        >>> mini = load("fashion-mnist-mini")
        >>> len(mini.splits["train"]), mini.info["classes"][9]
        (5000, 'Ankle boot')
    """
    return open_source(source, Data(**settings), loaders())


def opened(recipe: Recipe, source: Any = None) -> Dataset:
    """The data of a recipe, or another source opened by the recipe's rules."""
    rules = PictureRules.of(recipe.images)
    return open_source(recipe.data.source if source is None else source, recipe.data, loaders(), rules=rules)


def loaders() -> dict[str, Any]:
    """The built-in data sets, each loaded (and its module imported) only when it is called."""
    return {name: lambda root, name=name: catalog.find("datasets", name)(root) for name in names()}
