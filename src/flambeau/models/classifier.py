"""The picture classifier around a network: pixel scaling and temperature travel with the weights as buffers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flambeau.errors import ModelError
from flambeau.models.fit import check_fit
from flambeau.models.frozen import Frozen

__all__ = ["Classifier", "check_fit"]


class Classifier(nn.Module):
    """A network that takes pictures as they are stored, and normalises them itself.

    Pixels are divided by 255; then, where ``mean`` and ``std`` are given, ``(x - mean) / std`` follows a channel. The
    same operations in the same order as torchvision's ``ToTensor`` and ``Normalize``, so that the results are equal.

    Args:
        network: From float32 ``(N, C, H, W)`` to logits ``(N, K)``.
        mean: A number a channel, in units of the pixel range [0, 1], or None for no normalisation.
        std: As ``mean``; both are given or neither.

    Attributes:
        network: As given.
        mean: float32 ``(C, 1, 1)``, or None.
        std: float32 ``(C, 1, 1)``, or None.
        temperature: A float32 scalar that divides the logits when probabilities are wanted (Guo et al. 2017, "On
            calibration of modern neural networks"); 1 until it is fitted. ``forward`` leaves it alone.

    Raises:
        ModelError: When only one of ``mean`` and ``std`` is given, their lengths differ, or a ``std`` is not positive.

    Example:
        >>> classifier = Classifier(nn.Flatten(), mean=[0.5], std=[0.5])
        >>> classifier(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
        tensor([[-1.,  1.]])
    """

    mean: Tensor | None
    std: Tensor | None
    temperature: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        _check_statistics(mean, std)
        self.network = network
        self.register_buffer("mean", None if mean is None else torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", None if std is None else torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("temperature", torch.ones((), dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, K)`` of pictures ``(N, C, H, W)``, uint8 or float, on the scale from 0 to 255.

        A network of which only the last layer learns (:class:`~flambeau.models.frozen.Frozen`) takes features
        ``(N, F)`` as well.
        """
        features = isinstance(self.network, Frozen) and images.dim() == 2
        logits: Tensor = self.network(images if features else self.normalized(images))
        return logits

    def normalized(self, images: Tensor) -> Tensor:
        """Pictures as the network gets them, float32 ``(N, C, H, W)``."""
        pixels = images.float().div(255)
        if self.mean is not None and self.std is not None:
            pixels = (pixels - self.mean) / self.std
        return pixels


def _check_statistics(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    if (mean is None) != (std is None) or (mean is not None and std is not None and len(mean) != len(std)):
        raise ModelError(
            "Normalisation needs a mean and a standard deviation for each channel, or neither.",
            where="Classifier",
            received=f"mean {mean}, std {std}",
        )
    if std is not None and not all(value > 0 for value in std):
        raise ModelError(
            "Normalisation divides by the standard deviation, which must be above zero in every channel.",
            where="Classifier",
            received=f"std {list(std)}",
            remedy='A channel that never varies carries nothing; use images.normalize = "none" or "half".',
        )
