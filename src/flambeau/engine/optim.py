"""Optimisers by name, with the one rule about them that is ours: weight decay spares biases and norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

NamedParameters = Sequence[tuple[str, nn.Parameter]]

Factory = Callable[[NamedParameters], torch.optim.Optimizer]
"""Makes the optimiser of a phase for the parameters that it trains."""


def optimizer(
    name: str,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
) -> Factory:
    """A maker of optimisers.

    Args:
        name: ``sgd``, ``adam``, ``adamw``, ``adagrad``, ``adadelta`` or ``rmsprop``.
        lr: The base learning rate; a schedule multiplies it.
        momentum: For ``sgd`` and ``rmsprop``.
        nesterov: For ``sgd``.
        weight_decay: For parameters of two dimensions and more: shrinking a bias or a norm's scale towards zero
            regularises nothing.
        betas: For ``adam`` and ``adamw``.
    """
    adaptive: dict[str, Any] = {"betas": betas, "fused": True}
    kind, specific = {
        "sgd": (torch.optim.SGD, {"momentum": momentum, "nesterov": nesterov}),
        "adam": (torch.optim.Adam, adaptive),
        "adamw": (torch.optim.AdamW, adaptive),
        "adagrad": (torch.optim.Adagrad, {}),
        "adadelta": (torch.optim.Adadelta, {}),
        "rmsprop": (torch.optim.RMSprop, {"momentum": momentum}),
    }[name]

    def make(parameters: NamedParameters) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = kind(_groups(parameters, weight_decay), lr=lr, **specific)
        for group in made.param_groups:
            group["initial_lr"] = lr
        return made

    return make


def _groups(parameters: NamedParameters, weight_decay: float) -> list[dict[str, Any]]:
    if not weight_decay:
        return [{"params": [parameter for _, parameter in parameters], "weight_decay": 0.0}]
    decayed = [parameter for _, parameter in parameters if parameter.dim() >= 2]
    spared = [parameter for _, parameter in parameters if parameter.dim() < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
