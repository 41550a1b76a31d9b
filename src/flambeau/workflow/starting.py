"""What training starts from when nobody says: few examples from published weights, where these are on the machine."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from flambeau import catalog
from flambeau.columns import Dataset
from flambeau.models.weights import cached
from flambeau.recipe import Recipe, with_settings
from flambeau.task import Task
from flambeau.userfile import in_file
from flambeau.workflow.planning import with_inputs


def is_free(source: str | None, recipe: Any, model: Any, init: Any, settings: Iterable[str]) -> bool:
    """Whether nobody has said what network is wanted, for a file or folder of data, or what pictures it takes."""
    named = with_settings({}, settings).keys() & {"model", "images", "initial"}
    return (
        source is not None
        and source not in catalog.names("datasets")
        and not in_file(source)
        and all(asked is None for asked in (recipe, model, init))
        and not named
    )


def started(recipe: Recipe, dataset: Dataset, task: Task) -> tuple[Recipe, Dataset]:
    """The recipe with the network that the task begins few examples from, where its weights are in the cache.

    Nothing is fetched: that is for a command which asks for the weights by name. Either way a note of the data set says
    what training starts from; the run prints it and keeps it.
    """
    start = task.start
    rows = sum(len(split) for split in {id(split): split for split in dataset.splits.values()}.values())
    if start is None or rows >= start.below:
        return recipe, dataset
    name, *_ = start.model.values()
    if cached(start.file).is_file():
        given = recipe.model_copy(update={"model": recipe.model.model_validate(start.model)})
        found, mistakes = with_inputs(given)
        note = f"Training starts from the published weights of {name}, and its last layer alone learns. {start.gain} "
        note += f"To start from scratch: --model {recipe.model.name}"
        return (recipe, dataset) if mistakes else (found, _noted(dataset, note))
    asked = " ".join(f"--set model.{key}={str(value).lower()}" for key, value in start.model.items() if key != "name")
    command = f"flambeau train {shlex.quote(str(recipe.data.source))} --model {name} {asked}"
    fetched = f"To start from {name}'s, which fetches {start.megabytes} MB: {command}"
    return recipe, _noted(dataset, f"Training starts from scratch. {start.gain} {fetched}")


def _noted(dataset: Dataset, note: str) -> Dataset:
    return replace(dataset, info={**dataset.info, "notes": [*dataset.info.get("notes", ()), note]})
