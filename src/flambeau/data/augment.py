"""Training-time augmentation of whole batches of pictures, drawn by a counter-based hash.

What happens to a picture is a function of (seed, epoch, row) and of nothing else: not of the batch it is in, the
device, the number of workers or a generator's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from flambeau.core import Batch, Draw, Transform
from flambeau.data.hashing import key, keys

if TYPE_CHECKING:
    from flambeau.recipe import Augment

_MIRROR, _SHIFT, _CROP = 1, 2, 3


def draws(draw: Draw, stream: int, n: int) -> Tensor:
    """Uniform numbers in [0, 1): ``n`` for each row of a batch, float32 ``(len(rows), n)``.

    Args:
        draw: Seed, epoch and rows.
        stream: Tells independent uses apart.
        n: How many numbers a row.
    """
    rows = keys(key(draw.seed, draw.epoch, stream), draw.rows)
    columns = torch.arange(n, dtype=torch.int64, device=rows.device)
    bits = keys(key(stream, n), rows.unsqueeze(1) ^ keys(key(stream), columns))
    # 24 bits are what a float32 holds exactly, so that no number rounds up to 1.
    return ((bits >> 40) & 0xFFFFFF).to(torch.float32) / (1 << 24)


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
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.to(torch.float32), grid, padding_mode="border", align_corners=False)


def picture_transform(augment: Augment, mirrored: bool) -> Transform | None:
    """The augmentation of ``batch["image"]`` that a recipe asks for, or None when it asks for none.

    Args:
        augment: ``shift`` in pixels, and ``crop``, the smallest side of a random crop as a fraction.
        mirrored: Whether half of the pictures are mirrored.
    """
    pixels, smallest = augment.shift, augment.crop
    if not mirrored and not pixels and smallest >= 1:
        return None

    def transform(batch: Batch, draw: Draw) -> Batch:
        images = batch["image"]
        draw = Draw(draw.seed, draw.epoch, draw.rows.to(images.device))
        if mirrored:
            images = mirror(images, draws(draw, _MIRROR, 1)[:, 0] < 0.5)
        if pixels:
            moves = (draws(draw, _SHIFT, 2) * (2 * pixels + 1)).long() - pixels
            images = shift(images, moves[:, 0], moves[:, 1])
        if smallest < 1:
            side, down, right = draws(draw, _CROP, 3).unbind(1)
            images = crop(images, smallest + (1 - smallest) * side, down, right)
        return {**batch, "image": images}

    return transform
