"""What a confusion matrix says, with how sure one can be of it: scores by class, Wilson and bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Z95 = 1.959963984540054
"""The standard normal quantile that leaves 2.5 % above it."""

SURE = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Probabilities below which one might want no answer."""


def wilson(successes: int, total: int, z: float = Z95) -> tuple[float, float]:
    """The Wilson score interval of a proportion, 95 % by default; of no trials it is all of [0, 1].

    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927).

    Example:
        >>> tuple(round(end, 3) for end in wilson(9, 10))
        (0.596, 0.982)
    """
    if total <= 0:
        return 0.0, 1.0
    rate = successes / total
    scale = 1 + z * z / total
    centre = rate + z * z / (2 * total)
    reach = z * math.sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    low = 0.0 if successes == 0 else (centre - reach) / scale
    high = 1.0 if successes == total else (centre + reach) / scale
    return low, high


def accuracy_interval(confusion: Tensor) -> tuple[float, float]:
    """The 95 % Wilson interval of the accuracy that a confusion matrix, ``(K, K)`` int64, states."""
    return wilson(int(confusion.diagonal().sum()), int(confusion.sum()))


def macro_f1(confusion: Tensor) -> float:
    """The mean F1 of the classes that occur as truth or as prediction, NaN when none does.

    Args:
        confusion: ``(K, K)`` int64, true classes by rows.

    Example:
        >>> round(macro_f1(torch.tensor([[1, 0], [1, 1]])), 4)
        0.6667
    """
    true = confusion.diagonal().double()
    return float(_mean_f1(true, confusion.sum(1).double(), confusion.sum(0).double()))


