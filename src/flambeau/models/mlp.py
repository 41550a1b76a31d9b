"""Fully connected networks: a picture as one long row of pixels, then linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import nn

from flambeau.core import Facts
from flambeau.errors import ModelError, did_you_mean
from flambeau.models.layers import activation as named

NORMS: dict[str, type[nn.Module] | None] = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def mlp(
    facts: Facts,
    *,
    widths: Sequence[int] = (512, 512),
    activation: str = "relu",
    norm: str = "none",
    dropout: float = 0.0,
    final_relu: bool = False,
    log_softmax: bool = False,
) -> nn.Module:
    """A multi-layer perceptron as one ``nn.Sequential``: flatten, then linear layers with activations between them.

    The layers are made in order and keep PyTorch's default initialisation, so that under one ``torch.manual_seed`` the
    weights equal those of the same network written by hand.

    Args:
        facts: ``classes``, ``size`` ``[height, width]`` in pixels, ``channels``.
        widths: Features of each hidden layer; an empty list gives a linear classifier.
        activation: A name of :data:`flambeau.models.layers.ACTIVATIONS`, such as ``relu`` or ``gelu``.
            Self-normalising networks (Klambauer et al., arXiv 1706.02515) are ``selu`` with a recipe whose
            ``initial.name`` is ``lecun-normal``.
        norm: What stands between a layer and its activation: ``none``, ``batch`` or ``layer`` normalisation.
        dropout: The probability with which a hidden feature is dropped; 0 adds no layer. With ``selu`` it is alpha
            dropout, which keeps mean and variance.
        final_relu: Puts a ReLU after the last layer. That is a mistake which one tutorial makes (a class whose score
            is below zero gets no gradient); it is here to be reproduced.
        log_softmax: Puts a log-softmax at the end, for the loss ``nll``.

    Returns:
        A network from float32 ``(N, C, H, W)`` to logits ``(N, K)`` (log-probabilities with ``log_softmax``).

    Raises:
        ModelError: When an argument is out of range.

    Example:
        >>> import torch
        >>> network = mlp({"classes": ["cat", "dog"], "size": [28, 28], "channels": 1}, widths=[64])
        >>> network(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 2])
    """
    _check(widths, activation, norm, dropout)
    features = facts["channels"] * prod(facts["size"])
    layers: list[nn.Module] = [nn.Flatten()]
    for width in widths:
        between = NORMS[norm]
        layers += [nn.Linear(features, width), *([between(width)] if between else []), named(activation)]
        if dropout:
            layers.append(nn.AlphaDropout(dropout) if activation == "selu" else nn.Dropout(dropout))
        features = width
    layers.append(nn.Linear(features, len(facts["classes"])))
    if final_relu:
        layers.append(nn.ReLU())
    if log_softmax:
        layers.append(nn.LogSoftmax(dim=1))
    return nn.Sequential(*layers)


def _check(widths: object, activation: str, norm: str, dropout: float) -> None:
    features = list(widths) if isinstance(widths, Sequence) and not isinstance(widths, str) else [None]
    if not all(isinstance(width, int) and width >= 1 for width in features):
        raise ModelError(
            "A hidden layer needs at least one feature.",
            where="model.widths",
            expected="a list of whole numbers from 1 on",
            received=repr(widths),
        )
    named(activation)
    if norm not in NORMS:
        raise ModelError(
            f"The normalisation {norm!r} is not known.", where="model.norm", remedy=did_you_mean(norm, NORMS)
        )
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ModelError(
            "The dropout probability is out of range.", where="model.dropout", expected="0 <= p < 1", received=dropout
        )
