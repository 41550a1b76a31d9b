"""Networks of torchvision in a script: torchvision's own builder, and what was changed in what it gave."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

PACKAGE = "torchvision"


@dataclass(frozen=True, slots=True)
class Published:
    """A network as torchvision's builder gave it.

    Attributes:
        network: Itself; what was changed in it later can be seen by comparison.
        name: The builder's.
        arguments: Those it was called with.
        layers: How each layer without layers of its own was written then, by its path.
        numbers: The plain attributes of the network then.
    """

    network: nn.Module
    name: str
    arguments: dict[str, Any]
    layers: dict[str, str]
    numbers: dict[str, Any]


def is_published(kind: type) -> bool:
    """Whether a class is torchvision's."""
    return kind.__module__.partition(".")[0] == PACKAGE


@contextlib.contextmanager
def noting_builders(made: dict[int, Published]) -> Iterator[None]:
    """Inside the ``with`` block each network that a builder of torchvision makes is noted, by its id."""
    import torchvision

    known = torchvision.models.get_model_builder

    def get_model_builder(name: str) -> Callable[..., nn.Module]:
        builder = known(name)

        @functools.wraps(builder)
        def noting(**arguments: Any) -> nn.Module:
            network: nn.Module = builder(**arguments)
            made[id(network)] = Published(network, name, arguments, _layers(network), _numbers(network))
            return network

        return noting

    torchvision.models.get_model_builder = get_model_builder
    try:
        yield
    finally:
        torchvision.models.get_model_builder = known


def _layers(network: nn.Module) -> dict[str, str]:
    return {name: repr(module) for name, module in network.named_modules() if not any(module.children())}


def _numbers(network: nn.Module) -> dict[str, Any]:
    values = vars(network).items()
    return {name: value for name, value in values if isinstance(value, int | float | str) and name[0] != "_"}


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
    said = "as torchvision builds it" + (", with the layers that the size of the pictures asks for" if lines else "")
    body = "".join(f"    {line}\n" for line in [f"network = torchvision.models.{found.name}({given})", *lines])
    return f'def {name}():\n    """{found.name} {said}."""\n{body}    return network'
