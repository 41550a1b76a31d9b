"""Optimisers by name, with the one rule about them that is ours: weight decay spares biases and norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from flambeau.engine.muon import Muon

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
        name: ``sgd``, ``adam``, ``adamw``, ``adagrad``, ``adadelta``, ``rmsprop`` or ``muon``.
        lr: The base learning rate; a schedule multiplies it.
        momentum: For ``sgd`` and ``rmsprop``; for ``muon``, where 0 means 0.95.
        nesterov: For ``sgd``.
        weight_decay: For parameters of two dimensions and more: shrinking a bias or a norm's scale towards zero
            regularises nothing.
        betas: For ``adam`` and ``adamw``, and for what ``muon`` leaves to the latter.
    """
    adaptive: dict[str, Any] = {"betas": betas, "fused": True}
    kind, specific = {
        "sgd": (torch.optim.SGD, {"momentum": momentum, "nesterov": nesterov}),
        "adam": (torch.optim.Adam, adaptive),
        "adamw": (torch.optim.AdamW, adaptive),
        "adagrad": (torch.optim.Adagrad, {}),
        "adadelta": (torch.optim.Adadelta, {}),
        "rmsprop": (torch.optim.RMSprop, {"momentum": momentum}),
        "muon": (Muon, {"momentum": momentum or 0.95, "betas": betas}),
    }[name]

    def make(parameters: NamedParameters) -> torch.optim.Optimizer:
        groups = _hidden_apart(parameters, weight_decay) if kind is Muon else _groups(parameters, weight_decay)
        made: torch.optim.Optimizer = kind(groups, lr=lr, **specific)
        return made

    return make


def _hidden_apart(parameters: NamedParameters, weight_decay: float) -> list[dict[str, Any]]:
    """Groups of which one holds the weights of hidden layers: all but the first weight and the last one.

    The first meets the raw input and the last makes the output; Muon is not for these.
    """
    hidden = [name for name, parameter in parameters if parameter.dim() >= 2][1:-1]
    groups = _groups([(name, parameter) for name, parameter in parameters if name not in hidden], weight_decay)
    between = [parameter for name, parameter in parameters if name in hidden]
    return [*groups, *([{"params": between, "weight_decay": weight_decay, "orthogonal": True}] if between else [])]


def _groups(parameters: NamedParameters, weight_decay: float) -> list[dict[str, Any]]:
    if not weight_decay:
        return [{"params": [parameter for _, parameter in parameters], "weight_decay": 0.0}]
    decayed = [parameter for _, parameter in parameters if parameter.dim() >= 2]
    spared = [parameter for _, parameter in parameters if parameter.dim() < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
