"""Networks of torchvision and timm in a script: their own builders, and what was changed in what these gave."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from flambeau.eject.values import plain_text

PACKAGES = ("torchvision", "timm")


@dataclass(frozen=True, slots=True)
class Published:
    """A network as the builder of a package gave it.

    Attributes:
        network: Itself; what was changed in it later can be seen by comparison.
        package: The package.
        name: The network's there.
        arguments: Those it was called with.
        layers: How each layer without layers of its own was written then, by its path.
        numbers: The plain attributes of the network then.
    """

    network: nn.Module
    package: str
    name: str
    arguments: dict[str, Any]
    layers: dict[str, str]
    numbers: dict[str, Any]


def is_published(kind: type) -> bool:
    """Whether a class is of such a package."""
    return kind.__module__.partition(".")[0] in PACKAGES


@contextlib.contextmanager
def noting_builders(made: dict[int, Published]) -> Iterator[None]:
    """Inside the ``with`` block each network that a builder of these packages makes is noted, by its id."""
    import torchvision

    known = torchvision.models.get_model_builder

    def get_model_builder(name: str) -> Callable[..., nn.Module]:
        builder = known(name)

        @functools.wraps(builder)
        def noting(**given: Any) -> nn.Module:
            return _noted(made, "torchvision", name, builder, **given)

        return noting

    with contextlib.ExitStack() as stack:
        stack.enter_context(_replaced(torchvision.models, "get_model_builder", get_model_builder))
        timm = sys.modules.get("timm")  # imported by now where a network of it is made
        if timm is not None:
            create = timm.create_model

            def create_model(name: str, **given: Any) -> nn.Module:
                return _noted(made, "timm", name, functools.partial(create, name), **given)

            stack.enter_context(_replaced(timm, "create_model", create_model))
        yield


def _noted(
    made: dict[int, Published], package: str, name: str, builder: Callable[..., nn.Module], **arguments: Any
) -> nn.Module:
    network = builder(**arguments)
    made[id(network)] = Published(network, package, name, arguments, _layers(network), _numbers(network))
    return network


@contextlib.contextmanager
def _replaced(owner: Any, name: str, by: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, by)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _layers(network: nn.Module) -> dict[str, str]:
    return {name: repr(module) for name, module in network.named_modules() if not any(module.children())}


def _numbers(network: nn.Module) -> dict[str, Any]:
    values = [(name, value) for name, value in vars(network).items() if name[0] != "_" and name != "training"]
    return {name: value for name, value in values if isinstance(value, int | float | str)}


def definition(found: Published, name: str) -> str:
    """The function that makes a network as it is now; its first weights are drawn, and to be replaced.

    Args:
        found: What the builder gave.
        name: What the function is called.
    """
    given = ", ".join(f"{key}={value!r}" for key, value in found.arguments.items())
    now = _layers(found.network)
    lines = [
        f"network.set_submodule({path!r}, nn.{layer})" for path, layer in now.items() if found.layers.get(path) != layer
    ]
    numbers = _numbers(found.network)
    lines += [f"network.{key} = {value!r}" for key, value in numbers.items() if found.numbers.get(key) != value]
    said = f"as {found.package} builds it"
    said += ", with the layers that the size of the pictures asks for" if lines else ""
    built = f"torchvision.models.{found.name}({given})"
    if found.package == "timm":
        built = f"timm.create_model({', '.join(filter(None, (plain_text(found.name), given)))})"
    body = "".join(f"    {line}\n" for line in [f"network = {built}", *lines])
    return f'def {name}():\n    """{found.name} {said}."""\n{body}    return network'
