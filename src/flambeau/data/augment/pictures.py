"""The augmentation that a recipe asks for, put together: what is done to a batch of pictures, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flambeau.core import Batch, Draw, Transform
from flambeau.data.augment import colour
from flambeau.data.augment.geometry import crop, mirror, rotate, shift
from flambeau.data.augment.lots import draws
from flambeau.data.augment.mixing import beta_quantiles, cutmix, mixed_targets, mixup, rectangle
from flambeau.data.augment.randaugment import rand_augment

if TYPE_CHECKING:
    from flambeau.recipe import Augment

_MIRROR, _SHIFT, _CROP, _ROTATE, _COLOUR, _CUTOUT, _MIX = 1, 2, 3, 4, 5, 6, 7
"""Of draws; sounds and texts have numbers of their own."""


def picture_transform(augment: Augment, mirrored: bool, classes: int = 0) -> Transform | None:
    """The augmentation of ``batch["image"]`` that a recipe asks for, or None when it asks for none.

    First comes what moves a picture (mirror, shift, crop, rotate), then colours, RandAugment, cutout, and last mixing,
    which adds ``target``, float32 ``(N, K)``, to the batch.

    Args:
        augment: The recipe's table.
        mirrored: Whether half of the pictures are mirrored.
        classes: K; needed for mixing.
    """
    moves, colours = mirrored or _moves(augment), _colours(augment)
    if not (moves or colours or augment.randaugment or augment.cutout or augment.mixes):
        return None

    def transform(batch: Batch, draw: Draw) -> Batch:
        images = batch["image"]
        draw = Draw(draw.seed, draw.epoch, draw.rows.to(images.device))
        if moves:
            images = _moved(augment, mirrored, images, draw)
        if colours:
            images = _coloured(augment, images, draw)
        if augment.randaugment:
            images = rand_augment(images, draw, augment.randaugment, augment.magnitude)
        if augment.cutout:
            images = cut_out(images, draw, augment.cutout)
        if not augment.mixes:
            return {**batch, "image": images}
        images, share = _mixed(augment, images, draw)
        wanted = batch.get("target", batch["label"])
        return {**batch, "image": images, "target": mixed_targets(wanted, classes, share)}

    return transform


def _moves(augment: Augment) -> bool:
    return bool(augment.shift or augment.crop < 1 or augment.rotate)


def _moved(augment: Augment, mirrored: bool, images: Tensor, draw: Draw) -> Tensor:
    if mirrored:
        images = mirror(images, draws(draw, _MIRROR, 1)[:, 0] < 0.5)
    if augment.shift:
        moves = (draws(draw, _SHIFT, 2) * (2 * augment.shift + 1)).long() - augment.shift
        images = shift(images, moves[:, 0], moves[:, 1])
    if augment.crop < 1:
        side, down, right = draws(draw, _CROP, 3).unbind(1)
        images = crop(images, augment.crop + (1 - augment.crop) * side, down, right)
    if augment.rotate:
        images = rotate(images, augment.rotate * (2 * draws(draw, _ROTATE, 1)[:, 0] - 1))
    return images


def _colours(augment: Augment) -> bool:
    return bool(augment.brightness or augment.contrast or augment.saturation or augment.hue)


def _coloured(augment: Augment, images: Tensor, draw: Draw) -> Tensor:
    light, difference, colourfulness, turn = (2 * draws(draw, _COLOUR, 4) - 1).unbind(1)
    if augment.brightness:
        images = colour.brightness(images, 1 + augment.brightness * light)
    if augment.contrast:
        images = colour.contrast(images, 1 + augment.contrast * difference)
    if augment.saturation:
        images = colour.saturation(images, 1 + augment.saturation * colourfulness)
    if augment.hue:
        images = colour.hue(images, augment.hue * turn)
    return images


def cut_out(images: Tensor, draw: Draw, side: float) -> Tensor:
    """Each picture with a rectangle of its proportions in its own mean colour (DeVries and Taylor, arXiv 1708.04552).

    Args:
        images: ``(N, C, H, W)``, values 0 to 255.
        draw: With its rows on the pictures' device.
        side: The rectangle's sides as a fraction of the picture's. Its centre may lie anywhere, so a part of it may
            lie outside.

    Returns:
        float32 ``(N, C, H, W)``, values 0 to 255.
    """
    down, right = draws(draw, _CUTOUT, 2).unbind(1)
    inside = rectangle(images.shape[2], images.shape[3], torch.full_like(down, side), down, right)
    values = images.to(torch.float32)
    return torch.where(inside.unsqueeze(1), values.mean((2, 3), keepdim=True), values)


def _mixed(augment: Augment, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """The pictures, and how much of itself each kept. Where both ways are on, each picture draws one of them."""
    uniform, which, down, right = draws(draw, _MIX, 4).unbind(1)
    own = images.to(torch.float32)
    averaged, kept = own, torch.ones_like(uniform)
    if augment.mixup:
        kept = beta_quantiles(augment.mixup, uniform)
        averaged = mixup(own, kept)
    if not augment.cutmix:
        return averaged, kept
    patched, left = cutmix(own, beta_quantiles(augment.cutmix, uniform), down, right)
    if not augment.mixup:
        return patched, left
    patch = which < 0.5
    return torch.where(patch.view(-1, 1, 1, 1), patched, averaged), torch.where(patch, left, kept)
