"""Pictures with several labels, or with numbers: what tables may say, and what their mistakes are answered with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

import flambeau
from flambeau.columns import Dataset, Split
from flambeau.core import Batch
from flambeau.data.prepare import prepare
from flambeau.errors import BadRows, DataError, RecipeError
from flambeau.recipe import Recipe
from flambeau.tasks.image_multilabel import TASK as LABELS
from flambeau.tasks.image_regression import TASK as NUMBERS
from flambeau.workflow.planning import resolve

SMALL = ["model.width=4", "train.batch_size=8", "log.tensorboard=false", "images.size=16"]


def table(folder: Path, heading: str, cells: list[str]) -> Path:
    """A table of pictures, each another one, with these cells beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [heading]
    for number, cell in enumerate(cells):
        values = np.random.default_rng(number).integers(0, 255, (20, 20), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{cell}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "table.csv"


def opened(task: Any, path: Path, *settings: str) -> Dataset:
    recipe: Recipe = resolve(str(path), None, task=task.name, settings=settings)
    found: Dataset = task.intake.open(path, recipe)
    return found


def test_labels_of_a_cell_are_parted_and_an_empty_cell_has_none(tmp_path: Path) -> None:
    found = opened(LABELS, table(tmp_path, "file,labels", ["cat;dog", "dog", "", "bird; cat", "cat"]))
    assert found.info["classes"] == ["bird", "cat", "dog"]
    assert found.splits["train"].tensor("labels").tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert any("parted by ';'" in note for note in found.info["notes"])
    assert any("bird (1)" in note for note in found.info["notes"])


def test_labels_from_columns_of_yes_and_no(tmp_path: Path) -> None:
    path = table(tmp_path, "file,cat,dog", ["1,0", "0,no", "yes,True", "1.0,"])
    found = opened(LABELS, path, 'options.labels=["cat","dog"]')
    assert found.splits["train"].tensor("labels").tolist() == [[1, 0], [0, 0], [1, 1], [1, 0]]
    path = table(tmp_path / "bad", "file,cat,dog", ["1,0", "2,0", "0,1"])
    with pytest.raises(BadRows) as caught:
        opened(LABELS, path, 'options.labels=["cat","dog"]')
    assert "table.csv:3" in str(caught.value) and "neither yes nor no" in str(caught.value)


def test_numbers_from_the_only_column_left_or_from_named_ones(tmp_path: Path) -> None:
    found = opened(NUMBERS, table(tmp_path, "file,age", ["1", "2.5", "-3e2"]))
    assert found.info["targets"] == ["age"]
    assert found.splits["train"].tensor("target").tolist() == [[1.0], [2.5], [-300.0]]
    path = table(tmp_path / "two", "file,age,weight,note", ["1,2,a", "3,4,b", "5,6,c"])
    found = opened(NUMBERS, path, 'options.targets=["weight","age"]')
    assert found.info["targets"] == ["weight", "age"]
    assert found.splits["train"].tensor("target").tolist() == [[2.0, 1.0], [4.0, 3.0], [6.0, 5.0]]


def test_numbers_that_are_none_are_named_with_their_lines(tmp_path: Path) -> None:
    path = table(tmp_path, "file,age", ["1", "old", "nan", "4", ""])
    with pytest.raises(BadRows) as caught:
        opened(NUMBERS, path)
    told = str(caught.value)
    assert all(f"table.csv:{line}" in told for line in (3, 4, 6)) and "old" in told


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, "file,age,weight", ["1,2", "3,4", "5,6"])
    with pytest.raises(DataError) as caught:
        opened(NUMBERS, path, 'options.targets=["wieght"]')
    assert "weight" in str(caught.value)
    with pytest.raises(DataError, match="not clear which column"):
        opened(NUMBERS, path)


def test_what_is_no_table_is_refused(tmp_path: Path, call: Command) -> None:
    (tmp_path / "cats").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "cats" / "1.png")
    done = call("train", tmp_path, "--task", "image-regression")
    assert done.code == 2 and "no table of pictures" in done.err
    done = call("train", "fashion-mnist-mini", "--task", "image-multilabel", "--epochs", "1")
    assert done.code == 2 and "one class for each picture" in done.err


