"""Folds: every row is tested once, classes and groups are respected, and the scores of the runs are put together."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import pytest
import torch
from conftest import TINY, Command
from hypothesis import given, settings
from hypothesis import strategies as st

import flambeau
from flambeau import recipe as recipes
from flambeau.columns import Dataset, Split
from flambeau.data.datasets import digits
from flambeau.data.prepare import prepare
from flambeau.data.splits import GROUP, TOGETHER, folds, with_test_and_validation
from flambeau.errors import DataError, RecipeError, RunError, UsageError
from flambeau.tasks.image_classification import TASK


def rows(labels: list[int], groups: list[int] | None = None) -> Split:
    n = len(labels)
    columns = {"image": torch.arange(n).view(n, 1, 1, 1).to(torch.uint8), "label": torch.tensor(labels)}
    columns[GROUP] = torch.arange(n) * 7919
    return Split(columns if groups is None else {**columns, TOGETHER: torch.tensor(groups)})


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(5, 30), min_size=2, max_size=5), count=st.integers(2, 5), seed=st.integers(0, 2**62))
def test_folds_are_of_one_size_and_have_every_class(counts: list[int], count: int, seed: int) -> None:
    labels = [label for label, number in enumerate(counts) for _ in range(number)]
    found = folds(rows(labels), count, seed)
    sizes = found.bincount(minlength=count)
    assert sizes.sum() == len(labels) and sizes.max() - sizes.min() <= len(counts) + 1
    for label, number in enumerate(counts):
        share = found[torch.tensor(labels) == label].bincount(minlength=count)
        assert share.min() >= max(1, number // count - 1) and share.max() <= number // count + 2
    assert torch.equal(found, folds(rows(labels), count, seed))


def test_groups_are_in_one_fold() -> None:
    labels = [number // 3 % 2 for number in range(60)]
    split = rows(labels, [number // 3 for number in range(60)])
    found = folds(split, 5, 0)
    assert all(len(set(found[first : first + 3].tolist())) == 1 for first in range(0, 60, 3))
    assert found.bincount().tolist() == [12] * 5
    # The order of the rows does not matter.
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert torch.equal(folds(split.take(order), 5, 0), found[order])
    with pytest.raises(DataError, match="All rows of 1 are identical or in one group"):
        folds(rows(labels, [number if number // 3 % 2 == 0 else 999 for number in range(60)]), 3, 0)
    with pytest.raises(DataError, match=r"Too few rows.*1 \(3\)") as caught:
        folds(rows([0] * 10 + [1] * 3), 4, 0)
    assert caught.value.expected == "at least 4 rows a class"


def test_each_row_is_in_the_test_split_of_one_fold() -> None:
    tested: list[bytes] = []
    for fold in ("1/3", "2/3", "3/3"):
        recipe = recipes.parse({"data": {"fold": fold}})
        made = prepare(digits.load(), TASK, recipe)[1]
        assert set(made.splits) == {"train", "val", "test"} and sum(map(len, made.splits.values())) == 1797
        assert any(f"Fold {fold[0]} of 3 is the test split: 599 rows" in note for note in made.info["notes"])
        tested += [bytes(image.flatten().tolist()) for image in made.splits["test"].tensor("image")]
    whole = [bytes(image.flatten().tolist()) for image in digits.load().splits["train"].tensor("image")]
    assert sorted(tested) == sorted(whole)


def test_data_that_is_divided_already_has_no_folds() -> None:
    split = rows([0, 1] * 10)
    source = Dataset("made", {"train": split, "test": split}, {"classes": ["a", "b"]}, "")
    with pytest.raises(DataError, match="splits of its own"):
        with_test_and_validation(source, recipes.Data(fold="1/5"))


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "a/b", "/", 3])
def test_folds_that_mean_nothing(fold: object) -> None:
    with pytest.raises(RecipeError, match=r"data\.fold"):
        recipes.parse({"data": {"fold": fold}})


@pytest.mark.slow
def test_the_command_trains_resumes_and_sums_up(tmp_path: Path, call: Command) -> None:
    asked = ["train", "digits", "--model", "mlp", "--epochs", "1", "--folds", "3", "--out", "runs"]
    asked += [word for setting in TINY for word in ("--set", setting)]
    told = call(*asked, "--json")
    assert told.code == 0, told.err
    runs = [flambeau.Run(tmp_path / "runs" / f"fold-{number}") for number in (1, 2, 3)]
    values = [run.scores["test/accuracy"] for run in runs]
    accuracy = told.json["scores"]["test/accuracy"]
    assert accuracy["values"] == values and accuracy["mean"] == pytest.approx(statistics.fmean(values))
    assert accuracy["std"] == pytest.approx(statistics.stdev(values)) and len(set(values)) > 1
    assert json.loads((tmp_path / "runs" / "folds.json").read_bytes()) == told.json
    lines = [line.split() for line in told.err.splitlines() if line.startswith("test/accuracy")]
    assert lines == [["test/accuracy", *(f"{value:.4f}" for value in (accuracy["mean"], accuracy["std"], *values))]]
    assert len({run.info["data"]["hash"] for run in runs}) == 1 and all(run.report.is_file() for run in runs)
    before = {run.path: run.path.joinpath("model.safetensors").stat().st_mtime_ns for run in runs}
    # One is gone and one is not finished; the first is taken over as it is.
    shutil.rmtree(runs[2].path)
    runs[1].save_info(status="training")
    again = call(*asked, "--json", "-q")
    assert again.code == 0, again.err
    assert again.json == told.json
    after = {run.path: run.path.joinpath("model.safetensors").stat().st_mtime_ns for run in runs}
    assert after[runs[0].path] == before[runs[0].path] and after[runs[2].path] != before[runs[2].path]
    other = call(*asked, "--set", "optimizer.lr=0.5")
    assert other.code == 2 and "trained by another recipe" in other.err
    asked[asked.index("3")] = "2"
    other = call(*asked)
    assert other.code == 2 and "holds 3 folds, and 2 are asked for" in other.err
    assert call("evaluate", "runs/fold-2", "--json", "-q").json["scores"]["accuracy"] == values[1]
    assert "differ" not in call("compare", "runs/fold-1", "runs/fold-1").err
    assert "divide the same data differently" in call("compare", "runs/fold-1", "runs/fold-2").err


def test_objects_of_python_and_mistakes(tmp_path: Path) -> None:
    split = digits.load().splits["train"]
    data = (split["image"][:200], split["label"][:200])
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    before = network[1].weight.clone()
    found = flambeau.train_folds(data, 2, model=network, epochs=1, out=tmp_path / "a", settings=TINY[1:], quiet=True)
    assert torch.equal(network[1].weight, before) and len(found.runs) == 2
    assert found.scores["test/accuracy"].mean == sum(found.scores["test/accuracy"].values) / 2
    again = flambeau.train_folds(data, 2, model=network, epochs=1, out=tmp_path / "a", settings=TINY[1:], quiet=True)
    assert again.scores == found.scores
    with pytest.raises(UsageError, match="whole number from 2"):
        flambeau.train_folds("digits", 1, quiet=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        flambeau.train_folds("digits", 2, out=tmp_path / "b", quiet=True)
    with pytest.raises(RecipeError, match="epohs"):
        flambeau.train_folds("digits", 2, out=tmp_path / "c", settings=["train.epohs=1"], quiet=True)
    (tmp_path / "book.txt").write_text("It was a dark night. " * 400)
    with pytest.raises(DataError, match="language-model is not divided into folds"):
        flambeau.train_folds(tmp_path / "book.txt", 2, out=tmp_path / "c", quiet=True)
    assert not (tmp_path / "c").exists()
