"""The part of a report about a language model: what the text costs, where, and what the model writes itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from flambeau.report.elements import escape, figures, number, percent, table
from flambeau.report.figures import lines
from flambeau.report.page import Card, Section

MOST_POINTS = 40
"""Places of the context that are drawn; of more, neighbours are put together."""


@dataclass(frozen=True, slots=True)
class LanguageReport:
    """What is reported about one pass over a text.

    Attributes:
        split: The name of the split that was scored.
        scores: Of :func:`flambeau.metrics.language.language`.
        sums: The sums behind them; ``place_nats`` and ``place_tokens`` are used.
        passages: Stretches of the text: their tokens as texts, with what each cost in nats.
        samples: Texts of the model's own, with the temperature each was drawn at.
    """

    split: str
    scores: Mapping[str, float]
    sums: Mapping[str, Tensor]
    passages: Sequence[Sequence[tuple[str, float]]] = ()
    samples: Sequence[tuple[float, str]] = ()


def cards(report: LanguageReport) -> list[Card]:
    """The headline numbers: bits and nats by character, perplexity by token."""
    scores = report.scores
    tokens = number(int(report.sums["tokens"]))
    return [
        (f"{report.split} bits a character", f"{scores['bits_per_character']:.3f}", ""),
        ("nats a character", f"{scores['nats_per_character']:.3f}", ""),
        ("perplexity", f"{scores['perplexity']:.2f}", f"by token, {tokens} of them"),
    ]


def sections(report: LanguageReport) -> list[Section]:
    """Scores, the cost by place in the context, the most surprising passages, and samples."""
    made = [_scores(report), _by_place(report), _passages(report), _samples(report)]
    return [section for section in made if section is not None]


def _scores(report: LanguageReport) -> Section:
    scores = report.scores
    rows: list[list[object]] = [
        ["nats a token", scores["loss"], "windows one after the other; each token is scored once"],
        ["perplexity", scores["perplexity"], "the exponential of that"],
        ["nats a character", scores["nats_per_character"], "of the text, however it is cut into tokens"],
        ["bits a character", scores["bits_per_character"], ""],
        ["bits a byte", scores["bits_per_byte"], "of the text in UTF-8"],
    ]
    if "far_nats_per_character" in scores:
        note = "windows that overlap by half, so that each token is predicted from at least half a context"
        rows.append(["nats a character, overlapping", scores["far_nats_per_character"], note])
        rows.append(["bits a character, overlapping", scores["far_bits_per_character"], ""])
    if scores["unknown"] > 0:
        rows.append(["unknown tokens", percent(scores["unknown"], 3), "not in the vocabulary of the training text"])
    lead = "A nat is what a token costs that is expected with a probability of 1/e, a bit one of 1/2. Less is better."
    return Section("Scores", table(["", report.split, ""], rows, numeric=[1]), lead)


def _by_place(report: LanguageReport) -> Section | None:
    points = by_place(report.sums["place_nats"], report.sums["place_tokens"])
    if len(points) < 2:
        return None
    drawn = lines(
        [("nats a token", "accent", points)],
        name="Loss by the place in the context",
        ylabel="nats a token",
        xlabel="tokens seen before",
    )
    first, last = points[0][1], points[-1][1]
    caption = f"From {first:.2f} nats for the first tokens of a window to {last:.2f} for the last ones."
    lead = "The more a model makes of what it has read, the further the curve falls."
    return Section("Loss by place in the context", figures((caption, drawn)), lead)


def by_place(nats: Tensor, tokens: Tensor) -> list[tuple[float, float]]:
    """The mean cost by the number of tokens seen before, neighbours put together where there are many.

    The groups grow: the beginning of the curve is steep, its end is flat.

    Args:
        nats: Sums ``(context,)``.
        tokens: Counts ``(context,)``.
    """
    edges = sorted({round(len(nats) ** (step / MOST_POINTS)) - 1 for step in range(MOST_POINTS)} | {len(nats)})
    points = []
    for first, last in itertools.pairwise(edges):
        count = int(tokens[first:last].sum())
        if count:
            points.append(((first + last + 1) / 2, float(nats[first:last].sum()) / count))
    return points


def _passages(report: LanguageReport) -> Section | None:
    if not report.passages:
        return None
    parts = []
    for passage in report.passages:
        mean = sum(cost for _, cost in passage) / max(1, len(passage))
        marked = "".join(
            f'<span style="background:rgb(208 92 30 / {shade(cost):.2f})" title="{cost:.1f} nats">{escape(text)}</span>'
            for text, cost in passage
        )
        parts.append(f"<p>{mean:.2f} nats a token</p><pre>{marked}</pre>")
    lead = "The windows that cost most. The darker a token, the less it was expected; the first ones have no context."
    return Section("Most surprising passages", "".join(parts), lead)


def shade(cost: float) -> float:
    """How opaque the mark of a token is: from 0 for one that costs nothing to 0.9 from 10 nats on."""
    return 0.9 * min(1.0, max(0.0, cost) / 10) if math.isfinite(cost) else 0.9


def _samples(report: LanguageReport) -> Section | None:
    if not report.samples:
        return None
    parts = [f"<h3>temperature {warmth:g}</h3><pre>{escape(text)}</pre>" for warmth, text in report.samples]
    lead = "What the model writes with no prompt. A low temperature keeps to what is probable, 1 draws as it learnt."
    return Section("Samples", "".join(parts), lead)
