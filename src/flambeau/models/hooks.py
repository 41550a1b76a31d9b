"""Watching the layers of a network while an example goes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn

Named = Iterable[tuple[str, nn.Module]]
"""Modules with their paths in the network."""

Enter = Callable[[str, nn.Module, tuple[Any, ...], Mapping[str, Any]], None]
"""Is told a module's path, the module, and what it is called with."""

Leave = Callable[[str, nn.Module, tuple[Any, ...], Any], None]
"""Is told a module's path, the module, its inputs by position, and what it gave."""


def is_leaf(module: nn.Module) -> bool:
    """Whether a module has no others in it."""
    return not any(module.children())


def layers_of(network: nn.Module) -> Named:
    """The layers of a network: modules without children, and those that own parameters themselves.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.MultiheadAttention(3, 1))
        >>> [name for name, _ in layers_of(network)]
        ['0', '1', '1.out_proj']
    """
    for name, module in network.named_modules():
        if is_leaf(module) or any(True for _ in module.parameters(recurse=False)):
            yield name, module


def leaves_of(network: nn.Module) -> Named:
    """The modules of a network that have no others in them."""
    return ((name, module) for name, module in network.named_modules() if is_leaf(module))


@contextmanager
def watched(modules: Named, leave: Leave, enter: Enter | None = None) -> Iterator[None]:
    """Inside the ``with`` block each of these modules tells when it has run, and before, where that is wanted.

    Example:
        >>> import torch
        >>> ran = []
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with watched(leaves_of(network), lambda name, module, inputs, output: ran.append((name, output.shape))):
        ...     _ = network(torch.ones(1, 2))
        >>> ran
        [('0', torch.Size([1, 3])), ('1', torch.Size([1, 3]))]
    """
    with ExitStack() as stack:
        for name, module in modules:
            if enter is not None:
                stack.enter_context(module.register_forward_pre_hook(partial(enter, name), with_kwargs=True))
            stack.enter_context(module.register_forward_hook(partial(leave, name)))
        yield
