"""Scores by class and their intervals against torchmetrics, published values and coverage by simulation."""

from __future__ import annotations

import json
import math

import pytest
import torch

from flambeau.metrics.classification import confusion_matrix
from flambeau.metrics.tables import (
    accuracy_interval,
    by_class,
    macro_f1,
    macro_f1_interval,
    most_confused,
    when_sure,
    wilson,
)


def test_answers_only_when_sure() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.05, 0.95]])
    rows = when_sure(probabilities, torch.tensor([0, 0, 1, 0]), [0.5, 0.8, 0.99])
    assert [row.answered for row in rows] == [1.0, 0.75, 0.0]
    assert rows[0].accuracy == 0.5
    assert rows[1].accuracy == pytest.approx(2 / 3)
    assert math.isnan(rows[2].accuracy)
    assert rows[1].interval == wilson(2, 3)


@pytest.mark.parametrize("absent", [None, "truth", "prediction", "both"])
def test_by_class_equals_torchmetrics(absent: str | None) -> None:
    reference = pytest.importorskip("torchmetrics.functional.classification")
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 6, (300,), generator=generator)
    predicted = torch.where(torch.rand(300, generator=generator) < 0.6, labels, labels.roll(1))
    if absent in ("truth", "both"):
        labels[labels == 2] = 1
    if absent in ("prediction", "both"):
        predicted[predicted == 2] = 0
    rows = by_class(confusion_matrix(labels, predicted, 6), list("abcdef"))
    for name, function in (
        ("precision", reference.multiclass_precision),
        ("recall", reference.multiclass_recall),
        ("f1", reference.multiclass_f1_score),
    ):
        expected = function(predicted, labels, num_classes=6, average="none").tolist()
        assert [row[name] or 0 for row in rows] == pytest.approx(expected, abs=1e-6)
        for row in rows:
            if row[name] is not None:
                assert 0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] <= 1
    assert (rows[2]["recall"] is None) == (absent in ("truth", "both"))
    assert (rows[2]["precision"] is None) == (absent in ("prediction", "both"))
    assert (rows[2]["f1"] is None) == (absent == "both")
    json.dumps(rows, allow_nan=False)


def test_by_class_refuses_names_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="2 classes"):
        by_class(torch.zeros(3, 3, dtype=torch.int64), ["a", "b"])


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_published_values(successes: int, total: int, low: float, high: float) -> None:
    assert wilson(successes, total) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(total - successes, total)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_of_no_trials_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert accuracy_interval(torch.zeros(2, 2, dtype=torch.int64)) == (0.0, 1.0)


def test_macro_f1_interval_is_repeatable_and_narrows_with_data() -> None:
    matrix = torch.tensor([[40, 10, 0], [5, 45, 0], [3, 3, 20]])
    first, again, other = (macro_f1_interval(matrix, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert other == pytest.approx(first, abs=0.02)
    low, high = macro_f1_interval(matrix * 100)
    assert low < macro_f1(matrix) < high
    assert 0.05 < (high - low) / (first[1] - first[0]) < 0.2


def test_macro_f1_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(11)
    population = torch.tensor([[30, 5, 5], [6, 20, 4], [2, 3, 25]])
    truth = macro_f1(population)
    covered = 0
    for trial in range(200):
        cells = torch.multinomial(population.view(-1).double(), 400, replacement=True, generator=generator)
        matrix = confusion_matrix(cells // 3, cells % 3, 3)
        low, high = macro_f1_interval(matrix, draws=300, seed=trial)
        covered += low <= truth <= high
    assert 178 <= covered <= 199


@pytest.mark.parametrize("draws", [1, 7])
def test_macro_f1_interval_of_a_perfect_and_of_an_empty_matrix(draws: int) -> None:
    assert macro_f1_interval(torch.eye(4, dtype=torch.int64) * 9, draws=draws) == (1.0, 1.0)
    assert all(math.isnan(end) for end in macro_f1_interval(torch.zeros(4, 4, dtype=torch.int64), draws=draws))


def test_macro_f1_interval_does_not_depend_on_the_blocks_of_draws() -> None:
    generator = torch.Generator().manual_seed(5)
    many = confusion_matrix(*torch.randint(0, 300, (2, 30_000), generator=generator), 300)
    low, high = macro_f1_interval(many, draws=200)
    assert 0 <= low <= macro_f1(many) + 0.01
    assert low < high < 0.02


def test_most_confused_lists_errors_in_order() -> None:
    matrix = torch.tensor([[8, 2, 0], [0, 5, 5], [1, 0, 0]])
    pairs = most_confused(matrix, ["a", "b", "c"])
    assert [(pair["truth"], pair["prediction"], pair["count"]) for pair in pairs] == [
        ("b", "c", 5),
        ("a", "b", 2),
        ("c", "a", 1),
    ]
    assert pairs[0]["share"] == 0.5
    assert most_confused(matrix, ["a", "b", "c"], limit=1) == pairs[:1]
    assert int(matrix.diagonal().sum()) == 13