def macro_f1_interval(confusion: Tensor, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval of macro F1, by bias-corrected percentiles; NaN for an empty matrix.

    The examples are drawn again with replacement, which is a multinomial draw over the cells of the confusion matrix.
    With few examples a class, drawing again lowers macro F1 on the whole; the correction takes that back out.

    Source: B. Efron, "Nonparametric standard errors and confidence intervals", Canadian J. of Statistics 9 (1981).

    Args:
        confusion: ``(K, K)`` int64, true classes by rows.
        draws: How many times.
        seed: Of the generator.

    Example:
        >>> low, high = macro_f1_interval(torch.tensor([[40, 10], [5, 45]]))
        >>> low < 0.85 < high
        True
    """
    import numpy

    total = int(confusion.sum())
    if not total:
        return math.nan, math.nan
    matrix = confusion.cpu()
    rows, columns = matrix.nonzero(as_tuple=True)
    counts = matrix[rows, columns].numpy()
    right = (rows == columns).double()
    generator = numpy.random.default_rng(seed)
    scores: list[Tensor] = []
    # A block of draws at a time, for a matrix of many cells would need gigabytes otherwise.
    block = max(1, 4_000_000 // len(counts))
    for done in range(0, draws, block):
        drawn = generator.multinomial(total, counts / total, size=min(block, draws - done))
        cells = torch.from_numpy(drawn).double()
        empty = torch.zeros(len(cells), matrix.shape[0], dtype=torch.float64)
        truth, predicted = empty.index_add(1, rows, cells), empty.index_add(1, columns, cells)
        scores.append(_mean_f1(empty.index_add(1, rows, cells * right), truth, predicted))
    found, drawn_scores = macro_f1(confusion), torch.cat(scores)
    below = (drawn_scores < found).double() + 0.5 * (drawn_scores == found).double()
    shift = 2 * torch.special.ndtri(below.mean().clamp(0.5 / draws, 1 - 0.5 / draws))
    ends = torch.special.ndtr(shift + torch.tensor([-Z95, Z95], dtype=torch.float64))
    low, high = drawn_scores.quantile(ends).tolist()
    return low, high


def _mean_f1(true: Tensor, truth: Tensor, predicted: Tensor) -> Tensor:
    """The mean over the last dimension of 2 TP / (truth + predicted), where a class occurs at all."""
    occurring = truth + predicted
    f1 = 2 * true / occurring.clamp(min=1)
    return f1.sum(-1) / (occurring > 0).sum(-1)


def by_class(confusion: Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each class with 95 % Wilson intervals, as JSON values.

    Keys: ``class``, ``support`` (examples of the class), ``predicted`` (predictions of it), ``correct``,
    ``precision``, ``precision_low``, ``precision_high``, ``recall``, ``recall_low``, ``recall_high``, ``f1``,
    ``f1_low``, ``f1_high``. A score with nothing to count is None, and so are its ends. The recall of a class is what
    the tutorials call its accuracy.

    F1 equals 2 J / (1 + J) with J = TP / (TP + FP + FN), which grows with J, a proportion; so its interval is that of
    J carried over.

    Args:
        confusion: ``(K, K)`` int64, true classes by rows.
        classes: The K names.

    Example:
        >>> by_class(torch.tensor([[1, 0], [1, 1]]), ["cat", "dog"])[1]["recall"]
        0.5
    """
    if confusion.shape != (len(classes), len(classes)):
        raise ValueError(f"A confusion matrix of {len(classes)} classes has other sides than {tuple(confusion.shape)}.")
    support, predicted = confusion.sum(1).tolist(), confusion.sum(0).tolist()
    correct = confusion.diagonal().tolist()
    return [
        _class_row(name, correct[index], support[index], predicted[index])
        for index, name in enumerate(str(entry) for entry in classes)
    ]


def _class_row(name: str, correct: int, support: int, predicted: int) -> dict[str, Any]:
    union = support + predicted - correct
    low, high = wilson(correct, union)
    f1 = (correct / union, low, high) if union else None
    return {
        "class": name,
        "support": support,
        "predicted": predicted,
        "correct": correct,
        **_ends("precision", (correct / predicted, *wilson(correct, predicted)) if predicted else None),
        **_ends("recall", (correct / support, *wilson(correct, support)) if support else None),
        **_ends("f1", tuple(2 * share / (1 + share) for share in f1) if f1 else None),
    }


def _ends(name: str, values: tuple[float, ...] | None) -> dict[str, float | None]:
    value, low, high = values if values else (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def most_confused(confusion: Tensor, classes: Sequence[str], limit: int = 10) -> list[dict[str, Any]]:
    """The pairs of truth and prediction that are mixed up most often, most frequent first, as JSON values.

    Keys: ``truth``, ``prediction``, ``count``, ``share`` (of the true class's examples).

    Args:
        confusion: ``(K, K)`` int64, true classes by rows.
        classes: The K names.
        limit: How many at most.

    Example:
        >>> most_confused(torch.tensor([[1, 0], [1, 1]]), ["cat", "dog"])
        [{'truth': 'dog', 'prediction': 'cat', 'count': 1, 'share': 0.5}]
    """
    wrong = confusion.cpu().clone()
    wrong.fill_diagonal_(0)
    order = wrong.view(-1).argsort(descending=True, stable=True)[:limit].tolist()
    support = confusion.sum(1).tolist()
    pairs = ((*divmod(cell, len(classes)), int(wrong.view(-1)[cell])) for cell in order)
    return [
        {"truth": str(classes[row]), "prediction": str(classes[column]), "count": count, "share": count / support[row]}
        for row, column, count in pairs
        if count
    ]


class WhenSure(NamedTuple):
    """What is left when a classifier answers only where it is sure.

    Attributes:
        least: The probability from which on it answers.
        answered: The part of the rows that it answers.
        accuracy: How many of these answers are right; NaN when there is none.
        interval: The 95 % interval of that, by Wilson.
    """

    least: float
    answered: float
    accuracy: float
    interval: tuple[float, float]


def when_sure(probabilities: Tensor, labels: Tensor, least: Sequence[float] = SURE) -> list[WhenSure]:
    """How many rows are answered, and how many of them rightly, when an answer needs some probability.

    Args:
        probabilities: ``(N, K)``.
        labels: ``(N,)`` int64.
        least: From which probabilities on.

    Example:
        >>> [row] = when_sure(torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([0, 1]), [0.8])
        >>> row.answered, row.accuracy
        (0.5, 1.0)
    """
    sureness, answers = probabilities.max(1)
    right = answers == labels
    rows = []
    for threshold in least:
        taken = sureness >= threshold
        count, hits = int(taken.sum()), int((right & taken).sum())
        accuracy = hits / count if count else math.nan
        rows.append(WhenSure(threshold, count / max(1, len(labels)), accuracy, wilson(hits, count)))
    return rows
