"""A network of the user's own, from a Python file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from flambeau.core import Facts
from flambeau.errors import ModelError
from flambeau.models.arguments import mistakes, parameters


def from_file(spec: str, facts: Facts, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Makes the network that ``FILE.py:CLASS`` names; a function that returns a network will do as well.

    What the constructor asks for by name is passed to it: ``classes`` or ``num_classes`` (their number),
    ``class_names`` (a list), ``channels``, ``in_channels`` or ``num_channels``, ``size`` or ``image_size``
    ``(height, width)`` in pixels, any single number among the facts by its own name (``vocabulary``), and ``facts``
    (all of them). A constructor without such parameters gets none.

    Args:
        spec: The file and the class, as in ``my_net.py:Net``.
        facts: The task's, such as ``classes``, ``size``, ``channels``.
        arguments: Further arguments from the recipe, which win over those that the data gives.

    Returns:
        A network; whether it fits the data is for the task to find out.

    Raises:
        ModelError: When the object is not a module class or fails to build, or an argument does not exist.
    """
    from flambeau.userfile import load_object

    return from_object(load_object(spec), facts, arguments, where=spec)


def from_object(made_by: object, facts: Facts, arguments: Mapping[str, Any] | None = None, *, where: str) -> nn.Module:
    """Calls a module class (or a function that returns a module) with what the data and the recipe give."""
    if not callable(made_by) or isinstance(made_by, nn.Module):
        raise ModelError(
            "This does not name a network.",
            where=where,
            expected="a class derived from torch.nn.Module, or a function that returns such an object",
            received=f"an object of the type {type(made_by).__name__}",
            remedy="Write FILE.py:CLASS with the name of the class itself.",
        )
    known = parameters(made_by)
    given = {name: value for name, value in _offers(facts).items() if name in known} | dict(arguments or {})
    found = mistakes(made_by, given)
    if found:
        raise ModelError(
            f"The network cannot be made with these arguments: {'; '.join(found)}.",
            where=where,
            expected=f"arguments among {', '.join(known)}" if known else "no arguments",
            received=", ".join(given) or "none",
            remedy="Set them in the recipe under [model], or give them defaults.",
        )
    network = _call(made_by, given, where)
    if not isinstance(network, nn.Module):
        raise ModelError(
            "What was made is not a network.",
            where=where,
            expected="a torch.nn.Module",
            received=f"a {type(network).__name__}",
        )
    return network


def _offers(facts: Facts) -> dict[str, Any]:
    """What the data has to offer, by every name that people give it; single numbers and texts by their own."""
    offers: dict[str, Any] = {name: value for name, value in facts.items() if isinstance(value, int | float | str)}
    if "classes" in facts:
        names = list(facts["classes"])
        offers |= dict.fromkeys(("classes", "num_classes", "n_classes"), len(names)) | {"class_names": names}
    if "channels" in facts:
        offers |= dict.fromkeys(("channels", "in_channels", "num_channels"), facts["channels"])
    if "size" in facts:
        offers |= dict.fromkeys(("size", "image_size"), tuple(facts["size"]))
    return {**offers, "facts": facts}


def _call(made_by: Callable[..., object], given: Mapping[str, Any], where: str) -> object:
    try:
        return made_by(**given)
    except ModelError:
        raise
    # The constructor is the user's code and may raise anything; the traceback stays chained for --debug.
    except Exception as error:
        raise ModelError(
            f"The network's own constructor failed: {type(error).__name__}: {error}",
            where=where,
            received=", ".join(f"{name} = {value!r}" for name, value in given.items() if name != "facts") or None,
            remedy="Run with --debug to see the line.",
        ) from error
