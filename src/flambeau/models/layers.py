"""Activations and normalisation layers by the names that networks take as arguments."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from flambeau.errors import ModelError, did_you_mean

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky-relu": nn.LeakyReLU,
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}

GROUPS = 8
"""Into so many groups at most the channels are divided for group normalisation."""


def group_norm(channels: int) -> nn.Module:
    """Normalisation within groups of channels of one picture: 8 groups, or the most that divide the channels evenly."""
    fitting = (groups for groups in range(min(GROUPS, channels), 0, -1) if channels % groups == 0)
    return nn.GroupNorm(next(fitting), channels)


MAP_NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "batch": nn.BatchNorm2d,
    "group": group_norm,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "layer": lambda channels: nn.GroupNorm(1, channels),
    "local-response": lambda channels: nn.LocalResponseNorm(5),
}
"""Normalisation of maps ``(N, C, H, W)``, made for a number of channels. ``layer`` is over all of a picture's maps."""

CENTRING = ("batch", "group", "instance", "layer")
"""Those that shift each channel themselves, so that a convolution before them needs no bias."""


def activation(name: str) -> nn.Module:
    """The activation of a name, as a module.

    Raises:
        ModelError: Nobody knows the name.
    """
    if name not in ACTIVATIONS:
        raise ModelError(
            f"The activation {name!r} is not known.",
            where="model.activation",
            remedy=did_you_mean(str(name), ACTIVATIONS),
        )
    return ACTIVATIONS[name]()


def map_norm(name: str, channels: int) -> nn.Module:
    """The normalisation of maps of a name; ``none`` passes them on.

    Raises:
        ModelError: Nobody knows the name.

    Example:
        >>> map_norm("group", 12)
        GroupNorm(6, 12, eps=1e-05, affine=True)
    """
    if name not in MAP_NORMS:
        raise ModelError(
            f"The normalisation {name!r} is not known.", where="model.norm", remedy=did_you_mean(str(name), MAP_NORMS)
        )
    make = MAP_NORMS[name]
    return nn.Identity() if make is None else make(channels)
