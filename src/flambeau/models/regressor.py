"""The picture model whose outputs are numbers: what scales pixels and numbers travels with the weights as buffers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flambeau.models.classifier import Classifier


class Regressor(nn.Module):
    """A network that gives numbers in units of the training split's spread, and knows how to say them in the data's.

    Args:
        network: From float32 ``(N, C, H, W)`` to ``(N, T)``.
        mean: Of the pixels, as :class:`~flambeau.models.classifier.Classifier` takes it.
        std: Likewise.
        shift: For each number the mean of the training split (of its logarithm, where ``log``), ``(T,)``.
        scale: For each its standard deviation, ``(T,)``.
        log: Whether the network works with log(1 + number).

    Example:
        >>> model = Regressor(nn.Flatten(), None, None, shift=[10.0], scale=[2.0], log=False)
        >>> outputs = model(torch.tensor([[[[255]]]], dtype=torch.uint8))
        >>> outputs, model.values(outputs)
        (tensor([[1.]]), tensor([[12.]]))
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        *,
        shift: Sequence[float],
        scale: Sequence[float],
        log: bool,
    ) -> None:
        super().__init__()
        self.inner = Classifier(network, mean, std)
        self.log = log
        self.register_buffer("shift", torch.tensor(list(shift), dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(list(scale), dtype=torch.float32))

    @property
    def network(self) -> nn.Module:
        """The network alone."""
        return self.inner.network

    def forward(self, images: Tensor) -> Tensor:
        """Numbers in units of the spread, ``(N, T)`` float32, of pictures ``(N, C, H, W)`` from 0 to 255."""
        outputs: Tensor = self.inner(images)
        return outputs

    def values(self, outputs: Tensor) -> Tensor:
        """What ``forward`` gave, in the units of the data, float32 ``(N, T)``."""
        values = outputs.to(torch.float32) * self.scale + self.shift
        return values.expm1() if self.log else values

    def standard(self, values: Tensor) -> Tensor:
        """Numbers in the units of the data as ``forward`` ought to give them: the inverse of :meth:`values`."""
        return standardized(values, self.shift, self.scale, log=self.log)


def standardized(values: Tensor, shift: Tensor, scale: Tensor, *, log: bool) -> Tensor:
    """Numbers ``(N, T)`` in units of the training split's spread; ``shift``, ``scale`` and ``log`` as above."""
    return ((values.log1p() if log else values) - shift) / scale
