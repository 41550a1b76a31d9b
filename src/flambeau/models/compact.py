"""A small convolutional family for pictures of 8 to 64 pixels, quick enough to train on a laptop's processor."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from flambeau.core import Facts
from flambeau.errors import ModelError
from flambeau.models.layers import CENTRING, map_norm
from flambeau.models.layers import activation as activation_named

SMALLEST_SIDE = 4
LAST_SIDE = 8


def compact(
    facts: Facts,
    *,
    width: int = 24,
    depth: int = 2,
    dropout: float = 0.0,
    activation: str = "relu",
    norm: str = "batch",
) -> nn.Module:
    """Stages of normalised 3x3 convolutions, halving the picture and doubling the channels in between.

    A stem at full resolution is followed by stages at half the side, a quarter and so on, until the side is at most 8.
    Within a stage the first convolution widens; the others are residual (He et al. 2016). The head sees each channel's
    largest value, wherever it is, so that it fits pictures of any size.

    Args:
        facts: ``classes``, ``size`` ``[height, width]`` in pixels, ``channels``.
        width: Channels of the stem; a stage has twice the channels of the one before.
        depth: Convolutions in each stage.
        dropout: The probability with which a feature is dropped before the last layer.
        activation: A name of :data:`flambeau.models.layers.ACTIVATIONS`, such as ``relu`` or ``gelu``.
        norm: What normalises the maps: ``batch``, ``group``, ``instance``, ``layer``, ``local-response`` or ``none``.

    Returns:
        A network from float32 ``(N, C, H, W)`` to logits ``(N, K)``.

    Raises:
        ModelError: When an argument is out of range, or the pictures are smaller than 4 pixels.

    Example:
        >>> import torch
        >>> network = compact({"classes": ["cat", "dog"], "size": [28, 28], "channels": 1})
        >>> network(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 2])
    """
    height, breadth = facts["size"]
    _check(width, depth, dropout, min(height, breadth))
    style = (activation, norm)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=ConvNorm(facts["channels"], width, *style))
    side, channels, stage = max(height, breadth), width, 0
    while stage == 0 or (side > LAST_SIDE and min(height, breadth) >> (stage + 1)):
        stage += 1
        side = side // 2
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
        layers[f"stage{stage}"] = Stage(channels, 2 * channels, depth, *style)
        channels = 2 * channels
    layers["largest"] = GlobalMaxPool()
    layers["dropout"] = nn.Dropout(dropout)
    layers["head"] = nn.Linear(channels, len(facts["classes"]))
    return nn.Sequential(layers)


class ConvNorm(nn.Module):
    """A 3x3 convolution that keeps the size, normalisation, activation: ``(N, C, H, W)`` to ``(N, D, H, W)``."""

    def __init__(self, in_channels: int, out_channels: int, activation: str, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=norm not in CENTRING)
        self.norm = map_norm(norm, out_channels)
        self.activation = activation_named(activation)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.activation(self.norm(self.conv(images)))
        return out


class Stage(nn.Module):
    """One widening convolution, then residual ones at the same width."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, activation: str, norm: str) -> None:
        super().__init__()
        self.widen = ConvNorm(in_channels, out_channels, activation, norm)
        self.residual = nn.ModuleList(
            [ConvNorm(out_channels, out_channels, activation, norm) for _ in range(depth - 1)]
        )

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.widen(images)
        for layer in self.residual:
            out = out + layer(out)
        return out


class GlobalMaxPool(nn.Module):
    """The largest value of each channel: ``(N, C, H, W)`` to ``(N, C)``.

    On small data it learns much faster than the average (89 % against 80 % in 8 epochs on 329 photographs, three seeds
    each). ``amax`` rather than ``nn.AdaptiveMaxPool2d``, whose backward pass is not deterministic on CUDA.
    """

    def forward(self, maps: Tensor) -> Tensor:
        return maps.amax(dim=(2, 3))


def _check(width: int, depth: int, dropout: float, side: int) -> None:
    for name, value in (("width", width), ("depth", depth)):
        if not isinstance(value, int) or value < 1:
            raise ModelError(
                f"compact needs a {name} of at least 1.",
                where=f"model.{name}",
                expected="a whole number from 1 on",
                received=repr(value),
            )
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ModelError(
            "The dropout probability is out of range.", where="model.dropout", expected="0 <= p < 1", received=dropout
        )
    if side < SMALLEST_SIDE:
        raise ModelError(
            "The pictures are too small for compact.",
            where="compact",
            expected=f"at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels",
            received=f"a side of {side}",
            remedy="Enlarge them, for example with images.size = 8, or choose the model mlp.",
        )
