"""Exported word vectors, asked for the words that are nearest to others."""

from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.data.inputs import query, word_inputs
from flambeau.export.portable.asking import Inputs, Shown
from flambeau.export.portable.card import Card
from flambeau.export.portable.running import File
from flambeau.export.portable.singly import Singly
from flambeau.tasks.answers import neighbours_cells, neighbours_line, neighbours_of

Query = list[tuple[int, float]]
"""Numbers of words, each with the sign that it is added with."""


def nearest(card: Card, unit: Any, wanted: Query) -> dict[str, Any]:
    """The words of the largest cosine with a sum, as :func:`flambeau.metrics.vectors.nearest` finds them.

    Args:
        card: What the file says.
        unit: The vectors of all words, each of length 1.
        wanted: The sum; its own words are left out.
    """
    numbers = [number for number, _ in wanted]
    summed = sum(sign * unit[number] for number, sign in wanted)
    cosines = unit @ summed / max(1e-12, float(np.linalg.norm(summed)))
    cosines[numbers] = -np.inf
    count = max(0, min(card.about["neighbours"], len(cosines) - len(numbers)))
    best = np.argsort(-cosines, kind="stable")[:count]
    return neighbours_of(card.about["words"], best.tolist(), cosines[best].tolist())


def opened(file: File, form: str) -> Singly:
    """The vectors of a file."""
    card, words = file.card, file.card.about["words"]
    made: Inputs = file.load()({"words": np.arange(len(words))})
    vectors = made["vectors"]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    return Singly(
        card,
        Shown(word_inputs, neighbours_line, neighbours_cells),
        lambda text: query(text, words, lower=card.about["lower"]),
        lambda wanted: nearest(card, unit, wanted),
    )
