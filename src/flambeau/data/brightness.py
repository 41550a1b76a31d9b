"""How bright pictures are, as a whole and along their border, and which are unlike all that a model was trained on.

A model trained on light digits on black answers just as surely when it is shown dark digits on white, and is wrong.
The border gives such a picture away, since it shows the background. NumPy alone is needed, for exported files use it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MARGIN = 0.05
"""So far beyond the training pictures, of the way from black to white, a picture must lie to be doubted."""


def brightness(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean of all pixels and of the outermost ring of pixels, for each picture.

    Args:
        pictures: uint8 ``(N, C, H, W)``.

    Returns:
        ``(N, 2)`` in [0, 1].

    Example:
        >>> brightness(np.full((1, 3, 4, 4), 255, dtype=np.uint8)).tolist()
        [[1.0, 1.0]]
    """
    ring = _ring(*pictures.shape[1:])
    flat = pictures.reshape(len(pictures), math.prod(pictures.shape[1:]))
    # Whole numbers, whose sums do not depend on how many pictures come together.
    whole, border = flat.sum(axis=1, dtype=np.int64), flat[:, ring].sum(axis=1, dtype=np.int64)
    return np.stack([whole / flat.shape[1], border / len(ring)], axis=1) / 255


@lru_cache(maxsize=16)
def _ring(channels: int, height: int, width: int) -> NDArray[np.int64]:
    """Where the outermost pixels of a picture lie; a served model asks for one size again and again."""
    outer = np.ones((channels, height, width), dtype=bool)
    outer[:, 1:-1, 1:-1] = False
    return np.flatnonzero(outer)


def ranges(pictures: NDArray[np.uint8]) -> dict[str, list[float]]:
    """The darkest and the brightest of these pictures, as ``{"whole": [low, high], "border": [low, high]}``."""
    values = brightness(pictures)
    if not len(values):
        return {}
    lows, highs = values.min(axis=0).tolist(), values.max(axis=0).tolist()
    return {name: [lows[n], highs[n]] for n, name in enumerate(("whole", "border"))}


def doubts(pictures: NDArray[np.uint8], known: Mapping[str, Sequence[float]]) -> list[str | None]:
    """For each picture a sentence when it is darker or brighter than every training picture by more than ``MARGIN``.

    Args:
        pictures: uint8 ``(N, C, H, W)``.
        known: What :func:`ranges` gave for the training split; without it nothing is doubted.

    Example:
        >>> [doubt] = doubts(np.full((1, 1, 8, 8), 255, dtype=np.uint8), {"border": [0.0, 0.1]})
        >>> "brighter" in str(doubt)
        True
    """
    return [_doubt(row, known) for row in brightness(pictures).tolist()]


def _doubt(values: Sequence[float], known: Mapping[str, Sequence[float]]) -> str | None:
    # The border first: it tells light on dark from dark on light even where pictures differ much in brightness.
    for name, value, subject in (("border", values[1], "Its border"), ("whole", values[0], "The picture as a whole")):
        if name not in known:
            continue
        low, high = known[name]
        if low - MARGIN <= value <= high + MARGIN:
            continue
        compared = "brighter" if value > high else "darker"
        return (
            f"{subject} is {compared} ({value:.2f}) than in any training picture ({low:.2f} to {high:.2f}; 0 is black, "
            "1 white), so the answer may be worthless. If light and dark are exchanged, invert the picture."
        )
    return None
