"""The resize of pictures as sums and products: for graphs whose format has no antialiased one, and without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

HALF = 0.501
"""Added before rounding down. Exact halves are frequent (two pixels made one), and other programs' resizes end a
millionth above or below them: where a half itself is the border, the same picture would round both ways."""


def triangles(before: Any, after: Any) -> Any:
    """What each pixel of a side gives to each of the resized side, ``(after, before)``; rows sum to 1.

    Weights are triangular, as wide as the scale where the side shrinks. Takes arrays as well as tensors, so that a
    graph holds the same arithmetic.

    Args:
        before: The pixels' numbers from 0 on, float32.
        after: Those of the resized side.

    Example:
        >>> triangles(np.arange(4, dtype=np.float32), np.arange(2, dtype=np.float32))[0].tolist()
        [0.4285714328289032, 0.4285714328289032, 0.1428571492433548, 0.0]
    """
    # Of the last place, not of the number: a graph whose sizes are open cannot compare numbers while it is made.
    scale = (before[-1:] + 1) / after.shape[0]
    centre = (after[:, None] + 0.5) * scale
    weight = (1 - abs(before + 0.5 - centre) / scale.clip(min=1)).clip(min=0)
    return weight / weight.sum(1, keepdims=True)


def resized(picture: NDArray[np.uint8], size: Sequence[int]) -> NDArray[np.uint8]:
    """A picture uint8 ``(C, H, W)`` in another size, as :func:`flambeau.data.images.fit` makes it.

    Sums are added in another order than there, so that a pixel near a half may be rounded the other way.
    """
    if list(picture.shape[1:]) == list(size):
        return picture
    sides = zip(picture.shape[1:], size, strict=True)
    down, across = (triangles(*(np.arange(n, dtype=np.float32) for n in pair)) for pair in sides)
    # Of a large picture few rows give anything to each row of the small one.
    flat = np.stack([row[row > 0] @ picture[:, row > 0].astype(np.float32) for row in down], axis=1)
    small = flat @ across.T
    made: NDArray[np.uint8] = np.floor(small + HALF).clip(0, 255).astype(np.uint8)
    return made
