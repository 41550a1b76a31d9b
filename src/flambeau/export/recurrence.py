"""Recurrent layers in a form that can be traced for rows of any length."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

HELD = 1e4
"""A bias that holds a gate open, or negative shut: its sigmoid is exactly 1 or 0 in float32."""


@contextmanager
def recurrence() -> Iterator[None]:
    """Inside the ``with`` block LSTMs and GRUs are traced for rows of any length.

    PyTorch's own rule for tracing them writes a step for each place of the example, which fixes the length.
    """
    from torch.export import _patches

    with ExitStack() as rules:
        for cell in ("lstm", "gru"):
            # Not in every version; without it torch.export refuses the graph and says why.
            rule = getattr(_patches, f"register_{cell}_while_loop_decomposition", None)
            if rule is not None:
                rules.enter_context(rule())
        yield


def with_gates(network: nn.Module) -> nn.Module:
    """The network, or where it has simple recurrent layers, for which there is no such rule, a copy with GRUs instead.

    Example:
        >>> network = nn.Sequential(nn.RNN(2, 3, batch_first=True))
        >>> x = torch.randn(4, 5, 2)
        >>> bool(torch.allclose(with_gates(network)(x)[0], network(x)[0]))
        True
    """
    if not any(_simple(module) for module in network.modules()):
        return network
    made = copy.deepcopy(network)
    for parent in list(made.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.RNN) and _simple(child):
                setattr(parent, name, as_gru(child))
    return made


def _simple(module: nn.Module) -> bool:
    return isinstance(module, nn.RNN) and module.nonlinearity == "tanh" and module.bias


@torch.no_grad()
def as_gru(layer: nn.RNN) -> nn.GRU:
    """A GRU that does what a simple recurrent layer does: its reset gates are held open and its update gates shut.

    A GRU's new state is ``(1 - z) * tanh(W x + b + r * (U h + c)) + z * h``; with ``r = 1`` and ``z = 0`` that is
    ``tanh(W x + b + U h + c)``.
    """
    made = nn.GRU(
        layer.input_size,
        layer.hidden_size,
        layer.num_layers,
        batch_first=layer.batch_first,
        dropout=layer.dropout,
        bidirectional=layer.bidirectional,
    )
    own = dict(layer.named_parameters())
    for name, parameter in made.named_parameters():
        reset, update, new = parameter.chunk(3)
        reset.zero_(), update.zero_()
        if name.startswith("bias_ih"):
            reset.fill_(HELD)
            update.fill_(-HELD)
        new.copy_(own[name])
    return made.train(layer.training)