@pytest.mark.parametrize(
    ("task", "setting", "said"),
    [
        ("image-regression", "loss.name=bce", "takes mse, mae, huber, msle"),
        ("image-regression", "loss.class_weights=balanced", "no classes"),
        ("image-regression", "augment.mixup=0.2", "mixup"),
        ("image-multilabel", "loss.name=mse", "takes bce, hinge, squared-hinge"),
        ("image-multilabel", "augment.cutmix=1.0", "CutMix"),
        ("image-multilabel", "options.label=3", "did you mean"),
        ("image-classification", "loss.name=huber", "takes cross-entropy"),
        ("image-classification", "loss.name=crossentropy", "expected"),
    ],
)
def test_mismatches_of_target_and_settings(task: str, setting: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve("digits", None, task=task, settings=[setting])
    assert said.lower() in str(caught.value).lower()


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "msle"])
def test_every_loss_of_numbers_learns_and_answers_in_the_unit_of_the_data(loss: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    level = generator.integers(10, 240, 160)
    pictures = np.clip(level[:, None, None] + generator.integers(-8, 8, (160, 12, 12)), 0, 255).astype(np.uint8)
    run = flambeau.train(
        (pictures, 1000.0 + 100.0 * level),
        task="image-regression",
        model="mlp",
        epochs=12,
        settings=[f"loss.name={loss}", "model.widths=[16]", "optimizer.lr=0.01", *SMALL[1:3]],
        out=tmp_path / "run",
        quiet=True,
    )
    assert run.scores["test/r2"] > 0.8
    assert run.scores["baseline/r2"] < 0.05
    answer = run.model.predict(pictures[0])
    assert answer["value"] == pytest.approx(1000 + 100 * level[0], abs=6000)
    assert answer["values"] == {"value": answer["value"]}


def test_msle_refuses_numbers_without_a_logarithm(tmp_path: Path) -> None:
    path = table(tmp_path, "file,age", [str(n - 5) for n in range(30)])
    recipe = resolve(str(path), None, task=NUMBERS.name, settings=["loss.name=msle"])
    with pytest.raises(DataError, match="logarithms"):
        prepare(NUMBERS.intake.open(path, recipe), NUMBERS, recipe)


def test_targets_of_other_data_are_put_in_the_order_of_the_model_by_name() -> None:
    labels, facts = Split({"labels": torch.tensor([[1, 0], [1, 1]])}), {"classes": ["bird", "cat", "dog"]}
    aligned = LABELS.intake.align(labels, {"classes": ["dog", "bird"]}, facts)
    assert aligned.tensor("labels").tolist() == [[0, 0, 1], [1, 0, 1]]
    with pytest.raises(DataError, match="labels that the model does not know: cow"):
        LABELS.intake.align(labels, {"classes": ["dog", "cow"]}, facts)
    numbers = Split({"target": torch.tensor([[1.0, 2.0, 3.0]])})
    aligned = NUMBERS.intake.align(numbers, {"targets": ["z", "y", "x"]}, {"targets": ["x", "z"]})
    assert aligned.tensor("target").tolist() == [[3.0, 1.0]]
    with pytest.raises(DataError, match="lacks numbers that the model predicts: w"):
        NUMBERS.intake.align(numbers, {"targets": ["z", "y", "x"]}, {"targets": ["w", "z"]})


@pytest.mark.parametrize("loss", ["bce", "hinge", "squared-hinge"])
def test_every_loss_of_labels_is_a_mean_over_labels_and_adds_up(loss: str) -> None:
    recipe = resolve("digits", None, task=LABELS.name, settings=[f"loss.name={loss}"])
    facts = {**LABELS.toy, "counts": [3, 2, 1], "examples": 6}
    (phase,) = LABELS.phases(recipe, facts)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    batch: Batch = {"image": torch.rand(6, 1, 2, 2), "labels": torch.randint(0, 2, (6, 3), dtype=torch.uint8)}
    whole = float(phase.loss(model, batch).total.detach())
    parts = [{name: value[cut] for name, value in batch.items()} for cut in (slice(0, 2), slice(2, 6))]
    assert sum(float(phase.loss(model, part).total) for part in parts) == pytest.approx(whole, rel=1e-5)
    assert phase.count(batch) == 18
    right = {**batch, "labels": (model(batch["image"]) > 0).to(torch.uint8)}
    assert float(phase.loss(model, right).total) < whole or right["labels"].equal(batch["labels"])


@pytest.mark.slow
def test_labels_through_the_commands(call: Command, tmp_path: Path) -> None:
    """Bright pictures are ``bright``, those with a white row ``row``; both are learnt from a table and told apart."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = ["file,labels"]
    for number in range(120):
        values = np.random.default_rng(number).integers(0, 60, (16, 16), dtype=np.uint8)
        names = ["bright"] * (number % 2) + ["row"] * (number % 3 == 0)
        values += np.uint8(120 * (number % 2))
        values[8] = 255 if "row" in names else values[8]
        Image.fromarray(values).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{';'.join(names)}")
    (folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    run = tmp_path / "run"
    done = call("train", folder / "table.csv", "--task", "image-multilabel", "--epochs", "20", "--out", run, *settings)
    assert done.code == 0, done.err
    assert flambeau.Run(run).scores["test/micro_f1"] > 0.8
    asked = (folder / "1.png", folder / "6.png", "--top", "1", "--format", "json")
    rows = json.loads(call("predict", run, *asked).out)
    for row in rows:
        likely = [entry["class"] for entry in row["classes"] if entry["probability"] >= 0.5]
        assert row["labels"] == likely
        assert {entry["class"] for entry in row["classes"]} == {"bright", "row"}
    assert "labels" in call("predict", run, folder / "1.png", "--format", "csv").out.splitlines()[0]
    evaluated = call("evaluate", run, "--json").json
    assert [row["label"] for row in evaluated["labels"]] == ["bright", "row"]
    refused = call("predict", run, folder / "1.png", "--abstain-below", "0.9")
    assert refused.code == 2 and "abstain" in refused.err
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "By label" in report and "average precision" in report
