"""The tutorials' recipes, and those worth having, in full: they land where they should on the real data."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

import flambeau

needs_data = pytest.mark.skipif(
    "FLAMBEAU_DATA" not in os.environ, reason="FLAMBEAU_DATA names no folder with the real data sets"
)


def printed(recipe: str, out: Path, source: str | None = None, epochs: int | None = None) -> tuple[flambeau.Run, str]:
    text = io.StringIO()
    console = Console(file=text, width=200, highlight=False)
    return flambeau.train(source, recipe=recipe, epochs=epochs, out=out, console=console), text.getvalue()


def test_the_fashion_walk_prints_what_the_introductions_print(tmp_path: Path) -> None:
    run, text = printed("tutorial/fashion-mnist", tmp_path / "run", "fashion-mnist-mini", epochs=2)
    assert "batch image: shape [64, 1, 28, 28], torch.uint8" in text
    assert "Linear(in_features=784, out_features=512, bias=True)" in text
    assert re.findall(r"^loss +\d+\.\d+ +\[ +64/ 5000\]", text, re.MULTILINE)
    tests = re.findall(r"^test: accuracy ([\d.]+) %, average loss ([\d.]+) \(mean of batch means", text, re.MULTILINE)
    assert len(tests) == 2
    # The walk tests on the split that it reports: the last line and the final score are the same pass.
    assert float(tests[-1][0]) == pytest.approx(100 * run.scores["test/accuracy"], abs=0.05)
    assert float(tests[-1][1]) == pytest.approx(run.scores["test/loss_mean_of_batches"], abs=1e-5)
    assert re.search(r'predicted ".+", actual "Ankle boot"', text)
    assert (run.path / "first-test-pictures.png").read_bytes().startswith(b"\x89PNG")
    assert "also served as the validation split" in run.report.read_text(encoding="utf-8")


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "low", "high"),
    [
        ("tutorial/fashion-mnist", 0.61, 0.68),
        ("tutorial/fashion-mnist-relu", 0.43, 0.63),
        ("tutorial/mnist", 0.88, 0.95),
        ("tutorial/cifar10", 0.50, 0.58),
    ],
)
def test_a_walk_lands_within_the_spread_of_initialisations(
    tmp_path: Path, recipe: str, low: float, high: float
) -> None:
    run, _ = printed(recipe, tmp_path / "run")
    assert low <= run.scores["test/accuracy"] <= high


@needs_data
@pytest.mark.slow
def test_the_cifar_walk_counts_its_losses_as_the_introduction_does(tmp_path: Path) -> None:
    _, text = printed("tutorial/cifar10", tmp_path / "run", epochs=1)
    lines = re.findall(r"^\[(\d), +(\d+)\] mean loss of 2,000 batches: (\d\.\d{3})$", text, re.MULTILINE)
    assert [(int(epoch), int(batch)) for epoch, batch, _ in lines] == [(1, n) for n in range(2000, 12001, 2000)]
    losses = [float(loss) for _, _, loss in lines]
    # The introduction prints 2.212 1.892 1.681 1.590 1.515 1.475 for its own initial weights.
    assert losses == pytest.approx([2.212, 1.892, 1.681, 1.590, 1.515, 1.475], abs=0.15)
    assert "accuracy of plane" in text


@needs_data
@pytest.mark.slow
def test_fashion_mnist_is_worth_having(tmp_path: Path) -> None:
    run, _ = printed("fashion-mnist", tmp_path / "run")
    assert run.info["epochs"] == 5
    assert run.scores["test/accuracy"] >= 0.925
