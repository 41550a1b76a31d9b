"""RandAugment: each picture undergoes a few operations out of fourteen, by strengths of its own.

After Cubuk et al., "RandAugment: practical automated data augmentation with a reduced search space" (arXiv 1909.13719),
with the operations and ranges of ``torchvision.transforms.v2.RandAugment``. Two things differ: the strength of each
operation is drawn between 0 and the magnitude instead of being the magnitude, and places outside a picture are filled
with its edge instead of black.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from flambeau.core import Draw
from flambeau.data.augment import colour
from flambeau.data.augment.geometry import affine, rotate
from flambeau.data.augment.lots import draws

STRONGEST = 30
"""The magnitude at which operations are at the end of their ranges, as in the paper."""

_OPERATION = 101
"""Of the streams of draws this one and those after it, one for each operation in turn."""

Operation = Callable[[Tensor, Tensor], Tensor]
"""Pictures ``(N, C, H, W)`` of values 0 to 255 and a signed strength float32 ``(N,)`` in [-1, 1] to such pictures."""


def _skew(images: Tensor, strength: Tensor, axis: int) -> Tensor:
    """Along x (0) or y (1)."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    skewed = 0.3 * strength
    return affine(images, [[one, skewed], [zero, one]] if axis == 0 else [[one, zero], [skewed, one]])


def _move(images: Tensor, strength: Tensor, axis: int) -> Tensor:
    """Along x (0) or y (1)."""
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    moved = 150 / 331 * images.shape[3 - axis] * strength
    return affine(images, [[one, zero], [zero, one]], [moved, zero] if axis == 0 else [zero, moved])


OPERATIONS: dict[str, Operation] = {
    "identity": lambda images, strength: images.to(torch.float32),
    "skew-x": partial(_skew, axis=0),
    "skew-y": partial(_skew, axis=1),
    "move-x": partial(_move, axis=0),
    "move-y": partial(_move, axis=1),
    "rotate": lambda images, strength: rotate(images, 30 * strength),
    "brightness": lambda images, strength: colour.brightness(images, 1 + 0.9 * strength),
    "saturation": lambda images, strength: colour.saturation(images, 1 + 0.9 * strength),
    "contrast": lambda images, strength: colour.contrast(images, 1 + 0.9 * strength),
    "sharpness": lambda images, strength: colour.sharpness(images, 1 + 0.9 * strength),
    "posterize": lambda images, strength: colour.posterize(images, 8 - (4 * strength.abs()).round()),
    "solarize": lambda images, strength: colour.solarize(images, 255 * (1 - strength.abs())),
    "autocontrast": lambda images, strength: colour.autocontrast(images),
    "equalize": lambda images, strength: colour.equalize(images),
}


def rand_augment(images: Tensor, draw: Draw, operations: int, magnitude: float) -> Tensor:
    """Each picture after so many operations, which it draws one after another.

    Args:
        images: ``(N, C, H, W)``, values 0 to 255.
        draw: With its rows on the pictures' device.
        operations: How many a picture.
        magnitude: The largest strength, of 30.

    Returns:
        float32 ``(N, C, H, W)``, values 0 to 255.
    """
    values = images.to(torch.float32)
    for turn in range(operations):
        which, strength = draws(draw, _OPERATION + turn, 2).unbind(1)
        signed = (2 * strength - 1) * (magnitude / STRONGEST)
        chosen = (which * len(OPERATIONS)).long()
        for number, operation in enumerate(OPERATIONS.values()):
            values = where(chosen == number, operation, values, signed)
    return values


def where(chosen: Tensor, operation: Operation, images: Tensor, strength: Tensor) -> Tensor:
    """The pictures with an operation done to the chosen ones, bool ``(N,)``."""
    if images.device.type == "cpu":
        rows = chosen.nonzero()[:, 0]
        return images.index_copy(0, rows, operation(images[rows], strength[rows])) if len(rows) else images
    # To find out which are chosen would wait for the device; doing it to all of them and keeping some does not.
    return torch.where(chosen.view(-1, 1, 1, 1), operation(images, strength), images)
