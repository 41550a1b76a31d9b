"""Pictures as tensors: whatever comes in, decoded and fitted to the size and channels that a network takes.

These are the functions that training, prediction and serving share, so that a picture is the same tensor in each. How
a file becomes pixels is in :mod:`flambeau.data.decoding`, which needs no PyTorch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flambeau.columns import Column
from flambeau.data import decoding
from flambeau.data.decoding import Warn, ignore, luma, remedy_for
from flambeau.data.opening import DEFAULT_RULES, PictureRules, check_size, quiet, read_header
from flambeau.data.resizing import HALF, triangles
from flambeau.errors import BadRows, DataError, FlambeauError


def decode(raw: Any, rules: PictureRules = DEFAULT_RULES, *, warn: Warn | None = None) -> Tensor:
    """One picture as uint8 ``(C, H, W)`` with 1 or 3 channels, whatever form it comes in.

    16-bit grey is rescaled, transparency is composited on the background, EXIF orientation is applied, and of several
    frames the first is taken.

    Args:
        raw: A path, the bytes of a file, a picture of Pillow, a uint8 array ``(H, W)`` or ``(H, W, C)``, or a uint8
            tensor ``(H, W)`` or ``(C, H, W)``.
        rules: What is refused, and the background.
        warn: Told of what was read although something is odd about it.

    Raises:
        DataError: It cannot be read, or the rules refuse it.

    Example:
        >>> from PIL import Image
        >>> decode(Image.new("RGB", (4, 2), "white")).shape
        torch.Size([3, 2, 4])
    """
    with quiet():
        return _decode(raw, rules, warn or ignore)


def probe(raw: Any, rules: PictureRules = DEFAULT_RULES) -> tuple[int, int, int]:
    """Width, height and channels of a picture; of a file only the header is read, nothing is decoded.

    Args:
        raw: Whatever :func:`decode` takes.
        rules: What is refused, and the background.

    Raises:
        DataError: It is not a picture, or the rules refuse its size.
    """
    if isinstance(raw, str | os.PathLike | bytes | bytearray | memoryview):
        header = read_header(raw if isinstance(raw, str | os.PathLike) else bytes(raw), rules)
        return header.width, header.height, header.channels
    channels, height, width = decode(raw, rules).shape
    return width, height, channels


def fit(pictures: Tensor, size: tuple[int, int], channels: int) -> Tensor:
    """Pictures in the size and channels asked for: grey to RGB or back, then one antialiased resize.

    Grey is made with the weights of ITU-R BT.601 in the integer arithmetic of Pillow's mode L. The resize is bilinear
    and antialiased in float32, rounded to uint8, halves up. Pictures that fit already come back as they are. Each
    picture comes out as it would alone.

    Args:
        pictures: uint8 ``(N, C, H, W)`` with 1 or 3 channels.
        size: Height and width.
        channels: 1 or 3.

    Returns:
        uint8 ``(N, channels, height, width)``.
    """
    pictures = in_channels(pictures, channels)
    height, width = size
    if pictures.shape[-2:] == (height, width):
        return pictures
    # One channel a picture has only one memory layout, so that the result does not depend on how many come together.
    planes = pictures.reshape(-1, 1, pictures.shape[-2], pictures.shape[-1])
    return resized(planes, size).to(torch.uint8).reshape(-1, channels, height, width)


def in_channels(pictures: Tensor, channels: int) -> Tensor:
    """Pictures uint8 ``(..., C, H, W)`` with 1 or 3 channels in the number asked for, as :func:`fit` says."""
    if pictures.shape[-3] == channels:
        return pictures
    return _grey(pictures) if channels == 1 else pictures.expand(*pictures.shape[:-3], 3, -1, -1)


def resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """The resize of :func:`fit`: any dtype ``(N, C, H, W)`` from 0 to 255 to whole numbers in float32.

    It stands alone because an exported graph holds it as well, where sizes are not known beforehand.
    """
    small = torch.nn.functional.interpolate(
        planes.to(torch.float32), size=size, mode="bilinear", align_corners=False, antialias=True
    )
    return (small + HALF).floor().clamp(0, 255)


def resized_by_matrices(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """As :func:`resized`, from sums and products alone, for graphs in formats that have no antialiased resize."""
    sides = zip(planes.shape[-2:], size, strict=True)
    down, across = (
        triangles(*(torch.arange(n, dtype=torch.float32, device=planes.device) for n in pair)) for pair in sides
    )
    small: Tensor = down @ planes.to(torch.float32) @ across.transpose(0, 1)
    return (small + HALF).floor().clamp(0, 255)


def _grey(pictures: Tensor) -> Tensor:
    red, green, blue = pictures.to(torch.int32).unbind(-3)
    grey: Tensor = luma(red, green, blue)
    return grey.to(torch.uint8).unsqueeze(-3)


def read_pictures(
    rows: Column,
    size: tuple[int, int],
    channels: int,
    rules: PictureRules = DEFAULT_RULES,
    *,
    warn: Warn | None = None,
) -> Tensor:
    """Every row decoded and fitted, uint8 ``(N, channels, height, width)``.

    Reading many rows gives, bit for bit, what reading each alone gives.

    Args:
        rows: A uint8 tensor ``(N, C, H, W)`` or ``(N, H, W)``, or a list of whatever :func:`decode` takes.
        size: Height and width.
        channels: 1 or 3.
        rules: What is refused, and the background.
        warn: Told of what is odd, with the row's name.

    Raises:
        BadRows: Some rows cannot be read; it has the error of each.
    """
    if isinstance(rows, Tensor):
        return _read_dense(rows, size, channels, rules)
    rows = list(rows)
    out = torch.empty((len(rows), channels, *size), dtype=torch.uint8)
    bad: dict[int, FlambeauError] = {}
    for row, result in enumerate(_each(rows, rules, warn or ignore)):
        if isinstance(result, DataError):
            bad[row] = result
        else:
            out[row] = fit(result.unsqueeze(0), size, channels)[0]
    if bad:
        raise BadRows(bad)
    return out


def decode_all(rows: Sequence[Any], rules: PictureRules = DEFAULT_RULES, *, warn: Warn | None = None) -> list[Tensor]:
    """Every row decoded, each uint8 ``(C, H, W)`` in its own size.

    Raises:
        BadRows: Some rows cannot be read; it has the error of each.
    """
    results = list(_each(rows, rules, warn or ignore))
    bad: dict[int, FlambeauError] = {row: error for row, error in enumerate(results) if isinstance(error, DataError)}
    if bad:
        raise BadRows(bad)
    return [picture for picture in results if isinstance(picture, Tensor)]


def _each(rows: Sequence[Any], rules: PictureRules, warn: Warn) -> Iterator[Tensor | DataError]:
    return decoding.each(rows, lambda raw: _decode(raw, rules, warn))


def _read_dense(rows: Tensor, size: tuple[int, int], channels: int, rules: PictureRules) -> Tensor:
    rows = rows.unsqueeze(1) if rows.dim() == 3 else rows
    if rows.dtype != torch.uint8 or rows.dim() != 4 or rows.shape[1] not in (1, 3):
        raise DataError(
            "This tensor does not hold pictures.",
            expected="uint8 of shape (N, C, H, W) with 1 or 3 channels, or (N, H, W)",
            received=f"{_dtype(rows)} of shape {tuple(rows.shape)}",
        )
    check_size(rows.shape[3], rows.shape[2], rules)
    if rows.shape[1] == channels and rows.shape[2:] == size:
        return rows
    return (
        torch.cat([fit(part, size, channels) for part in torch.split(rows, 1024)])
        if len(rows)
        else rows.new_empty((0, channels, *size))
    )


def channel_statistics(pictures: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all pixels, in units of [0, 1]; exact, from a histogram.

    Args:
        pictures: uint8 ``(N, C, H, W)``.

    Example:
        >>> channel_statistics(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
        ([0.5], [0.5])
    """
    return statistics_of(channel_counts(pictures))


