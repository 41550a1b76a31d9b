"""The sections of a report on translations: scores, quality against length, samples, and where attention went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from flambeau.metrics.translation import bleu_interval, sentence_bleu, signature
from flambeau.report import figures
from flambeau.report.elements import escape, number, percent, table
from flambeau.report.elements import figures as side_by_side
from flambeau.report.page import Card, Section

ATTENTION = 4
"""How many sentences are drawn with their attention."""

SAMPLES = 6
"""How many are shown of each kind: the best, those in the middle, the worst."""

LONGEST_SHOWN = 22
_CELL = 22

Looks = tuple[Sequence[str], Sequence[str], Tensor]
"""Pieces of a source, pieces of its translation, and how much each of these looked at each of those, ``(T, S)``."""


@dataclass(frozen=True, slots=True)
class TranslationReport:
    """What is reported about one pass over a split of pairs.

    Attributes:
        split: The name of the split that was scored.
        languages: Of source and target, empty when they are not known.
        sources: The sentences that were translated.
        references: What they should have become.
        hypotheses: What they became.
        scores: By name, see :func:`flambeau.metrics.translation.translation`.
        complete: Whether each translation ended by itself, bool ``(N,)``.
        by_length: Rows with ``words``, ``bleu``, ``length_ratio``, ``sentences`` and ``middle``, the mean of the words.
        beam: Hypotheses of the search.
        penalty: The exponent of its length penalty.
        looks: A few sentences with their attention.
    """

    split: str
    languages: Sequence[str]
    sources: Sequence[str]
    references: Sequence[str]
    hypotheses: Sequence[str]
    scores: Mapping[str, float]
    complete: Tensor
    by_length: Sequence[Mapping[str, Any]]
    beam: int
    penalty: float
    looks: Sequence[Looks] = field(default_factory=list)


def translation_cards(report: TranslationReport) -> list[Card]:
    """The headline numbers: BLEU, cross-entropy, accuracy of tokens, length."""
    low, high = bleu_interval(report.hypotheses, report.references)
    return [
        (f"{report.split} BLEU", f"{report.scores['bleu']:.1f}", f"95 %: {low:.1f}–{high:.1f}"),
        (
            "cross-entropy",
            f"{report.scores['loss']:.3f}",
            f"nats a token; perplexity {report.scores['perplexity']:.2f}",
        ),
        ("token accuracy", percent(report.scores["token_accuracy"]), "given the true beginning"),
        ("length", percent(report.scores["length_ratio"]), "of the references'"),
    ]


def translation_sections(report: TranslationReport) -> list[Section]:
    """The sections in the order of a page; what there are no data for is left out."""
    if not report.sources:
        return [Section("Scores", f"<p>The {escape(report.split)} split holds no sentences to score.</p>")]
    made = (scores(report), length(report), samples(report), attention(report))
    return [section for section in made if section is not None]


def scores(report: TranslationReport) -> Section:
    """The scores over all sentences, and how BLEU was counted."""
    low, high = bleu_interval(report.hypotheses, report.references)
    search = "greedy search" if report.beam == 1 else f"beam search, {report.beam} hypotheses"
    cut = int((~report.complete.bool()).sum())
    rows: list[list[object]] = [
        ["BLEU", f"{report.scores['bleu']:.2f}", f"{low:.2f}–{high:.2f}", signature()],
        ["cross-entropy", f"{report.scores['loss']:.4f}", "", "nats a token, given the true tokens before it"],
        ["perplexity", f"{report.scores['perplexity']:.3f}", "", ""],
        ["token accuracy", percent(report.scores["token_accuracy"]), "", "given the true tokens before it"],
        ["length ratio", f"{report.scores['length_ratio']:.3f}", "", "words written to words in the references"],
        ["cut off", number(cut), "", "translations that did not end by themselves"],
    ]
    direction = f" from {report.languages[0]} to {report.languages[1]}" if len(report.languages) == 2 else ""
    lead = (
        f"On the {number(len(report.sources))} sentences of the {report.split} split{direction}, translated by "
        f"{search}, length penalty {number(report.penalty)}. BLEU is sacreBLEU's, from 0 to 100; its signature says "
        "all that the number depends on. The interval comes from drawing the sentences again a thousand times."
    )
    return Section("Scores", table(["score", "value", "95 % interval", ""], rows, numeric=(1, 2)), lead)


def length(report: TranslationReport) -> Section | None:
    """BLEU by the length of the source."""
    if len(report.by_length) < 2:
        return None
    points = [(float(row["middle"]), float(row["bleu"])) for row in report.by_length]
    drawn = figures.lines(
        [("BLEU", "accent", points)], name="BLEU by length of the source", ylabel="BLEU", xlabel="words in the source"
    )
    ratio = [(float(row["middle"]), float(row["length_ratio"])) for row in report.by_length]
    second = figures.lines(
        [("length", "second", ratio)],
        name="Length of translations by length of the source",
        ylabel="length of the reference's",
        xlabel="words in the source",
        as_percent=True,
    )
    rows = [
        [row["words"], f"{row['bleu']:.1f}", percent(row["length_ratio"]), row["sentences"]] for row in report.by_length
    ]
    listed = table(["words in the source", "BLEU", "length", "sentences"], rows, numeric=(1, 2, 3))
    pictures = side_by_side(
        ("BLEU of the sentences of each length.", drawn), ("How long their translations are.", second)
    )
    return Section("Quality against length", pictures + listed, "Each point stands for the sentences of one row below.")


def samples(report: TranslationReport) -> Section:
    """Sources, translations and references side by side: the best ones, the middling ones, the worst ones."""
    each = sentence_bleu(report.hypotheses, report.references)
    order = sorted(range(len(each)), key=lambda row: (-each[row], row))
    middle = max(0, len(order) // 2 - SAMPLES // 2)
    long = [row for row in order if len(report.sources[row].split()) >= 6]
    parts = {
        "In the middle": order[middle : middle + SAMPLES],
        "The worst": order[::-1][:SAMPLES],
        "The best": (long or order)[:SAMPLES],
    }
    html = ""
    for title, rows in parts.items():
        cells = [
            [report.sources[row], report.hypotheses[row], report.references[row], f"{each[row]:.0f}"] for row in rows
        ]
        heading = ["source", "translation", "reference", "BLEU"]
        # Sentences must wrap, also in the first column, which tables of names keep on one line.
        html += f"<h3>{escape(title)}</h3>" + table(heading, cells, numeric=(3,)).replace(
            "<td>", '<td style="white-space:normal;min-width:12rem">'
        )
    lead = (
        "By the BLEU of the single sentence, which is a rough guide: a good translation in other words scores low. The "
        "best are chosen among sources of six words and more, where there are any."
    )
    return Section("Samples", html, lead)


def attention(report: TranslationReport) -> Section | None:
    """Where attention went while a few of the sentences were translated."""
    if not report.looks:
        return None
    drawn = [(_joined(target), heat(source, target, weights)) for source, target, weights in report.looks]
    lead = (
        "A row for each piece of the translation, a column for each piece of the source; the darker a field, the more "
        "was looked at it (mean over the heads of the last layer, where there are several). A dot is a space."
    )
    return Section("Attention", side_by_side(*drawn), lead)


def heat(source: Sequence[str], target: Sequence[str], weights: Tensor) -> str:
    """Attention as SVG.

    Args:
        source: Names of the columns.
        target: Names of the rows.
        weights: ``(T, S)``, from 0 to 1.
    """
    left = 8 + 7 * max(map(len, target))
    top = 8 + 7 * max(map(len, source))
    wide, high = left + _CELL * len(source), top + _CELL * len(target)
    fill = "rgb({},{},{})".format(*figures.FILL)
    parts = [
        f'<rect x="{left + _CELL * s}" y="{top + _CELL * t}" width="{_CELL}" height="{_CELL}" fill="{fill}" '
        f'fill-opacity="{weight:.3f}"/>'
        for t, row in enumerate(weights.tolist())
        for s, weight in enumerate(row)
        if weight >= 0.005
    ]
    style = 'font-size="12" fill="var(--ink)"'
    parts += [
        f'<text {style} transform="translate({left + _CELL * (s + 0.7):.1f},{top - 5}) rotate(-90)">'
        f"{escape(piece)}</text>"
        for s, piece in enumerate(source)
    ]
    parts += [
        f'<text {style} x="{left - 5}" y="{top + _CELL * (t + 0.7):.1f}" text-anchor="end">{escape(piece)}</text>'
        for t, piece in enumerate(target)
    ]
    frame = f'<rect x="{left}" y="{top}" width="{wide - left}" height="{high - top}" fill="none" stroke="var(--rule)"/>'
    label = escape(f"Attention while translating: {_joined(source)}")
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {wide + 2} {high + 2}">{"".join(parts)}{frame}</svg>'


def _joined(pieces: Sequence[str]) -> str:
    """The text of the pieces that :func:`heat` names its rows and columns by."""
    return "".join(piece for piece in pieces if piece != "</s>").replace("·", " ").strip()


def fit_to_show(lengths: Tensor) -> list[int]:
    """Rows by how well their sources fit a picture: those of 8 to 22 tokens in their order, then the longest others."""
    told = lengths.tolist()
    fit = [row for row, length in enumerate(told) if 8 <= length <= LONGEST_SHOWN]
    others = [row for row, length in enumerate(told) if length < 8]
    return fit + sorted(others, key=lambda row: (-told[row], row))
