"""Counting metrics against torchmetrics and against hand-worked values, on ordinary and degenerate inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from flambeau.core import Scores
from flambeau.metrics.classification import classification, confusion_matrix

CPU = torch.device("cpu")


def score(logits: Tensor, labels: Tensor, sizes: list[int] | None = None, temperature: float = 1.0) -> Scores:
    metrics = classification(logits.shape[1])
    sums = metrics.start(CPU)
    for part, truth in zip(logits.split(sizes or 32), labels.split(sizes or 32), strict=True):
        outputs = {"logits": part, "probabilities": (part / temperature).softmax(1)}
        metrics.add(sums, outputs, {"label": truth})
    return metrics.result(sums)


def case(name: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(211, 12, generator=generator) * 2
    labels = torch.randint(0, 12, (211,), generator=generator)
    if name == "never predicted":
        logits[:, 4] = -100
    if name == "never present":
        labels[labels == 4] = 5
    if name == "neither":
        logits[:, 4] = -100
        labels[labels == 4] = 5
    if name == "one class":
        labels = torch.full_like(labels, 3)
        logits[:, 3] = 50
    if name == "all wrong":
        logits[torch.arange(211), labels] = -50
    if name == "two classes":
        return logits[:, :2], labels % 2
    return logits, labels


CASES = ["random", "never predicted", "never present", "neither", "one class", "all wrong", "two classes"]


@pytest.mark.parametrize("name", CASES)
def test_scores_equal_those_of_torchmetrics(name: str) -> None:
    reference = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels = case(name)
    classes = logits.shape[1]
    ours = score(logits, labels, temperature=1.7)
    kinds = {"num_classes": classes}
    assert ours["accuracy"] == pytest.approx(
        float(reference.multiclass_accuracy(logits, labels, average="micro", **kinds)), abs=1e-6
    )
    assert ours["macro_f1"] == pytest.approx(
        float(reference.multiclass_f1_score(logits, labels, average="macro", **kinds)), abs=1e-6
    )
    ece = reference.multiclass_calibration_error((logits / 1.7).softmax(1), labels, n_bins=15, norm="l1", **kinds)
    assert ours["ece"] == pytest.approx(float(ece), abs=1e-5)
    for k in (3, 5):
        if classes >= 2 * k:
            expected = reference.multiclass_accuracy(logits, labels, average="micro", top_k=k, **kinds)
            assert ours[f"top{k}"] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_confusion_equals_that_of_torchmetrics(name: str) -> None:
    reference = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels = case(name)
    classes = logits.shape[1]
    expected = reference.multiclass_confusion_matrix(logits, labels, num_classes=classes)
    assert torch.equal(confusion_matrix(labels, logits.argmax(1), classes), expected)


def test_losses_are_the_exact_mean_and_the_mean_of_batch_means() -> None:
    logits, labels = case("random")
    ours = score(logits, labels, sizes=[100, 100, 11])
    exact = torch.nn.functional.cross_entropy(logits.double(), labels)
    parts = zip(logits.double().split([100, 100, 11]), labels.split([100, 100, 11]), strict=True)
    means = [float(torch.nn.functional.cross_entropy(part, truth)) for part, truth in parts]
    assert ours["loss"] == pytest.approx(float(exact), rel=1e-12)
    assert ours["loss_mean_of_batches"] == pytest.approx(sum(means) / 3, rel=1e-12)
    assert ours["loss"] != pytest.approx(ours["loss_mean_of_batches"], rel=1e-4)


def test_temperature_changes_the_calibration_error_only() -> None:
    logits, labels = case("random")
    plain, tempered = score(logits, labels), score(logits, labels, temperature=3.0)
    assert {name for name in plain if plain[name] != tempered[name]} == {"ece"}


@pytest.mark.parametrize("sizes", [[211], [1] * 211, [64, 64, 64, 19], [200, 0, 11]])
def test_batching_changes_only_the_mean_of_batch_means(sizes: list[int]) -> None:
    logits, labels = case("random")
    whole, parts = score(logits, labels, sizes=[211]), score(logits, labels, sizes=sizes)
    for name in set(whole) - {"loss_mean_of_batches"}:
        assert parts[name] == pytest.approx(whole[name], rel=1e-12)
    assert math.isfinite(parts["loss_mean_of_batches"])


def test_nothing_added_scores_nan() -> None:
    metrics = classification(12)
    scores = metrics.result(metrics.start(CPU))
    assert {"accuracy", "loss", "loss_mean_of_batches", "top3", "top5", "macro_f1", "ece"} == set(scores)
    assert all(math.isnan(value) for value in scores.values())
    assert not metrics.better(scores["accuracy"], None)


@pytest.mark.parametrize(("classes", "expected"), [(1, set()), (5, set()), (6, {"top3"}), (10, {"top3", "top5"})])
def test_top_k_is_left_out_where_it_would_say_little(classes: int, expected: set[str]) -> None:
    scores = score(torch.zeros(4, classes), torch.zeros(4, dtype=torch.int64))
    assert {name for name in scores if name.startswith("top")} == expected


def test_ties_go_to_the_lower_class_in_every_score() -> None:
    scores = score(torch.zeros(10, 10), torch.arange(10))
    assert (scores["accuracy"], scores["top3"], scores["top5"]) == (0.1, 0.3, 0.5)


def test_logits_that_are_not_numbers_make_no_hits() -> None:
    scores = score(torch.full((6, 10), math.nan), torch.arange(1, 7))
    assert scores["accuracy"] == scores["top3"] == scores["top5"] == 0
    assert math.isnan(scores["loss"])


def test_half_precision_outputs_are_summed_in_double() -> None:
    logits, labels = case("random")
    low = logits.bfloat16()
    expected = torch.nn.functional.cross_entropy(low.double(), labels)
    assert score(low, labels)["loss"] == pytest.approx(float(expected), rel=1e-12)


def test_sums_keep_their_place_and_dtype() -> None:
    metrics = classification(3)
    sums = metrics.start(CPU)
    before: Mapping[str, tuple[int, torch.dtype]] = {name: (s.data_ptr(), s.dtype) for name, s in sums.items()}
    outputs = {"logits": torch.randn(8, 3), "probabilities": torch.rand(8, 3)}
    metrics.add(sums, outputs, {"label": torch.randint(0, 3, (8,))})
    assert {name: (s.data_ptr(), s.dtype) for name, s in sums.items()} == before


def test_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one class"):
        classification(0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_counts_what_the_cpu_counts_without_waiting() -> None:
    logits, labels = case("random")
    metrics = classification(12)
    sums = metrics.start(torch.device("cuda"))
    on_gpu = {"logits": logits.cuda(), "probabilities": logits.cuda().softmax(1)}, {"label": labels.cuda()}
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics.add(sums, *on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert metrics.result(sums) == pytest.approx(score(logits, labels, sizes=[211]), abs=1e-6)
