"""Pictures moved, cut, turned and skewed: whole batches, each picture by amounts of its own.

What comes into view from outside a picture is its nearest edge pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def mirror(images: Tensor, chosen: Tensor) -> Tensor:
    """Pictures ``(N, C, H, W)`` with the chosen ones (bool ``(N,)``) mirrored left to right."""
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)


def shift(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each picture moved by whole pixels; its edge pixels fill what comes free.

    Args:
        images: ``(N, C, H, W)`` of any dtype.
        down: Pixels, int64 ``(N,)``; negative is up.
        right: Pixels, int64 ``(N,)``; negative is left.
    """
    n, channels, height, width = images.shape
    y = (torch.arange(height, device=images.device) - down.unsqueeze(1)).clamp(0, height - 1)
    x = (torch.arange(width, device=images.device) - right.unsqueeze(1)).clamp(0, width - 1)
    places = (y.unsqueeze(2) * width + x.unsqueeze(1)).view(n, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, places).view(images.shape)


def crop(images: Tensor, side: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """A part of each picture, of the picture's own shape, enlarged to the whole (bilinear).

    Args:
        images: ``(N, C, H, W)``, values 0 to 255.
        side: The part's side as a fraction of the picture's, float32 ``(N,)`` in (0, 1].
        down: Where in the free space it lies, from top (0) to bottom (1), float32 ``(N,)``.
        right: The same from left to right.

    Returns:
        float32 ``(N, C, H, W)``, values 0 to 255.
    """
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, 0, 2] = (2 * right - 1) * (1 - side)
    theta[:, 1, 2] = (2 * down - 1) * (1 - side)
    return _looked_up(images, theta)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Each picture turned about its centre, counterclockwise by so many degrees ``(N,)`` (bilinear).

    Args:
        images: ``(N, C, H, W)``, values 0 to 255.
        degrees: float32 ``(N,)``.

    Returns:
        float32 ``(N, C, H, W)``, values 0 to 255.
    """
    angle = torch.deg2rad(degrees)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    return affine(images, [[cosine, -sine], [sine, cosine]])


def affine(images: Tensor, linear: list[list[Tensor]], move: list[Tensor] | None = None) -> Tensor:
    """Each picture under a map of its own (bilinear).

    Args:
        images: ``(N, C, H, W)``, values 0 to 255.
        linear: ``[[xx, xy], [yx, yy]]``, each float32 ``(N,)``: where in the picture to look, in pixels from its
            centre, for each place of the result. So it is the inverse of the map that the picture undergoes.
        move: ``[x, y]`` in pixels, each float32 ``(N,)``, added to that.

    Returns:
        float32 ``(N, C, H, W)``, values 0 to 255.
    """
    height, width = images.shape[-2:]
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    # grid_sample counts from -1 to 1 on both axes, so what crosses from one to the other is scaled by the sides.
    theta[:, 0, 0], theta[:, 0, 1] = linear[0][0], linear[0][1] * (height / width)
    theta[:, 1, 0], theta[:, 1, 1] = linear[1][0] * (width / height), linear[1][1]
    if move is not None:
        theta[:, 0, 2], theta[:, 1, 2] = 2 * move[0] / width, 2 * move[1] / height
    return _looked_up(images, theta)


def _looked_up(images: Tensor, theta: Tensor) -> Tensor:
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.to(torch.float32), grid, padding_mode="border", align_corners=False)
