"""The sections of a report on several labels a picture, and on numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flambeau.report import figures
from flambeau.report.elements import escape, number, percent, picture, table, tiles
from flambeau.report.elements import figures as side_by_side
from flambeau.report.page import Card, Section
from flambeau.report.pictures import MISTAKES, sample_grid

if TYPE_CHECKING:
    from flambeau.task import Outcome

DRAWN = 2000
"""The most points in a figure."""


def label_cards(outcome: Outcome) -> list[Card]:
    """The headline numbers of labels."""
    scores = outcome.evaluation.scores
    return [
        ("F1", percent(scores["micro_f1"]), "of all decisions together"),
        ("macro F1", percent(scores["macro_f1"]), "mean over the labels"),
        ("all right", percent(scores["exact"]), "pictures with every label right"),
        ("loss", number(scores["loss"]), "a label"),
    ]


def label_sections(
    outcome: Outcome, rows: Sequence[Mapping[str, Any]], samples: Tensor, captions: Sequence[str]
) -> list[Section]:
    """Scores by label, the surest mistakes, samples.

    Args:
        outcome: Its outputs are ``probabilities`` and ``labels``.
        rows: The scores of each label.
        samples: Training pictures, uint8 ``(M, C, H, W)``.
        captions: Their labels.
    """
    return [_by_label(rows), _label_mistakes(outcome), sample_grid(samples, captions, "pictures", "labels")]


def _by_label(rows: Sequence[Mapping[str, Any]]) -> Section:
    keys = ("precision", "recall", "f1", "average_precision")
    cells = [[row["label"], row["examples"], *(percent(row[key]) for key in keys)] for row in rows]
    lead = (
        "A label is said from a probability of one half on. The average precision judges the order of the pictures by "
        "probability, whatever the threshold."
    )
    heading = ["label", "pictures", "precision", "recall", "F1", "average precision"]
    return Section("By label", table(heading, cells, numeric=range(1, 6)), lead)


def _label_mistakes(outcome: Outcome) -> Section:
    probabilities, labels = outcome.evaluation.outputs["probabilities"], outcome.evaluation.outputs["labels"] > 0
    classes = outcome.facts["classes"]
    wrong = (probabilities >= 0.5) != labels
    sureness = torch.where(wrong, (probabilities - 0.5).abs(), -1.0)
    count = int(wrong.sum())
    order = sureness.flatten().argsort(descending=True, stable=True)[: min(MISTAKES, count)]
    if not count:
        return Section("Mistakes", f"<p>Every label of the {escape(outcome.split)} split is right.</p>")
    images, entries = outcome.dataset.splits[outcome.split].tensor("image"), []
    for place in order.tolist():
        row, k = divmod(place, len(classes))
        chance = float(probabilities[row, k])
        said = f"{classes[k]} {percent(chance, 0)}" if chance >= 0.5 else f"no {classes[k]} {percent(1 - chance, 0)}"
        truth = [name for name, on in zip(classes, labels[row].tolist(), strict=True) if on]
        below = f'<span class="said">{escape(said)}</span><span>has {escape(", ".join(truth) or "none")}</span>'
        entries.append((picture(images[row], said), below))
    lead = f"The {len(entries)} wrong decisions that the model was surest of, of {number(count)} in all."
    return Section("Mistakes", tiles(entries), lead)


def number_cards(outcome: Outcome) -> list[Card]:
    """The headline numbers of numbers."""
    scores, names = outcome.evaluation.scores, outcome.facts["targets"]
    if len(names) == 1:
        return [
            ("mean absolute error", number(scores["mae"]), f"of {names[0]}"),
            ("root mean squared error", number(scores["rmse"]), f"of {names[0]}"),
            ("R²", number(scores["r2"], 3), "1 is perfect, 0 is always saying the mean"),
        ]
    return [
        (f"R² of {name}", number(scores[f"r2/{name}"], 3), f"± {number(scores[f'mae/{name}'])}") for name in names[:5]
    ]


def number_sections(outcome: Outcome, samples: Tensor, captions: Sequence[str]) -> list[Section]:
    """Errors, predictions against the truth, the largest errors, samples.

    Args:
        outcome: Its outputs are ``values`` and ``target``, ``(N, T)``.
        samples: Training pictures, uint8 ``(M, C, H, W)``.
        captions: Their numbers.
    """
    return [_errors(outcome), _largest(outcome), sample_grid(samples, captions, "pictures", "numbers")]


def _errors(outcome: Outcome) -> Section:
    scores, names = outcome.evaluation.scores, outcome.facts["targets"]
    ends = [""] if len(names) == 1 else [f"/{name}" for name in names]
    rows = [[n, *(scores[f"{key}{end}"] for key in ("mae", "rmse", "r2"))] for n, end in zip(names, ends, strict=True)]
    listed = table(["number", "mean absolute error", "root mean squared error", "R²"], rows, numeric=(1, 2, 3))
    values, target = outcome.evaluation.outputs["values"], outcome.evaluation.outputs["target"]
    drawn = []
    for place, name in enumerate(names[:6]):
        pairs = list(zip(target[:DRAWN, place].tolist(), values[:DRAWN, place].tolist(), strict=True))
        drawn.append((f"{name}: prediction against truth", figures.against(pairs, name=str(name))))
        bars = figures.histogram((values[:, place] - target[:, place]).tolist(), name=f"Error of {name}")
        drawn.append((f"{name}: prediction less truth", bars))
    lead = (
        f"On the {number(len(target))} pictures of the {outcome.split} split. On the dashed line predictions are right."
    )
    return Section("Errors", listed + side_by_side(*drawn), lead)


def _largest(outcome: Outcome) -> Section:
    values, target = outcome.evaluation.outputs["values"], outcome.evaluation.outputs["target"]
    names = outcome.facts["targets"]
    scale = torch.tensor([max(high - low, 1e-12) for low, high in outcome.facts["range"]])
    order = ((values - target).abs() / scale).amax(1).argsort(descending=True, stable=True)[:MISTAKES]
    images, entries = outcome.dataset.splits[outcome.split].tensor("image"), []
    for row in order.tolist():
        said = ", ".join(f"{value:.4g}" for value in values[row].tolist())
        truth = ", ".join(f"{value:.4g}" for value in target[row].tolist())
        below = f'<span class="said">{escape(said)}</span><span>is {escape(truth)}</span>'
        entries.append((picture(images[row], f"{said}, is {truth}"), below))
    lead = f"The largest errors, of {', '.join(map(str, names[:5]))}. Wrong numbers in the data tend to show up here."
    return Section("Largest errors", tiles(entries), lead)
