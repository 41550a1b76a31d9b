"""Softmax regression on a bag of words and pairs of neighbours: what a network for texts has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from flambeau.columns import Ragged

PENALTIES = (1e-5, 3e-5, 1e-4, 3e-4)
"""Weights of the squared coefficients that are tried, each on the validation rows."""

STEPS = 60


@dataclass(frozen=True, slots=True)
class BagOfNgrams:
    """A fitted regression.

    Attributes:
        features: The words, and pairs of words coded as ``first * vocabulary + second + vocabulary``, in ascending
            order, ``(F,)`` int64.
        rarity: What each counts, the logarithm of how rare it is (inverse document frequency), ``(F,)``.
        weight: Coefficients ``(F, K)``.
        bias: ``(K,)``.
        vocabulary: How many tokens there are.
    """

    features: Tensor
    rarity: Tensor
    weight: Tensor
    bias: Tensor
    vocabulary: int

    def logits(self, rows: Ragged) -> Tensor:
        """Logits ``(N, K)`` of rows of tokens."""
        numbers, codes = distinct_ngrams(rows, self.vocabulary)
        return _weigh(numbers, codes, len(rows), self.features, self.rarity).times(self.weight) + self.bias


@dataclass(frozen=True, slots=True)
class _Sparse:
    """A matrix ``(n, F)`` of few entries: their rows, ascending, their columns and values, each ``(m,)``."""

    numbers: Tensor
    places: Tensor
    values: Tensor
    offsets: Tensor

    def times(self, weight: Tensor) -> Tensor:
        """The product with ``(F, K)``, ``(n, K)``."""
        return F.embedding_bag(self.places, weight, self.offsets, mode="sum", per_sample_weights=self.values)

    def transposed_times(self, slope: Tensor, features: int) -> Tensor:
        """The product of its transpose with ``(n, K)``, ``(F, K)``."""
        parts = slope[self.numbers] * self.values.unsqueeze(1)
        return slope.new_zeros(features, slope.shape[1]).index_add_(0, self.places, parts)


def fit(
    rows: Ragged,
    label: Tensor,
    classes: int,
    vocabulary: int,
    *,
    validation: tuple[Ragged, Tensor] | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> BagOfNgrams:
    """Fits the regression by L-BFGS, from zero, so that nothing is drawn.

    A text is the set of its words and pairs that occur in two training texts or more, each counting as much as it is
    rare, scaled to length 1 (Wang and Manning, "Baselines and Bigrams", ACL 2012, found such models hard to beat).

    Args:
        rows: Tokens of the training texts, 0 for padding.
        label: Their classes, ``(N,)`` int64.
        classes: How many there are.
        vocabulary: How many tokens there are.
        validation: Tokens and classes by which the penalty is chosen; without them it is the middle one.
        penalties: To choose from.

    Example:
        >>> rows = Ragged.of([[2, 3], [2, 4], [3, 2], [4, 2]])
        >>> model = fit(rows, torch.tensor([0, 1, 0, 1]), classes=2, vocabulary=5)
        >>> model.logits(Ragged.of([[3], [4]])).argmax(1).tolist()
        [0, 1]
    """
    numbers, codes = distinct_ngrams(rows, vocabulary)
    features, counts = torch.unique(codes, return_counts=True)
    often = counts >= min(2, int(counts.max()) if len(counts) else 2)
    features, counts = features[often], counts[often]
    rarity = torch.log((1 + len(rows)) / (1 + counts.double())).float() + 1
    matrix = _weigh(numbers, codes, len(rows), features, rarity)
    candidates = penalties if validation is not None else penalties[len(penalties) // 2 :][:1]
    best: tuple[float, BagOfNgrams] | None = None
    start = torch.zeros(len(features) + 1, classes)
    # From the strongest penalty to the weakest: each solution is a good place to begin the next from.
    for penalty in sorted(candidates, reverse=True):
        start = _solve(matrix, label, start, penalty)
        made = BagOfNgrams(features, rarity, start[:-1].clone(), start[-1].clone(), vocabulary)
        if validation is None:
            return made
        loss = float(F.cross_entropy(made.logits(validation[0]), validation[1]))
        if best is None or loss < best[0]:
            best = loss, made
    if best is None:
        raise ValueError("There must be a penalty to try.")
    return best[1]


def distinct_ngrams(rows: Ragged, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Which words and pairs of neighbours are in which row, each once: row numbers and codes, both int64 ``(m,)``.

    Example:
        >>> distinct_ngrams(Ragged.of([[2, 2, 3]]), 10)[1].tolist()
        [2, 3, 32, 33]
    """
    values = rows.values.long()
    number = torch.arange(len(rows)).repeat_interleave(rows.lengths)
    same = number[1:] == number[:-1]
    pairs = (values[:-1] * vocabulary + values[1:] + vocabulary)[same]
    both = torch.stack([torch.cat([number, number[1:][same]]), torch.cat([values, pairs])], 1)
    span = vocabulary * (vocabulary + 1)
    keys = torch.unique(both[:, 0] * span + both[:, 1])
    return keys // span, keys % span


def _weigh(numbers: Tensor, codes: Tensor, n: int, features: Tensor, rarity: Tensor) -> _Sparse:
    """The rows as vectors of length 1."""
    places = torch.searchsorted(features, codes).clamp(max=max(0, len(features) - 1))
    known = features[places] == codes if len(features) else torch.zeros_like(codes, dtype=torch.bool)
    numbers, places = numbers[known], places[known]
    values = rarity[places]
    norms = torch.zeros(n).index_add_(0, numbers, values.square()).sqrt()
    ends = torch.bincount(numbers, minlength=n).cumsum(0)
    offsets = torch.cat([ends.new_zeros(1), ends])[:n]
    return _Sparse(numbers, places, values / norms[numbers], offsets)


def _solve(matrix: _Sparse, label: Tensor, start: Tensor, penalty: float) -> Tensor:
    """Coefficients, the bias below them, ``(F + 1, K)``."""
    solution = start.clone().requires_grad_()
    truth = F.one_hot(label, start.shape[1]).float()
    rule = torch.optim.LBFGS([solution], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> float:
        with torch.no_grad():
            weight = solution[:-1]
            logits = matrix.times(weight) + solution[-1]
            loss = F.cross_entropy(logits, label) + penalty / 2 * weight.square().sum()
            slope = (logits.softmax(1) - truth) / len(label)
            down = matrix.transposed_times(slope, len(weight)) + penalty * weight
            solution.grad = torch.cat([down, slope.sum(0, keepdim=True)])
        return float(loss)

    rule.step(closure)  # type: ignore[no-untyped-call]
    return solution.detach()
