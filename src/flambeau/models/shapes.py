"""The arithmetic of feature-map sizes, for builders that must know it before there is a network to run."""

from __future__ import annotations

from collections.abc import Sequence

from flambeau.core import Facts
from flambeau.errors import ModelError

Step = tuple[str, int, int, int]
"""A layer's name, the channels it gives, its square kernel and its stride."""


def feature_map(model: str, facts: Facts, steps: Sequence[Step], padding: int = 0) -> tuple[int, int]:
    """Height and width that are left of a picture after unpadded layers (only the first may be padded).

    Raises:
        ModelError: When the picture shrinks below a layer's kernel; it names the layer, both shapes and the smallest
            size that works.

    Example:
        >>> steps = [("conv1", 6, 5, 1), ("pool1", 6, 2, 2)]
        >>> feature_map("lenet", {"size": [28, 28], "channels": 1}, steps, padding=2)
        (14, 14)
    """
    height, width = facts["size"]
    channels, pad = facts["channels"], padding
    for name, out_channels, kernel, stride in steps:
        if min(height, width) + 2 * pad < kernel:
            least = smallest_side(steps, padding)
            raise ModelError(
                f"The pictures are too small for {model}: too little is left of them at the layer {name}.",
                where=f"{model}, layer {name}",
                expected=f"an input of at least {channels} x {kernel - 2 * pad} x {kernel - 2 * pad}",
                received=f"{channels} x {height} x {width} (pictures are {_by(facts['size'])} pixels)",
                remedy=f"Enlarge the pictures with images.size = {least} or more, or choose the model compact or mlp.",
            )
        height = (height + 2 * pad - kernel) // stride + 1
        width = (width + 2 * pad - kernel) // stride + 1
        channels, pad = out_channels, 0
    return height, width


def smallest_side(steps: Sequence[Step], padding: int = 0) -> int:
    """The smallest side in pixels of which every layer leaves something.

    Example:
        >>> smallest_side([("conv1", 6, 5, 1), ("pool1", 6, 2, 2)])
        6
    """
    side = 1
    for _, _, kernel, stride in reversed(steps):
        side = (side - 1) * stride + kernel
    return max(1, side - 2 * padding)


def _by(size: Sequence[int]) -> str:
    return " x ".join(str(side) for side in size)
