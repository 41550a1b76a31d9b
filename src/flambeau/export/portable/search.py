"""Decoding by NumPy alone: the search of :mod:`flambeau.models.search`, for one source, over calls of two graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Begin = Callable[[NDArray[np.int64]], tuple[Arrays, Arrays]]
"""A source ``(1, S)`` to what it leaves behind and the state before the first token, each of one row."""

Step = Callable[[NDArray[np.int64], Arrays, Arrays], tuple[NDArray[np.float32], Arrays]]
"""The last token of each row, memory and state to the logits ``(K, V)`` of what follows, and the state after it."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a search found: tokens up to and with the end, the score, and whether it ended by itself."""

    tokens: tuple[int, ...]
    score: float
    complete: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """How it is searched.

    Attributes:
        beam: Hypotheses that are kept; 1 is greedy.
        penalty: The exponent of the length penalty.
        start: The token that everything begins with.
        end: The token that ends a hypothesis.
        never: Tokens that are no part of a text.
    """

    beam: int
    penalty: float
    start: int
    end: int
    never: Sequence[int]

    def divided(self, score: float, length: int) -> float:
        """A sum of log-probabilities over the length penalty (Wu et al. 2016, eq. 14)."""
        return float(score / ((5.0 + length) / 6.0) ** self.penalty)


def search(begin: Begin, step: Step, source: NDArray[np.int64], longest: int, rules: Rules) -> Hypothesis:
    """The best sequence that greedy or beam search finds for a source ``(1, S)``, of at most so many tokens."""
    memory, state = begin(source)
    if rules.beam == 1:
        return _greedy(step, memory, state, longest, rules)
    each = np.zeros(rules.beam, dtype=np.int64)
    memory, state = _rows(memory, each), _rows(state, each)
    # At the start all beginnings are the same one, so only the first counts.
    live = np.full(rules.beam, -np.inf, dtype=np.float32)
    live[0] = 0.0
    texts: list[tuple[int, ...]] = [()] * rules.beam
    found: list[Hypothesis] = []
    for length in range(1, longest + 1):
        tokens = np.array([text[-1] if text else rules.start for text in texts], dtype=np.int64)
        logits, state = step(tokens, memory, state)
        scores = _log_probabilities(logits, rules.never) + live[:, None]
        # As many again as are kept, for those that end are not gone on with.
        order = np.argsort(-scores, axis=None, kind="stable")[: 2 * rules.beam]
        ways = [(float(scores.flat[place]), *divmod(int(place), scores.shape[1])) for place in order]
        over = length == longest
        for score, parent, token in ways[: rules.beam]:
            if (token == rules.end or over) and score > -np.inf:
                text = (*texts[parent], token)
                found.append(Hypothesis(text, rules.divided(score, length), token == rules.end))
        found = sorted(found, key=lambda hypothesis: -hypothesis.score)[: rules.beam]
        going = [way for way in ways if way[2] != rules.end][: rules.beam]
        hope = rules.divided(going[0][0], length)
        # Done where nothing that still goes on is better than the worst that is kept, as lengths are now.
        if over or hope == -np.inf or (len(found) == rules.beam and hope <= found[-1].score):
            break
        texts = [(*texts[parent], token) for _, parent, token in going]
        live = np.array([score for score, _, _ in going], dtype=np.float32)
        state = _rows(state, np.array([parent for _, parent, _ in going], dtype=np.int64))
    return found[0]


def _greedy(step: Step, memory: Arrays, state: Arrays, longest: int, rules: Rules) -> Hypothesis:
    text: tuple[int, ...] = ()
    total = np.float32(0.0)
    while len(text) < longest and rules.end not in text[-1:]:
        logits, state = step(np.array([text[-1] if text else rules.start], dtype=np.int64), memory, state)
        scores = _log_probabilities(logits, rules.never)[0]
        token = int(scores.argmax())
        text, total = (*text, token), total + scores[token]
    return Hypothesis(text, rules.divided(float(total), len(text)), text[-1] == rules.end)


def _log_probabilities(logits: NDArray[np.float32], never: Sequence[int]) -> NDArray[np.float32]:
    shifted = logits - logits.max(1, keepdims=True)
    scores: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    scores[:, list(never)] = -np.inf
    return scores


def _rows(arrays: Arrays, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    return {name: array[rows] for name, array in arrays.items()}
