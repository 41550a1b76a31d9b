"""Examples mixed with another of their batch, and their labels with them: mixup and CutMix.

The partner is the example at the mirrored position of the batch, so whom an example meets depends on the batch. How
much of itself it keeps depends on the row alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_POINTS = 1025
"""Points at which the distribution is tabled; between them it is read off along a line."""


def beta_quantiles(alpha: float, uniform: Tensor) -> Tensor:
    """Numbers with the symmetric beta distribution, from as many uniform ones: float32 of their shape, in [0, 1].

    The inverse of the distribution function, tabled in double precision: up to the middle in v = x ** power,
    in which it is smooth also where the density goes to infinity; the other half is its mirror image.

    Args:
        alpha: Both parameters, above 0. Small ones keep to the ends, large ones to the middle; 1 is uniform.
        uniform: In [0, 1).

    Example:
        >>> [round(value, 3) for value in beta_quantiles(1.0, torch.tensor([0.0, 0.3, 0.75])).tolist()]
        [0.0, 0.3, 0.75]
    """
    power = min(alpha, 1.0)
    v = torch.linspace(0, 0.5**power, _POINTS, dtype=torch.float64)
    x = v ** (1 / power)
    density = (1 - x) ** (alpha - 1) * x ** (alpha - power)
    mass = F.pad((density[1:] + density[:-1]).cumsum(0), (1, 0))
    below, v = (0.5 * mass / mass[-1]).to(uniform.device, torch.float32), v.to(uniform.device, torch.float32)
    lower = torch.minimum(uniform, 1 - uniform).contiguous()
    right = torch.searchsorted(below, lower).clamp(1, _POINTS - 1)
    start, end = below[right - 1], below[right]
    share = ((lower - start) / (end - start).clamp(min=1e-30)).clamp(0, 1)
    near = torch.lerp(v[right - 1], v[right], share) ** (1 / power)
    return torch.where(uniform < 0.5, near, 1 - near)


def mixup(values: Tensor, share: Tensor) -> Tensor:
    """Each example averaged with its partner (Zhang et al., "mixup: beyond empirical risk minimization", 1710.09412).

    Args:
        values: ``(N, ...)``.
        share: How much each keeps of itself, float32 ``(N,)``.

    Returns:
        float32 ``(N, ...)``.
    """
    weight = share.view(-1, *[1] * (values.dim() - 1))
    own = values.to(torch.float32)
    return weight * own + (1 - weight) * own.flip(0)


def cutmix(images: Tensor, share: Tensor, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Each picture with a rectangle of its partner in it (Yun et al., "CutMix", arXiv 1905.04899).

    The rectangle has the picture's proportions; its centre may lie anywhere, and what is outside the picture is cut.

    Args:
        images: ``(N, C, H, W)``.
        share: The part of the area to keep, float32 ``(N,)`` in [0, 1].
        down: The centre's height, from top (0) to bottom (1), float32 ``(N,)``.
        right: The same from left to right.

    Returns:
        The pictures, and the part of its area that each really kept, float32 ``(N,)``.
    """
    side = (1 - share).sqrt()
    inside = rectangle(images.shape[-2], images.shape[-1], side, down, right)
    return torch.where(inside.unsqueeze(1), images.flip(0), images), 1 - inside.to(torch.float32).mean((1, 2))


def rectangle(height: int, width: int, side: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Rectangles of the picture's proportions as masks, bool ``(N, height, width)``.

    Args:
        height: In pixels.
        width: In pixels.
        side: As a fraction of the picture's sides, ``(N,)``.
        down: The centre's height, from top (0) to bottom (1), ``(N,)``.
        right: The same from left to right.
    """
    rows = (torch.arange(height, device=side.device) + 0.5) / height
    columns = (torch.arange(width, device=side.device) + 0.5) / width
    half = side.unsqueeze(1) / 2
    within = (rows - down.unsqueeze(1)).abs() <= half, (columns - right.unsqueeze(1)).abs() <= half
    return within[0].unsqueeze(2) & within[1].unsqueeze(1)


def mixed_targets(wanted: Tensor, classes: int, share: Tensor) -> Tensor:
    """The distribution over the classes after mixing, float32 ``(N, K)``, whose rows add up to 1.

    Args:
        wanted: Classes, int64 ``(N,)``, or distributions already, float32 ``(N, K)``.
        classes: K.
        share: How much each example kept of itself, float32 ``(N,)``.
    """
    own = wanted if wanted.is_floating_point() else F.one_hot(wanted, classes).to(torch.float32)
    return mixup(own, share)
