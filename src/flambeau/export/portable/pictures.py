"""Pictures to what a graph takes, read by the code that training reads them with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flambeau.data import brightness, decoding
from flambeau.data.opening import PictureRules, picture_inputs
from flambeau.data.resizing import resized
from flambeau.errors import DataError, FlambeauError
from flambeau.export.portable.asking import Front, Rows

PIXELS = 1 << 22
"""Pixels that go through a graph at a time, unless a single picture has more."""

Read = tuple[NDArray[Any], str | None]
"""A picture as the graph takes it, and what there is to doubt about it."""


def pictures(raw: Sequence[Any], about: Mapping[str, Any], bad: dict[int, FlambeauError]) -> Iterator[Rows]:
    """Pictures uint8 ``(N, H, W, C)`` of any size; neighbours of one size go together.

    For a graph of one shape they are float32 ``(1, C, H, W)``, and must have its size.
    """
    rules, static = PictureRules.from_facts(about["rules"]), about.get("static", False)
    waiting: list[Read] = []
    for row, read in enumerate(decoding.each(raw, lambda value: _read(value, rules, about))):
        if isinstance(read, DataError):
            bad[row] = read
            continue
        shape = read[0].shape
        room = 1 if static else PIXELS // max(1, shape[0] * shape[1])
        if waiting and (len(waiting) >= room or waiting[0][0].shape != shape):
            yield _together(waiting)
            waiting = []
        waiting.append(read)
    if waiting:
        yield _together(waiting)


def _together(read: Sequence[Read]) -> Rows:
    return Rows({"image": np.stack([picture for picture, _ in read])}, [doubt for _, doubt in read])


def _read(raw: Any, rules: PictureRules, about: Mapping[str, Any]) -> Read:
    picture = decoding.in_channels(decoding.decode_quietly(raw, rules, decoding.ignore), about["channels"])
    planes = picture.transpose(2, 0, 1)
    known = about.get("brightness", {})
    [doubt] = brightness.doubts(resized(planes, about["size"])[None], known) if known else [None]
    if about.get("static", False):
        return _of_size(planes, about["size"]).astype(np.float32), doubt
    return picture, doubt


def _of_size(planes: NDArray[np.uint8], size: Sequence[int]) -> NDArray[np.uint8]:
    if list(planes.shape[1:]) != list(size):
        raise DataError(
            "The file was exported with --static: it takes pictures of one size, and this one has another.",
            expected=f"{size[1]} x {size[0]} pixels",
            received=f"{planes.shape[2]} x {planes.shape[1]}",
        )
    return planes


FRONT = Front(picture_inputs, pictures)
