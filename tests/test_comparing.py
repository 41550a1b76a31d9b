"""``flambeau compare``: what differs between runs, whose scores are best, and what makes them hard to compare."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, Command

import flambeau
from flambeau.core import Record, State
from flambeau.errors import Interrupted, RunError, UsageError


def fit(out: Path, *settings: str, **given: Any) -> Path:
    wanted = {"model": "mlp", "epochs": 1, "device": "cpu", "quiet": True}
    flambeau.train("digits", settings=[*TINY, *settings], out=out, **{**wanted, **given})
    return out


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``trained``, but of one epoch and with another rate."""
    return fit(tmp_path_factory.mktemp("other") / "other", "optimizer.lr=0.0002")


def test_only_what_differs_is_told(trained: Path, other: Path) -> None:
    found = flambeau.compare([trained, other])
    assert found.differences.keys() == {"optimizer.lr", "train.epochs"}
    assert found.differences["train.epochs"] == [2, 1]
    assert [run["run"] for run in found.runs] == [str(trained), str(other)]
    assert [run["scores"] for run in found.runs] == [flambeau.Run(trained).scores, flambeau.Run(other).scores]
    assert found.notes == []


def test_the_best_is_marked_where_it_is_known_what_is_better(trained: Path, other: Path) -> None:
    found = flambeau.compare([other, trained, trained])
    scores = [run["scores"] for run in found.runs]
    assert scores[1]["test/accuracy"] > scores[0]["test/accuracy"]
    assert found.best == {"test/accuracy": [1, 2], "test/loss": [1, 2]}


def test_the_page_has_a_curve_of_each_run_and_the_table(
    trained: Path, other: Path, tmp_path: Path, call: Command
) -> None:
    page = tmp_path / "both.html"
    done = call("compare", trained, other, "--html", page, "--json")
    assert done.json["html"] == str(page)
    html = page.read_text(encoding="utf-8")
    figures = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(figures) >= 3
    for figure in figures:
        assert trained.name in figure
        assert other.name in figure
    assert "optimizer.lr" in html
    assert re.search(r"<td>0\.\d{4} \*</td>", html)


def test_a_run_is_taken_as_an_object_too(trained: Path) -> None:
    assert flambeau.compare([flambeau.Run(trained), trained]).differences == {}


@pytest.mark.slow
def test_other_splits_and_other_data_are_noted(trained: Path, other: Path, tmp_path: Path) -> None:
    moved = fit(tmp_path / "moved", "data.split_seed=1")
    (note,) = flambeau.compare([trained, moved]).notes
    assert "divide the same data differently" in note
    flambeau.train("fashion-mnist-mini", model="mlp", epochs=1, settings=TINY, out=tmp_path / "mini", quiet=True)
    (note,) = flambeau.compare([trained, tmp_path / "mini"]).notes
    assert "different data" in note
    on_test = fit(tmp_path / "on-test", "data.validation=test")
    assert any("flatters" in note for note in flambeau.compare([trained, on_test]).notes)


def test_a_run_that_is_not_finished_has_no_scores(trained: Path, tmp_path: Path) -> None:
    def stop(record: Record, state: State) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        fit(tmp_path / "stopped", observers=[stop])
    found = flambeau.compare([trained, tmp_path / "stopped"])
    assert found.runs[1]["scores"] == {} and found.best == {}
    assert any("Not finished" in note and "stopped" in note for note in found.notes)


def test_what_cannot_be_compared_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two"):
        flambeau.compare([trained])
    with pytest.raises(RunError):
        flambeau.compare([trained, tmp_path])


def test_the_command(call: Command, trained: Path, other: Path, tmp_path: Path) -> None:
    done = call("compare", trained, other)
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == [trained.name, other.name]
    rows = {line[0]: line[1:] for line in lines[1:]}
    assert rows["train.epochs"] == ["2", "1"] and rows["epochs"] == ["2", "1"]
    best = f"{flambeau.Run(trained).scores['test/accuracy']:.4f}"
    assert rows["test/accuracy"][:2] == [best, "*"], "the better one is marked"
    result = call("compare", trained, other, "--json").json
    assert result.keys() == {"runs", "differences", "best", "notes"}
    assert result["best"]["test/accuracy"] == [0]
    alone = call("compare", trained)
    assert alone.code == 2 and "at least two" in alone.err
    assert call("compare", trained, tmp_path / "nowhere").code == 2
