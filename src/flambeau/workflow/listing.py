"""What the catalog holds, described in a line each."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import torch

from flambeau import catalog
from flambeau.data.datasets.locate import Layout, roots, seen
from flambeau.errors import FlambeauError

FACTS = {"classes": [str(number) for number in range(10)], "size": [28, 28], "channels": 1}
"""The problem for which parameters are counted."""


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
        place = seen(layout, roots())
        found = None if place is None else str(place.absolute())
    return {
        "name": name,
        "about": _about(module.__doc__),
        "classes": info.get("classes"),
        "licence": info.get("licence"),
        "found": found,
        "download": layout.download if isinstance(layout, Layout) and found is None else None,
    }


def models() -> list[dict[str, Any]]:
    """The networks: ``name``, ``about``, ``arguments`` with their defaults, ``parameters`` for ten classes of 28x28."""
    return [
        {
            "name": name,
            "about": _first_paragraph(catalog.find("models", name).__doc__),
            "arguments": {
                key: None if default is inspect.Parameter.empty else default
                for key, default in catalog.arguments(catalog.find("models", name)).items()
            },
            "parameters": _parameters(name),
        }
        for name in catalog.names("models")
    ]


def recipes() -> list[dict[str, Any]]:
    """The named recipes: ``name`` and ``about``."""
    return [{"name": name, "about": catalog.recipe(name).description} for name in catalog.recipe_names()]


def _parameters(name: str) -> int | None:
    """How many parameters the network has by default, or None when it cannot be built without arguments."""
    try:
        with torch.device("meta"):
            network = catalog.builder(name)(FACTS)
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
