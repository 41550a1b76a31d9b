"""Scores of numbers and of several labels, against torchmetrics and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flambeau.core import Metrics, Scores
from flambeau.metrics.multilabel import average_precision, multilabel
from flambeau.metrics.regression import regression

CPU = torch.device("cpu")


def scored(metrics: Metrics, outputs: dict[str, Tensor], batch: dict[str, Tensor], size: int = 7) -> Scores:
    """Added in portions of unequal size, as an evaluation does."""
    sums = metrics.start(CPU)
    rows = len(next(iter(outputs.values())))
    for first in range(0, rows, size):
        cut = slice(first, first + size)
        metrics.add(sums, {k: v[cut] for k, v in outputs.items()}, {k: v[cut] for k, v in batch.items()})
    return metrics.result(sums)


@pytest.mark.parametrize("columns", [1, 3])
def test_regression_equals_torchmetrics(columns: int) -> None:
    reference = pytest.importorskip("torchmetrics.functional.regression")
    generator = torch.Generator().manual_seed(columns)
    # Far from zero, where sums of squares in single precision would lose everything.
    target = 1e5 + 10 * torch.randn(50, columns, generator=generator, dtype=torch.float64)
    values = target + torch.randn(50, columns, generator=generator, dtype=torch.float64)
    names = [f"t{n}" for n in range(columns)]
    found = scored(regression(names, [1e5] * columns), {"values": values, "loss": torch.ones(50)}, {"target": target})
    assert found["loss"] == 1
    for number, name in enumerate(names):
        end = f"/{name}" if columns > 1 else ""
        pair = values[:, number], target[:, number]
        assert found[f"mae{end}"] == pytest.approx(float(reference.mean_absolute_error(*pair)), rel=1e-6)
        assert found[f"rmse{end}"] == pytest.approx(float(reference.mean_squared_error(*pair, squared=False)), rel=1e-6)
        assert found[f"r2{end}"] == pytest.approx(float(reference.r2_score(*pair)), rel=1e-6)


def test_regression_of_nothing_and_of_equal_targets() -> None:
    metrics = regression(["x"], [0.0])
    assert all(math.isnan(value) for value in metrics.result(metrics.start(CPU)).values())
    same = scored(metrics, {"values": torch.ones(4, 1), "loss": torch.zeros(4)}, {"target": torch.full((4, 1), 2.0)})
    assert same["mae"] == 1
    assert math.isnan(same["r2"])


def test_multilabel_equals_torchmetrics() -> None:
    reference = pytest.importorskip("torchmetrics.functional.classification")
    generator = torch.Generator().manual_seed(5)
    labels = (torch.rand(60, 4, generator=generator) < torch.tensor([0.5, 0.2, 0.05, 0.7])).long()
    probabilities = (0.6 * labels + 0.5 * torch.rand(60, 4, generator=generator)).clamp(max=1)
    found = scored(multilabel(4), {"probabilities": probabilities, "loss": torch.ones(60)}, {"labels": labels})
    for name, average in (("micro_f1", "micro"), ("macro_f1", "macro")):
        expected = reference.multilabel_f1_score(probabilities, labels, num_labels=4, average=average)
        assert found[name] == pytest.approx(float(expected), abs=1e-6)
    assert found["exact"] == pytest.approx(float(reference.multilabel_exact_match(probabilities, labels, num_labels=4)))
    expected = reference.multilabel_hamming_distance(probabilities, labels, num_labels=4)
    assert found["hamming"] == pytest.approx(float(expected), abs=1e-6)
    each = reference.multilabel_average_precision(probabilities, labels, num_labels=4, average="none").tolist()
    assert [average_precision(probabilities[:, k], labels[:, k] > 0) for k in range(4)] == pytest.approx(each, abs=1e-6)


def test_average_precision_takes_equal_scores_together() -> None:
    true = torch.tensor([True, False, True, False])
    assert average_precision(torch.ones(4), true) == 0.5
    assert average_precision(torch.ones(4), true.flip(0)) == 0.5
    assert math.isnan(average_precision(torch.ones(4), torch.zeros(4, dtype=torch.bool)))


def test_no_labels_at_all() -> None:
    metrics = multilabel(2)
    assert all(math.isnan(value) for value in metrics.result(metrics.start(CPU)).values())
    none = {"labels": torch.zeros(3, 2)}
    found = scored(metrics, {"probabilities": torch.zeros(3, 2), "loss": torch.zeros(3)}, none)
    assert found["exact"] == 1
    assert found["hamming"] == 0
    assert math.isnan(found["macro_f1"])
