"""The sections of a report that word vectors fill: neighbours, analogies, and a map of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from flambeau.metrics.vectors import nearest, unit
from flambeau.report import figures
from flambeau.report.elements import number, percent, table
from flambeau.report.page import Card, Section

SHOWN = 24
MAPPED = 70
EXAMPLES = 12
SHORTEST = 4
"""Shorter words, and those that are thinned out (the, of, and), say little by themselves and are not shown."""

ANALOGIES: Mapping[str, Sequence[tuple[str, str]]] = {
    "man and woman": (
        ("man", "woman"), ("king", "queen"), ("father", "mother"), ("son", "daughter"), ("brother", "sister"),
        ("husband", "wife"), ("boy", "girl"), ("he", "she"), ("his", "her"), ("prince", "princess"), ("uncle", "aunt"),
    ),
    "capital": (
        ("france", "paris"), ("england", "london"), ("germany", "berlin"), ("italy", "rome"), ("spain", "madrid"),
        ("russia", "moscow"), ("japan", "tokyo"), ("china", "beijing"), ("ireland", "dublin"), ("egypt", "cairo"),
    ),
    "people of a country": (
        ("france", "french"), ("england", "english"), ("germany", "german"), ("italy", "italian"), ("spain", "spanish"),
        ("russia", "russian"), ("japan", "japanese"), ("china", "chinese"), ("ireland", "irish"),
    ),
    "plural": (
        ("year", "years"), ("day", "days"), ("man", "men"), ("woman", "women"), ("child", "children"),
        ("game", "games"), ("song", "songs"), ("film", "films"), ("word", "words"), ("hand", "hands"), ("eye", "eyes"),
    ),
    "comparative": (
        ("good", "better"), ("large", "larger"), ("small", "smaller"), ("high", "higher"), ("low", "lower"),
        ("great", "greater"), ("long", "longer"), ("strong", "stronger"), ("old", "older"), ("young", "younger"),
    ),
    "past": (
        ("is", "was"), ("are", "were"), ("has", "had"), ("go", "went"), ("come", "came"), ("take", "took"),
        ("give", "gave"), ("make", "made"), ("see", "saw"), ("know", "knew"), ("say", "said"), ("find", "found"),
    ),
}  # fmt: skip
"""Pairs of words that stand in the same relation, of the kind that the paper tests (Mikolov et al., 2013, table 1)."""


@dataclass(frozen=True, slots=True)
class VectorReport:
    """What is reported about word vectors.

    Attributes:
        words: The V words, the most frequent first.
        counts: How often each occurs in the training text.
        vectors: ``(V, D)`` float32.
        keep: The probability that an occurrence of a word was kept, ``(V,)``.
        split: The name of the split that was scored.
        scores: Its scores.
        negatives: Noise words for each prediction.
    """

    words: Sequence[str]
    counts: Sequence[int]
    vectors: Tensor
    keep: Tensor
    split: str
    scores: Mapping[str, float]
    negatives: int


@dataclass(frozen=True, slots=True)
class Analogy:
    """One question ``a : b = c : ?`` and its answer.

    Attributes:
        kind: The relation.
        question: a, b and c.
        wanted: The right answer.
        answer: The nearest word to b - a + c among the others.
        rank: How many words are nearer than the right answer.
    """

    kind: str
    question: tuple[str, str, str]
    wanted: str
    answer: str
    rank: int


def vector_cards(report: VectorReport) -> list[Card]:
    """The headline numbers: loss, how often truth beats noise, the vocabulary, and analogies."""
    asked = analogies(report.words, report.vectors)
    right = sum(question.rank == 0 for question in asked)
    return [
        (f"{report.split} loss", f"{report.scores['loss']:.3f}", "nats a prediction"),
        ("above noise", percent(report.scores["auc"]), "true word against a noise word"),
        ("vocabulary", number(len(report.words)), f"words; {number(sum(report.counts))} in the training text"),
        ("analogies", percent(right / len(asked) if asked else None), f"{right} of {len(asked)} right"),
    ]


def vector_sections(report: VectorReport) -> list[Section]:
    """The sections in the order of a page: neighbours, analogies, map."""
    made = (neighbours(report), analogy_section(report), word_map(report))
    return [section for section in made if section is not None]


def telling(words: Sequence[str], keep: Tensor) -> list[int]:
    """The numbers of frequent words that are worth showing: not thinned out, of four letters and more."""
    kept = keep.tolist()
    good = [n for n, word in enumerate(words) if kept[n] >= 1 and len(word) >= SHORTEST and word.isalpha()]
    return good or list(range(len(words)))


def neighbours(report: VectorReport) -> Section:
    """For frequent words the nearest ones."""
    chosen = telling(report.words, report.keep)[:SHOWN]
    numbers = torch.tensor(chosen, dtype=torch.int64)
    found, cosines = nearest(report.vectors, report.vectors[numbers], 6, numbers.unsqueeze(1))
    rows = [
        [
            report.words[n],
            report.counts[n],
            ", ".join(f"{report.words[other]} {value:.2f}" for other, value in zip(others, values, strict=True)),
        ]
        for n, others, values in zip(chosen, found.tolist(), cosines.tolist(), strict=True)
    ]
    lead = (
        "The words with the largest cosine to some of the most frequent words (those that the training text is not "
        "full of). A text of millions of words is needed before these lists are good throughout."
    )
    return Section("Nearest words", table(["word", "count", "nearest, with the cosine"], rows, numeric=(1,)), lead)


def analogy_section(report: VectorReport) -> Section | None:
    """How many analogies come out right, by relation, with examples; None when the vocabulary has no pairs for any."""
    asked = analogies(report.words, report.vectors)
    if not asked:
        return None
    kinds = list(dict.fromkeys(question.kind for question in asked))
    by_kind = {kind: [question for question in asked if question.kind == kind] for kind in kinds}
    counted: list[list[object]] = [
        [kind, len(found), percent(sum(q.rank == 0 for q in found) / len(found)), percent(_within(found, 5))]
        for kind, found in by_kind.items()
    ]
    # The best of each relation in turn, so that the examples are not all of one.
    ordered = {kind: sorted(found, key=lambda question: question.rank) for kind, found in by_kind.items()}
    turns = [found[turn] for turn in range(EXAMPLES) for found in ordered.values() if turn < len(found)]
    examples = [
        [f"{q.question[0]} : {q.question[1]} = {q.question[2]} : ?", q.answer, q.wanted, q.rank + 1]
        for q in turns[:EXAMPLES]
    ]
    lead = (
        f"Of {len(asked):,} questions a : b = c : ?, made from a small list of pairs that are both in the vocabulary. "
        "The answer is the word nearest to b - a + c, other than these three. The examples are the best of each kind."
    )
    html = table(["relation", "questions", "right", "among the first 5"], counted, numeric=(1, 2, 3))
    html += table(["question", "answer", "wanted", "its place"], examples, numeric=(3,), caption="Examples")
    return Section("Analogies", html, lead)


def _within(found: Sequence[Analogy], places: int) -> float:
    return sum(question.rank < places for question in found) / len(found)


def analogies(words: Sequence[str], vectors: Tensor) -> list[Analogy]:
    """Every question that the list of pairs gives for this vocabulary, answered by 3CosAdd.

    Args:
        words: The vocabulary, in lower case as far as the pairs are to be found in it.
        vectors: ``(V, D)``.
    """
    place = {word: n for n, word in enumerate(words)}
    made = []
    for kind, pairs in ANALOGIES.items():
        known = [pair for pair in pairs if pair[0] in place and pair[1] in place]
        made += [(kind, first[0], first[1], second[0], second[1]) for first, second in permutations(known, 2)]
    # Where both pairs share a word (man, woman / man, men) there is no question.
    made = [row for row in made if len({*row[1:]}) == 4]
    if not made:
        return []
    numbers = torch.tensor([[place[word] for word in row[1:]] for row in made])
    a, b, c, wanted = numbers.unbind(1)
    directions = unit(vectors)
    cosines = unit(directions[b] - directions[a] + directions[c]) @ directions.T
    cosines.scatter_(1, numbers[:, :3], float("-inf"))
    answers = cosines.argmax(1).tolist()
    ranks = (cosines > cosines.gather(1, wanted.unsqueeze(1))).sum(1).tolist()
    return [
        Analogy(kind, (one, two, three), four, words[answer], rank)
        for (kind, one, two, three, four), answer, rank in zip(made, answers, ranks, strict=True)
    ]


def word_map(report: VectorReport) -> Section | None:
    """Frequent words in the plane of their two principal components."""
    chosen = telling(report.words, report.keep)[:MAPPED]
    if len(chosen) < 3:
        return None
    points, share = principal_plane(unit(report.vectors[torch.tensor(chosen)]))
    names = [report.words[n] for n in chosen]

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        across, up = points.unbind(1)
        axes.scatter(across, up, s=6, color=figures.COLOURS["soft"], linewidths=0)
        for name, x, y in zip(names, across.tolist(), up.tolist(), strict=True):
            axes.annotate(name, (x, y), xytext=(2, 2), textcoords="offset points", fontsize=8)
        axes.set(xlabel="first principal component", ylabel="second")
        axes.margins(0.08)

    lead = (
        f"The {len(chosen)} most frequent of these words. The plane holds {percent(share)} of what sets them apart, so "
        "words that are close here need not be close in all dimensions."
    )
    svg = figures.svg_of(draw, (7.6, 6.4), "Map of words")
    return Section("Map", f'<div class="wide">{svg}</div>', lead)


def principal_plane(vectors: Tensor) -> tuple[Tensor, float]:
    """Coordinates ``(n, 2)`` of vectors ``(n, D)`` on their first two principal components, and the variance's share.

    Signs are fixed by the largest coordinate of each, so that equal vectors give equal pictures.
    """
    centred = vectors.double() - vectors.double().mean(0)
    _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
    points = centred @ directions[:2].T
    signs = points.gather(0, points.abs().argmax(0, keepdim=True)).sign()
    total = float((spread**2).sum())
    share = float((spread[:2] ** 2).sum()) / total if total else 0.0
    return (points * torch.where(signs == 0, 1.0, signs)).float(), share
