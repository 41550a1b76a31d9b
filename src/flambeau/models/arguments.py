"""Keyword arguments checked against a signature before anything is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from flambeau.errors import did_you_mean

PLACEMENT = frozenset({"device", "dtype"})
"""Where a layer lives is the recipe's to say (``train.device``), so these are not a layer's arguments here."""


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that can be given by keyword, by name, in order; empty for a signature that cannot be read.

    Example:
        >>> list(parameters(lambda width, *, depth=2: None))
        ['width', 'depth']
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return {}
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in signature.parameters.items() if p.kind in by_keyword and name not in PLACEMENT}


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether a function has ``**kwargs``, or a signature that cannot be read."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())


def mistakes(function: Callable[..., Any], given: Mapping[str, Any], supplied: Collection[str] = ()) -> list[str]:
    """What is wrong with the arguments given, as sentences: unknown names with a suggestion, and missing ones.

    Args:
        function: What is to be called.
        given: The arguments by name.
        supplied: Names that somebody else fills in; they are not missing.

    Example:
        >>> mistakes(lambda size, kernel: None, {"kernal": 3}, supplied=["size"])
        ["unknown argument 'kernal'. Did you mean kernel?", "the argument 'kernel' is missing"]
    """
    known = parameters(function)
    found = []
    if not takes_any(function):
        found = [
            f"unknown argument {name!r}. {did_you_mean(name, known) if known else 'It takes no arguments.'}"
            for name in given
            if name not in known
        ]
    required = [name for name, parameter in known.items() if parameter.default is inspect.Parameter.empty]
    absent = [name for name in required if name not in given and name not in supplied]
    return found + [f"the argument {name!r} is missing" for name in absent]
