"""Colours changed: whole batches of pictures, each picture by an amount of its own.

Pictures are ``(N, C, H, W)`` with values 0 to 255, uint8 or float; results are float32 in the same range. An amount is
float32 ``(N,)``. The formulas are those of ``torchvision.transforms.v2.functional``, which the tests compare with.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GREY = (0.2989, 0.587, 0.114)
"""How much of a colour's brightness is red, green and blue (ITU-R BT.601)."""


def grey(images: Tensor) -> Tensor:
    """The brightness of each pixel, float32 ``(N, 1, H, W)``."""
    values = images.to(torch.float32)
    if values.shape[1] == 1:
        return values
    red, green, blue = values.unbind(1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue).unsqueeze(1)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Every value times a factor: 0 is black, 1 changes nothing."""
    return (images.to(torch.float32) * _wide(factor)).clamp(0, 255)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """The distance of every value from the picture's mean brightness times a factor: 0 is even grey."""
    return _blend(images, grey(images).mean((1, 2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """The distance of every pixel from grey of its brightness times a factor; grey pictures stay as they are."""
    return _blend(images, grey(images), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """The distance from a smoothed picture times a factor: below 1 it is smoothed, above it is sharpened.

    Each inner pixel is smoothed with its eight neighbours, its own weight being 5 of 13. The outermost stay.
    """
    values = images.to(torch.float32)
    if min(values.shape[-2:]) < 3:
        return values
    around = torch.nn.functional.avg_pool2d(values, 3, stride=1) * 9
    smooth = values.clone()
    smooth[..., 1:-1, 1:-1] = (around + 4 * values[..., 1:-1, 1:-1]) / 13
    return _blend(values, smooth, factor)


def hue(images: Tensor, turn: Tensor) -> Tensor:
    """The hue of every pixel turned, by -0.5 to 0.5 of the circle of colours; grey pictures stay as they are."""
    values = images.to(torch.float32)
    if values.shape[1] == 1:
        return values
    largest, smallest = values.amax(1), values.amin(1)
    spread = largest - smallest
    red, green, blue = values.unbind(1)
    safe = torch.where(spread == 0, 1.0, spread)
    sector = torch.where(
        largest == red,
        (green - blue) / safe,
        torch.where(largest == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    turned = torch.remainder(sector / 6 + turn.view(-1, 1, 1), 1.0)
    # Each channel is a trapezium over the circle of hues; red, green and blue differ in where it stands (Alvy Ray
    # Smith, "Color gamut transform pairs", SIGGRAPH 1978, in the closed form that graphics libraries use).
    channels = []
    for place in (5.0, 3.0, 1.0):
        along = torch.remainder(place + 6 * turned, 6.0)
        channels.append(largest - spread * torch.minimum(along, 4 - along).clamp(0, 1))
    return torch.stack(channels, 1)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Only so many of the eight bits of every value are kept, int64 ``(N,)``."""
    step = _wide(torch.exp2(8.0 - bits))
    return (_levels(images) / step).floor() * step


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Values from a threshold on are turned into their negative."""
    values = images.to(torch.float32)
    return torch.where(values >= _wide(threshold), 255 - values, values)


def autocontrast(images: Tensor) -> Tensor:
    """Each channel stretched so that its darkest value is 0 and its brightest 255; an even channel stays."""
    values = images.to(torch.float32)
    low, high = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    even = high == low
    scale = torch.where(even, 1.0, 255 / torch.where(even, 1.0, high - low))
    return ((values - torch.where(even, 0.0, low)) * scale).clamp(0, 255)


def equalize(images: Tensor) -> Tensor:
    """Each channel's values replaced so that all become about equally frequent, as Pillow's ``ImageOps.equalize``."""
    levels = _levels(images).long()
    n, channels, height, width = levels.shape
    each = levels.view(n * channels, -1)
    offset = 256 * torch.arange(len(each), device=each.device).unsqueeze(1)
    counts = torch.bincount((each + offset).flatten(), minlength=256 * len(each)).view(-1, 256)
    below = counts.cumsum(1)
    # The brightest value that occurs is left out of the step, so that it comes out as 255.
    last = counts.gather(1, each.amax(1, keepdim=True))
    step = (height * width - last) // 255
    table = torch.zeros_like(counts)
    table[:, 1:] = below[:, :-1]
    table = ((table + step // 2) // step.clamp(min=1)).clamp(0, 255)
    table = torch.where(step == 0, torch.arange(256, device=each.device), table)
    return table.gather(1, each).view(levels.shape).to(torch.float32)


def _wide(amount: Tensor) -> Tensor:
    return amount.view(-1, 1, 1, 1)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    share = _wide(factor)
    return (share * images.to(torch.float32) + (1 - share) * other).clamp(0, 255)


def _levels(images: Tensor) -> Tensor:
    """Values as one of the 256 levels that a stored picture has."""
    return images if images.dtype == torch.uint8 else images.round().clamp(0, 255)
