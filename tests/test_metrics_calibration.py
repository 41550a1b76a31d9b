"""Temperature scaling against a fine search, calibration error against torchmetrics and hand-worked values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flambeau.errors import DataError
from flambeau.metrics.calibration import (
    HIGHEST,
    LOWEST,
    cross_entropy,
    expected_calibration_error,
    fit_temperature,
    reliability,
)


def drawn(scale: float, rows: int = 2000, classes: int = 10) -> tuple[Tensor, Tensor]:
    """Logits whose softmax at temperature ``scale`` is the law that the labels were drawn from."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(rows, classes, generator=generator) * 2
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.2, 0.7, 1.0, 2.5, 9.0])
def test_temperature_recovers_the_scale_of_the_logits(scale: float) -> None:
    logits, labels = drawn(scale)
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(scale, rel=0.1)
    best = cross_entropy(logits, labels, temperature)
    assert all(best <= cross_entropy(logits, labels, temperature * factor) for factor in (0.999, 1.001, 0.5, 2))
    assert fit_temperature(logits + 1000, labels) == pytest.approx(temperature, rel=1e-3)
    if scale >= 2:
        before = expected_calibration_error(logits.softmax(1), labels)
        assert expected_calibration_error((logits / temperature).softmax(1), labels) < before / 3


def test_temperature_is_repeatable_to_the_last_bit() -> None:
    logits, labels = drawn(2.5)
    assert fit_temperature(logits, labels) == fit_temperature(logits.clone(), labels.clone())


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        ([[9.0, 0.0]], [0], LOWEST),
        ([[9.0, 0.0]], [1], HIGHEST),
        ([[3.0]], [0], 1.0),
        ([[0.0, 0.0]], [1], 1.0),
        ([[1e30, 0.0]], [1], HIGHEST),
    ],
)
def test_temperature_stays_in_its_bounds(logits: list[list[float]], labels: list[int], expected: float) -> None:
    assert fit_temperature(torch.tensor(logits), torch.tensor(labels)) == pytest.approx(expected)


def test_temperature_refuses_no_rows_and_infinite_logits() -> None:
    with pytest.raises(DataError, match="no rows"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="not finite"):
        fit_temperature(torch.tensor([[math.inf, 0.0]]), torch.tensor([0]))


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_calibration_error_equals_torchmetrics(scale: float, bins: int) -> None:
    reference = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels = drawn(scale, rows=500)
    probabilities = logits.double().softmax(1)
    expected = reference.multiclass_calibration_error(probabilities, labels, num_classes=10, n_bins=bins, norm="l1")
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(
    ("row", "labels", "expected"),
    [([1.0, 0.0], [0, 0], 0.0), ([1.0, 0.0], [1, 1], 1.0), ([0.5, 0.5], [0, 1], 0.0), ([0.75, 0.25], [0, 1], 0.25)],
)
def test_calibration_error_of_small_cases(row: list[float], labels: list[int], expected: float) -> None:
    assert expected_calibration_error(torch.tensor([row, row]), torch.tensor(labels)) == expected


def test_reliability_adds_up_and_marks_empty_bins() -> None:
    logits, labels = drawn(2.5, rows=300)
    curve = reliability(logits.softmax(1), labels)
    assert sum(curve.count) == 300
    assert len(curve.count) == len(curve.confidence) == len(curve.accuracy) == 15
    assert math.isnan(curve.accuracy[0])
    assert curve.count[0] == 0
    gaps = zip(curve.count, curve.confidence, curve.accuracy, strict=True)
    total = sum(count * abs(sure - right) for count, sure, right in gaps if count) / 300
    assert total == pytest.approx(expected_calibration_error(logits.softmax(1), labels), abs=1e-9)


def test_calibration_of_no_rows_is_nan() -> None:
    assert math.isnan(expected_calibration_error(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)))
    assert reliability(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)).count == [0] * 15
