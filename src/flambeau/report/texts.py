"""The sections of a report that only a classifier of texts has: its mistakes, accuracy by length, telling words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flambeau.columns import Ragged, Split
from flambeau.data.inputs import shortened
from flambeau.data.texts import texts_of
from flambeau.data.tokens import decode
from flambeau.metrics.tables import wilson
from flambeau.report import pictures
from flambeau.report.elements import number, percent, percent_range, table
from flambeau.report.page import Card, Section

if TYPE_CHECKING:
    from flambeau.task import Outcome

MISTAKES = 24
TELLING = 8
"""Words shown for each class."""

CLASSES = 30
"""Beyond so many classes no telling words are listed."""

LONG = 240
"""Characters of a text that are shown."""

BINS = 5


def text_report(outcome: Outcome) -> tuple[list[Card], list[Section]]:
    """Headline numbers and sections of a classifier of texts.

    Args:
        outcome: Its splits have the columns ``text``, ``tokens`` (Ragged) and ``label``.
    """
    facts = outcome.facts
    made = pictures.classification_of(outcome, noun="texts", singular="text")
    cards, sections = pictures.classification_cards(made), pictures.classification_sections(made)
    scored, train = outcome.dataset.splits[outcome.split], outcome.dataset.splits["train"]
    if len(made.labels):
        sections += [mistakes(made, texts_of(scored.columns)), by_length(made, scored.ragged("tokens"))]
    words = telling(train.ragged("tokens"), train.tensor("label"), facts["classes"], facts)
    return cards, [*sections, *([words] if words else []), samples(train, facts["classes"])]


def mistakes(report: pictures.ClassificationReport, texts: Sequence[str]) -> Section:
    """The wrong predictions that the model was surest of."""
    confidence, predicted = report.probabilities.max(1)
    wrong = (predicted != report.labels).nonzero().squeeze(1)
    order = wrong[confidence[wrong].argsort(descending=True, stable=True)][:MISTAKES]
    if not len(order):
        return Section("Mistakes", f"<p>Every text of the {report.split} split was classified right.</p>")
    rows = [
        [
            report.classes[int(predicted[row])],
            percent(float(confidence[row])),
            report.classes[int(report.labels[row])],
            shortened(texts[row], LONG),
        ]
        for row in order.tolist()
    ]
    lead = (
        f"The {len(order)} wrong predictions that the model was surest of, of {number(len(wrong))} in all. Wrong "
        "labels tend to show up here."
    )
    return Section("Mistakes", table(["taken for", "confidence", "is", "text"], rows, numeric=(1,)), lead)


def by_length(report: pictures.ClassificationReport, tokens: Ragged) -> Section:
    """Accuracy of texts by how long they are, in parts of about equal size."""
    lengths = tokens.lengths
    right = report.probabilities.argmax(1) == report.labels
    cuts = torch.quantile(lengths.double(), torch.linspace(0, 1, BINS + 1, dtype=torch.float64)).ceil().long()
    cuts = torch.unique(cuts)
    rows: list[list[Any]] = []
    for place in range(max(1, len(cuts) - 1)):
        low = int(cuts[place]) + (1 if place else 0)
        high = int(cuts[min(place + 1, len(cuts) - 1)])
        inside = (lengths >= low) & (lengths <= high)
        total, good = int(inside.sum()), int(right[inside].sum())
        if total:
            span = str(low) if low == high else f"{low} to {high}"
            rows.append([span, total, percent(good / total), percent_range(*wilson(good, total))])
    lead = "Fifths of the texts by their number of tokens; the intervals are Wilson's."
    return Section("By length", table(["tokens", "texts", "accuracy", "95 %"], rows, numeric=(1, 2, 3)), lead)


def telling(tokens: Ragged, label: Tensor, classes: Sequence[str], facts: dict[str, Any]) -> Section | None:
    """The words that are most typical of each class among the training texts."""
    if len(classes) > CLASSES or not len(tokens):
        return None
    span = facts["vocabulary"] + facts["shift"]
    scores = log_odds(tokens, label, len(classes), span)
    marks = {0, facts["unknown"], *(token + facts["shift"] for token in (*facts["before"], *facts["after"]))}
    scores[:, sorted(mark for mark in marks if mark < span)] = -torch.inf
    rows = []
    for place, name in enumerate(classes):
        best = scores[place].topk(min(TELLING, span)).indices
        chosen = best[scores[place][best] > 0] - facts["shift"]
        words = decode(facts["tokenizer"], [[token] for token in chosen.tolist()])
        rows.append([name, ", ".join(word.strip() for word in words)])
    lead = (
        "What the training texts of a class have more of than the others: the largest z-scores of the log odds ratio, "
        "with all texts as the prior (Monroe, Colaresi and Quinn 2008). This is counted in the data, not asked of the "
        "model."
    )
    return Section("Telling words", table(["class", "words"], rows), lead)


def log_odds(tokens: Ragged, label: Tensor, classes: int, vocabulary: int) -> Tensor:
    """z-scores of how typical each token is of each class, ``(K, V)`` float64.

    Monroe, Colaresi and Quinn, "Fightin' Words", Political Analysis 16 (2008), with the counts over all classes, scaled
    to one tenth of a class's words, as the prior.

    Args:
        tokens: Of each text.
        label: Its class, ``(N,)`` int64.
        classes: How many there are.
        vocabulary: How many tokens there are.

    Example:
        >>> scores = log_odds(Ragged.of([[0, 1, 1], [0, 2, 2]]), torch.tensor([0, 1]), 2, 3)
        >>> scores.argmax(1).tolist()
        [1, 2]
    """
    cells = label.repeat_interleave(tokens.lengths) * vocabulary + tokens.values.long()
    counts = torch.bincount(cells, minlength=classes * vocabulary).view(classes, vocabulary).double()
    everything = counts.sum(0)
    total = counts.sum(1, keepdim=True)
    prior = everything / everything.sum().clamp(min=1) * (0.1 * total.mean()).clamp(min=1.0) + 1e-9
    rest, rest_total = everything - counts, everything.sum() - total

    def odds(found: Tensor, of: Tensor) -> Tensor:
        return torch.log((found + prior) / (of + prior.sum() - found - prior).clamp(min=1e-9))

    spread = torch.sqrt(1 / (counts + prior) + 1 / (rest + prior))
    scores: Tensor = (odds(counts, total) - odds(rest, rest_total)) / spread
    return scores


def samples(train: Split, classes: Sequence[str]) -> Section:
    """A few labelled training texts."""
    label, texts = train.tensor("label"), texts_of(train.columns)
    chosen = pictures.spread_sample(label, 12).tolist()
    rows = [[classes[int(label[row])], shortened(texts[row], LONG)] for row in chosen]
    return Section("Samples", table(["class", "text"], rows), "Texts of the training split with their labels.")
