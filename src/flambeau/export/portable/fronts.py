"""Raw inputs to what a graph takes, by NumPy alone: the reading that training does, by the same code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flambeau.data import decoding
from flambeau.data.inputs import picture_inputs, text_inputs, text_problem
from flambeau.data.opening import PictureRules
from flambeau.data.tokenizing import numbers_of
from flambeau.errors import DataError, FlambeauError
from flambeau.export.portable.asking import Inputs

PIXELS = 1 << 22
"""Pixels that go through a graph at a time, unless a single picture has more."""

TEXTS = 64
"""Texts that go through a graph at a time."""


@dataclass(frozen=True, slots=True)
class Front:
    """What one kind of raw input needs.

    Attributes:
        inputs: What the arguments of ``predict`` stand for: for each input a name to print and the raw value.
        batches: The inputs for rows of raw values, in order, for as many at a time as fit; takes what the card says
            and where the errors of rows that cannot be read go, by their numbers.
    """

    inputs: Callable[[Sequence[str]], list[tuple[str, Any]]]
    batches: Callable[[Sequence[Any], Mapping[str, Any], dict[int, FlambeauError]], Iterator[Inputs]]


def pictures(raw: Sequence[Any], about: Mapping[str, Any], bad: dict[int, FlambeauError]) -> Iterator[Inputs]:
    """Pictures uint8 ``(N, H, W, C)`` of any size; neighbours of one size go together.

    For a graph of one shape they are float32 ``(1, C, H, W)``, and must have its size.
    """
    rules, static = PictureRules.from_facts(about["rules"]), about.get("static", False)

    def read(row: Any) -> NDArray[Any]:
        picture = decoding.in_channels(decoding.decode_quietly(row, rules, decoding.ignore), about["channels"])
        return _of_size(picture, about["size"]).transpose(2, 0, 1).astype(np.float32) if static else picture

    waiting: list[NDArray[Any]] = []
    for row, picture in enumerate(decoding.each(raw, read)):
        if isinstance(picture, DataError):
            bad[row] = picture
            continue
        room = PIXELS // max(1, picture.shape[0] * picture.shape[1])
        if waiting and (static or len(waiting) >= room or waiting[0].shape != picture.shape):
            yield {"image": np.stack(waiting)}
            waiting = []
        waiting.append(picture)
    if waiting:
        yield {"image": np.stack(waiting)}


def _of_size(picture: NDArray[np.uint8], size: Sequence[int]) -> NDArray[np.uint8]:
    if list(picture.shape[:2]) != list(size):
        raise DataError(
            "The file was exported with --static: it takes pictures of one size, and this one has another.",
            expected=f"{size[1]} x {size[0]} pixels",
            received=f"{picture.shape[1]} x {picture.shape[0]}",
        )
    return picture


def texts(raw: Sequence[Any], about: Mapping[str, Any], bad: dict[int, FlambeauError]) -> Iterator[Inputs]:
    """Token numbers int64 ``(N, T)``, each row followed by zeros; a text without a token has one unknown one."""
    for row, text in enumerate(raw):
        problem = text_problem(text)
        if problem:
            bad[row] = DataError(problem, received=None if isinstance(text, str) else repr(text)[:80])
    readable = [text for row, text in enumerate(raw) if row not in bad]
    for start in range(0, len(readable), TEXTS):
        part = readable[start : start + TEXTS]
        rows = numbers_of(about["tokenizer"], part, about["max_length"], about["before"], about["after"])
        shifted = [[number + about["shift"] for number in row] or [about["unknown"]] for row in rows]
        tokens = np.zeros((len(shifted), max(map(len, shifted))), dtype=np.int64)
        for place, numbers in zip(tokens, shifted, strict=True):
            place[: len(numbers)] = numbers
        yield {"tokens": tokens}


FRONTS = {"picture": Front(picture_inputs, pictures), "text": Front(text_inputs, texts)}
"""By ``preprocessing.front`` on the card."""