def channel_counts(pictures: Tensor) -> Tensor:
    """How often each value occurs in each channel: uint8 ``(N, C, H, W)`` to int64 ``(C, 256)``; these add up."""
    counts = torch.zeros((pictures.shape[1], 256), dtype=torch.int64)
    for channel in range(pictures.shape[1]):
        for part in torch.split(pictures[:, channel], 4096):
            counts[channel] += torch.bincount(part.reshape(-1), minlength=256).cpu()
    return counts


def statistics_of(counts: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in units of [0, 1], from the counts of its values."""
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    mean = (share * values).sum(1, keepdim=True)
    return mean[:, 0].tolist(), (share * (values - mean) ** 2).sum(1).sqrt().tolist()


def _decode(raw: Any, rules: PictureRules, warn: Warn) -> Tensor:
    if isinstance(raw, Tensor):
        return _from_tensor(raw, rules)
    pixels = decoding.decode_quietly(raw, rules, warn)
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))


def _from_tensor(tensor: Tensor, rules: PictureRules) -> Tensor:
    shape_fits = tensor.dim() == 2 or (tensor.dim() == 3 and tensor.shape[0] in (1, 3))
    if tensor.dtype != torch.uint8 or not shape_fits:
        raise DataError(
            "This tensor is not a picture.",
            expected="uint8 of shape (H, W), (1, H, W) or (3, H, W)",
            received=f"{_dtype(tensor)} of shape {tuple(tensor.shape)}",
            remedy=remedy_for(tensor.dtype != torch.uint8, tensor.dim() == 3 and tensor.shape[2] in (1, 3), "tensor"),
        )
    tensor = tensor.detach().cpu()
    tensor = tensor.unsqueeze(0) if tensor.dim() == 2 else tensor
    check_size(tensor.shape[2], tensor.shape[1], rules, where="tensor")
    return tensor.contiguous()


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
