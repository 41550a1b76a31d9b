"""What the catalog holds, described in a line each."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import torch

from flambeau import catalog
from flambeau.core import Builder, Facts
from flambeau.data.datasets.locate import Layout, roots, seen
from flambeau.datasets import DEFAULT, task_of
from flambeau.errors import FlambeauError, UsageError, did_you_mean
from flambeau.models.published import published
from flambeau.task import Task

FEW = 12
"""Of so many networks at most the parameters are counted by building each."""


def datasets() -> list[dict[str, Any]]:
    """The built-in data sets, none of which is loaded for this.

    Returns:
        For each ``name``, ``about``, ``classes``, ``licence``, ``found`` (where its files are on this machine, or
        None) and ``download`` (the bytes that would be fetched otherwise, or None).
    """
    return [_dataset(name) for name in catalog.names("datasets")]


def _dataset(name: str) -> dict[str, Any]:
    module = sys.modules[catalog.find("datasets", name).__module__]
    info, layout = getattr(module, "INFO", {}), getattr(module, "LAYOUT", None)
    found = info.get("source")
    if isinstance(layout, Layout):
        # Some files go by several names.
        places = (seen(one, roots()) for one in getattr(module, "LAYOUTS", (layout,)))
        found = next((str(place.absolute()) for place in places if place is not None), None)
    return {
        "name": name,
        "about": _about(module.__doc__),
        "classes": info.get("classes"),
        "licence": info.get("licence"),
        "found": found,
        "download": layout.download if isinstance(layout, Layout) and found is None else None,
    }


def models(wanted: str | None = None) -> list[dict[str, Any]]:
    """The networks by family.

    Args:
        wanted: Only those with this in their names. Those of a collection, such as timm's, are listed for
            ``timm:`` and a part of a name, and not otherwise.

    Returns:
        For each ``name``, ``tasks``, ``about``, ``arguments`` with their defaults, ``parameters``, and ``weights``:
        None, or for a network that was published with weights ``publisher``, ``side`` (of the square pictures that
        they are meant for), ``megabytes`` (None where that is not known) and ``licence``. Parameters are counted as
        published where there are weights, else for a small problem of the first of the tasks, such as ten classes of
        28x28; they are None where counting would take long, or the network has to be told more.

    Raises:
        UsageError: No name has this in it.
        MissingExtra: The package of the collection is not installed.
    """
    part = (wanted or "").lower()
    places = [(name, tasks) for tasks in catalog.families().values() for name in _with(part, catalog.task(tasks[0]))]
    if not places:
        known = {name for tasks in catalog.families().values() for name in catalog.networks(catalog.task(tasks[0]))}
        raise UsageError(f"No network has {wanted!r} in its name.", remedy=did_you_mean(part, known))
    return [_model(name, tasks, count=len(places) <= FEW) for name, tasks in places]


def _with(part: str, task: Task) -> list[str]:
    """The networks of a task with this in their names."""
    collection, colon, _ = part.partition(":")
    if colon and collection in catalog.COLLECTIONS.get(f"models.{task.family}", {}):
        return catalog.collected(f"models.{task.family}", part)
    return [name for name in catalog.networks(task) if part in name]


def _model(name: str, tasks: list[str], count: bool) -> dict[str, Any]:
    task = catalog.task(tasks[0])
    builder = catalog.network(name, task)
    arguments = catalog.arguments(builder)
    row: dict[str, Any] = {
        "name": name,
        "tasks": tasks,
        "about": _first_paragraph(builder.__doc__),
        "arguments": {key: None if value is inspect.Parameter.empty else value for key, value in arguments.items()},
        "parameters": None,
        "weights": None,
    }
    known = published(builder)
    if known is not None:
        row |= known.listed()
        side = row["weights"]["side"]
        facts = {"classes": list(range(1000)), "size": [side, side], "channels": 3}
        return row if row["parameters"] or not count else row | {"parameters": _parameters(builder, facts)}
    return row | {"parameters": _parameters(builder, task.toy)}


def tasks() -> list[dict[str, Any]]:
    """The tasks: ``name``, ``about``, ``data`` (what may be given), ``datasets``, ``models``, its ``recipe``."""
    known = catalog.names("datasets")
    sources: dict[str, set[str]] = {}
    for name in known:
        sources.setdefault(task_of(name), set()).add(name)
    for tables in map(catalog.recipe_tables, catalog.recipe_names()):
        source = tables.get("data", {}).get("source")
        if source in known:
            sources.setdefault(tables.get("task", DEFAULT), set()).add(source)
    return [
        {
            "name": name,
            "about": task.about,
            "data": task.intake.forms,
            "datasets": sorted(sources.get(name, ())),
            "models": catalog.networks(task),
            "recipe": catalog.tables(task).get("name"),
        }
        for name, task in ((name, catalog.task(name)) for name in catalog.task_names())
    ]


def recipes() -> list[dict[str, Any]]:
    """The named recipes: ``name`` and ``about``."""
    return [
        {"name": name, "about": catalog.recipe_tables(name).get("description", "")} for name in catalog.recipe_names()
    ]


def _parameters(builder: Builder, facts: Facts) -> int | None:
    """How many parameters the network has by default, or None when it cannot be built without arguments."""
    try:
        with torch.device("meta"):
            network = builder(facts)
    except (FlambeauError, TypeError):
        return None
    return sum(parameter.numel() for parameter in network.parameters())


def _about(text: str | None) -> str:
    """The first paragraph without the name before its colon, beginning with a capital."""
    sentence = _first_paragraph(text)
    about = sentence.partition(": ")[2] or sentence
    return about[:1].upper() + about[1:]


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split()).replace("``", "")
