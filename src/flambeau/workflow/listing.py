"""What the catalog holds, described in a line each."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import torch

from flambeau import catalog
from flambeau.errors import FlambeauError

FACTS = {"classes": [str(number) for number in range(10)], "size": [28, 28], "channels": 1}
"""The problem for which parameters are counted."""


def datasets() -> list[dict[str, Any]]:
    """The built-in data sets: ``name`` and ``about``."""
    return [{"name": name, "about": _about_module("datasets", name)} for name in catalog.names("datasets")]


def models() -> list[dict[str, Any]]:
    """The networks: ``name``, ``about``, ``arguments`` with their defaults, ``parameters`` for ten classes of 28x28."""
    return [
        {
            "name": name,
            "about": _first_sentence(catalog.find("models", name).__doc__),
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


def _about_module(kind: str, name: str) -> str:
    module = sys.modules[catalog.find(kind, name).__module__]
    sentence = _first_sentence(module.__doc__)
    return sentence.partition(": ")[2] or sentence


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())
