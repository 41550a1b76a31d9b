"""A network of plain layers as the text of a function: a line a layer, with the shape that comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ELU: "elu",
    nn.GELU: "gelu",
    nn.LeakyReLU: "leaky_relu",
    nn.LogSoftmax: "log_softmax",
    nn.Mish: "mish",
    nn.ReLU: "relu",
    nn.SELU: "selu",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
    nn.Softplus: "softplus",
    nn.Tanh: "tanh",
}
"""The function in :mod:`flambeau.eject.numpy_parts` that does what a layer without settings does."""

Call = Callable[[str, Any], str]

CALLS: dict[type[nn.Module], Call] = {
    nn.BatchNorm1d: lambda name, layer: f'batch_norm(x, {_weights(name)}, RUNNING["{name}"], training)',
    nn.Conv2d: lambda name, layer: f"conv2d(x, {_weights(name)}{_padding(layer)})",
    nn.Dropout: lambda name, layer: f"dropout(x, {layer.p}, training)",
    nn.Flatten: lambda name, layer: "flatten(x)",
    nn.LayerNorm: lambda name, layer: f"layer_norm(x, {_weights(name)})",
    nn.Linear: lambda name, layer: f"linear(x, {_weights(name)})",
    nn.MaxPool2d: lambda name, layer: f"max_pool(x, {layer.kernel_size})",
}
"""The same for layers with settings or weights."""

MODES = (nn.BatchNorm1d, nn.Dropout)
"""Layers that behave otherwise while the network learns."""


def has_modes(network: nn.Sequential) -> bool:
    """Whether it matters to the network that it is being trained."""
    return any(isinstance(layer, MODES) for layer in network)


def network_text(network: nn.Sequential, example: Tensor) -> str:
    """The text of a module with the function ``network``, and with the running statistics of batch norms.

    Args:
        network: Of layers in :data:`ACTIVATIONS` and :data:`CALLS`.
        example: Pictures ``(N, C, H, W)`` of the size that it takes.
    """
    calls, shapes = [], []
    x = example.float()
    was_training, first = network.training, _shape(example)
    network.eval()
    with torch.no_grad():
        for name, layer in network.named_children():
            x = layer(x)
            kind = type(layer)
            calls.append(f"x = {ACTIVATIONS[kind]}(x)" if kind in ACTIVATIONS else f"x = {CALLS[kind](name, layer)}")
            shapes.append(_shape(x))
    network.train(was_training)
    calls[-1] = calls[-1].replace("x =", "return", 1)
    # The shapes stand in a column of their own, so that one can run down them with the eyes.
    width = max(map(len, calls))
    body = [f"    {call:<{width}}  # {shape}" for call, shape in zip(calls, shapes, strict=True)]
    training = ", training: bool = False" if has_modes(network) else ""
    signature = f"def network(x: Tensor, p: dict[str, Tensor]{training}) -> Tensor:"
    told = (
        f'    """The scores {shapes[-1]} of pictures {first}; the weights have the names that they have in the run."""'
    )
    heading = '"""The network, from pixels to a score for each class. On the right are the shapes that come out."""'
    return "\n".join([heading, *_running(network), signature, told, *body])


def _shape(x: Tensor) -> str:
    return f"({', '.join(['N', *map(str, x.shape[1:])])})"


def _weights(name: str) -> str:
    return f'p["{name}.weight"], p["{name}.bias"]'


def _padding(layer: nn.Conv2d) -> str:
    padding = int(layer.padding[0])
    return f", padding={padding}" if padding else ""


def _running(network: nn.Sequential) -> list[str]:
    """What batch norms track, as they begin: mean 0 and variance 1."""
    norms = [
        (name, layer.num_features) for name, layer in network.named_children() if isinstance(layer, nn.BatchNorm1d)
    ]
    if not norms:
        return []
    entries = ", ".join(f'"{name}": (np.zeros({width}), np.ones({width}))' for name, width in norms)
    return ["import numpy as np", f"RUNNING = {{{entries}}}"]
