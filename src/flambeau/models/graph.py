"""Which layer's output reaches which layer: the graph of a network, found by sending an example through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from flambeau.models.fit import dry_run
from flambeau.models.hooks import layers_of, watched

INPUT = "input"
"""The node that stands for the example."""


@dataclass(frozen=True, slots=True)
class Node:
    """One step on the way of an example.

    Attributes:
        name: The layer's path in the network; for an operation that joins several results, and for the input, a name
            of its own.
        kind: The layer's class, or the operation.
        shape: Of its first output tensor; empty where it gave none.
        sources: The numbers of the nodes whose results it took, in rising order.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    sources: tuple[int, ...]


def graph(network: nn.Module, example: Callable[[], object]) -> list[Node]:
    """The nodes of a network in the order in which they ran, the input first.

    Layers are modules without children and those that own parameters themselves. Between them only operations that
    join the results of several layers (a sum, a concatenation) are nodes; what merely passes a result on is not. The
    network is left as it was.

    Args:
        network: Any module.
        example: Sends one example through the network, or through a model that it is a part of.

    Example:
        >>> import torch
        >>> class Skip(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = nn.Linear(4, 4)
        ...     def forward(self, x):
        ...         return x + self.layer(x)
        >>> network = Skip()
        >>> [(node.name, node.sources) for node in graph(network, lambda: network(torch.ones(1, 4)))]
        [('input', ()), ('layer', (0,)), ('add', (0, 1))]
    """
    trail = _Trail()

    def enter(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        trail.enter((args, kwargs))

    def leave(name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        trail.leave(name or type(module).__name__, type(module).__name__, output)

    outer = network.register_forward_pre_hook(lambda module, args: trail.begin(args), prepend=True)
    with outer, watched(layers_of(network), leave, enter), dry_run(network), trail:
        example()
    return trail.nodes


class _Trail(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers of each tensor the nodes that it comes from."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: list[Node] = []
        self.origins: Any = WeakIdKeyDictionary()
        self.open: list[tuple[int, ...]] = []

    def begin(self, inputs: Any) -> None:
        if not self.nodes:
            self.nodes.append(Node(INPUT, INPUT, _shape(inputs), ()))
            self._mark(inputs, 0)

    def enter(self, inputs: Any) -> None:
        self.open.append(self._sources(tree_leaves(inputs)))

    def leave(self, name: str, kind: str, output: Any) -> None:
        sources = self.open.pop()
        if self.open:
            return  # a layer inside a layer is the outer one's own business
        self.nodes.append(Node(name, kind, _shape(output), sources))
        self._mark(output, len(self.nodes) - 1)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs or {}))
        sources = self._sources(leaves)
        if not sources:
            return result
        apart = {self.origins[leaf] for leaf in leaves if isinstance(leaf, Tensor) and leaf in self.origins}
        if len(apart) > 1 and not self.open:
            operation = func.overloadpacket.__name__.strip("_")
            self.nodes.append(Node(operation, operation, _shape(result), sources))
            sources = (len(self.nodes) - 1,)
        for tensor in _tensors(result):
            self.origins[tensor] = sources
        return result

    def _mark(self, value: Any, node: int) -> None:
        for tensor in _tensors(value):
            self.origins[tensor] = (node,)

    def _sources(self, leaves: Iterable[Any]) -> tuple[int, ...]:
        found = {
            node for leaf in leaves if isinstance(leaf, Tensor) and leaf in self.origins for node in self.origins[leaf]
        }
        return tuple(sorted(found))


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _shape(value: Any) -> tuple[int, ...]:
    return next((tuple(tensor.shape) for tensor in _tensors(value)), ())
