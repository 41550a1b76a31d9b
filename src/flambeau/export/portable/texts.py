"""Texts to what a graph takes, cut by the tokeniser that the card holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flambeau.data.doubts import of_text
from flambeau.data.inputs import text_inputs, text_problem
from flambeau.data.tokenizing import numbers_of
from flambeau.errors import DataError, FlambeauError
from flambeau.export.portable.asking import Front, Rows

TEXTS = 64
"""Texts that go through a graph at a time."""


def texts(raw: Sequence[Any], about: Mapping[str, Any], bad: dict[int, FlambeauError]) -> Iterator[Rows]:
    """Token numbers int64 ``(N, T)``, each row followed by zeros; a text without a token has one unknown one."""
    for row, text in enumerate(raw):
        problem = text_problem(text)
        if problem:
            bad[row] = DataError(problem, received=None if isinstance(text, str) else repr(text)[:80])
    readable = [text for row, text in enumerate(raw) if row not in bad]
    marks = len(about["before"]) + len(about["after"])
    for start in range(0, len(readable), TEXTS):
        part = readable[start : start + TEXTS]
        rows = numbers_of(about["tokenizer"], part, about["max_length"], about["before"], about["after"])
        shifted = [[number + about["shift"] for number in row] or [about["unknown"]] for row in rows]
        tokens = np.zeros((len(shifted), max(map(len, shifted))), dtype=np.int64)
        for place, numbers in zip(tokens, shifted, strict=True):
            place[: len(numbers)] = numbers
        yield Rows({"tokens": tokens}, [of_text(numbers, about["unknown"], marks) for numbers in shifted])


FRONT = Front(text_inputs, texts)
