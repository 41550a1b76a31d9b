"""Recordings to what a graph takes, read by the code that training reads them with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flambeau.data.waves import doubt, read_sound, sound_inputs
from flambeau.errors import DataError, FlambeauError
from flambeau.export.portable.asking import Front, Rows

SOUNDS = 16
"""Recordings that go through a graph at a time."""


def sounds(raw: Sequence[Any], about: Mapping[str, Any], bad: dict[int, FlambeauError]) -> Iterator[Rows]:
    """Recordings int16 ``(N, length)`` of the model's rate and length."""
    room = 1 if about.get("static", False) else SOUNDS
    waiting: list[NDArray[np.int16]] = []
    for row, value in enumerate(raw):
        try:
            waiting.append(read_sound(value, about["rate"], about["length"]))
        except DataError as error:
            bad[row] = error
        if len(waiting) == room:
            yield _together(waiting)
            waiting = []
    if waiting:
        yield _together(waiting)


def _together(read: Sequence[NDArray[np.int16]]) -> Rows:
    return Rows({"sound": np.stack(read)}, [doubt(sound) for sound in read])


FRONT = Front(sound_inputs, sounds)
