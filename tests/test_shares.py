"""Distributions over the classes, and lists of labels: where they come from, what is learnt, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Command
from PIL import Image

import flambeau
from flambeau.columns import Dataset, Split
from flambeau.core import Batch, Draw
from flambeau.data import shares
from flambeau.data.arrays import from_arrays
from flambeau.data.prepare import prepare
from flambeau.errors import BadRows, DataError, RecipeError
from flambeau.metrics.calibration import cross_entropy, expected_calibration_error, fit_temperature
from flambeau.metrics.classification import classification
from flambeau.tasks import labels
from flambeau.tasks.image_classification import TASK
from flambeau.tasks.image_multilabel import TASK as MULTILABEL
from flambeau.tasks.image_regression import TASK as REGRESSION
from flambeau.workflow.planning import resolve

VOTES = 'options.classes=["cat","dog","owl"]'


def drawn(folder: Path, count: int) -> None:
    """Pictures ``0.png``, ..., each another one: bright by its number modulo 3."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 60, (12, 12), dtype=np.uint8)
        Image.fromarray(noise + np.uint8(60 * (number % 3))).save(folder / f"{number}.png")


def votes_of(number: int) -> list[int]:
    return [8 if place == number % 3 else 1 for place in range(3)]


def csv(folder: Path, rows: list[str], heading: str = "file,cat,dog,owl") -> Path:
    drawn(folder, len(rows))
    lines = [heading, *(f"{number}.png,{row}" for number, row in enumerate(rows))]
    (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "table.csv"


def jsonl(folder: Path, values: list[Any], key: str = "label") -> Path:
    drawn(folder, len(values))
    rows = [json.dumps({"path": f"{number}.png", key: value}) for number, value in enumerate(values)]
    (folder / "table.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "table.jsonl"


def parquet(folder: Path, values: list[Any], key: str = "label") -> Path:
    arrow, files = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    drawn(folder, len(values))
    table = arrow.table({"path": [f"{number}.png" for number in range(len(values))], key: values})
    files.write_table(table, folder / "table.parquet")
    return folder / "table.parquet"


def opened(path: Path, *settings: str, task: Any = TASK) -> Dataset:
    found: Dataset = task.intake.open(path, resolve(str(path), None, task=task.name, settings=settings))
    return found


def test_votes_in_columns_become_shares_and_their_likeliest_class(tmp_path: Path) -> None:
    found = opened(csv(tmp_path, ["3,1,0", "0,5,5", "0.2,0.2,0.6"]), VOTES)
    train = found.splits["train"]
    assert found.info["classes"] == ["cat", "dog", "owl"]
    assert torch.allclose(train.tensor("target"), torch.tensor([[0.75, 0.25, 0], [0, 0.5, 0.5], [0.2, 0.2, 0.6]]))
    assert train.tensor("label").tolist() == [0, 1, 2]
    assert any("In 1 training rows several classes are likeliest" in note for note in found.info["notes"])


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_objects_and_structs_hold_shares_by_class(write: Any, tmp_path: Path) -> None:
    rows = [{"dog": 0.3, "cat": 0.7}, {"cat": 1.0, "dog": None}, {"cat": 0.0, "dog": 2.0}]
    given = [{name: value for name, value in row.items() if value is not None} for row in rows]
    found = opened(write(tmp_path, rows if write is parquet else given))
    assert found.info["classes"] == ["cat", "dog"]
    assert torch.allclose(found.splits["train"].tensor("target"), torch.tensor([[0.7, 0.3], [1.0, 0.0], [0.0, 1.0]]))


def test_a_text_among_objects_is_a_class_with_every_share(tmp_path: Path) -> None:
    found = opened(jsonl(tmp_path, [{"cat": 1, "dog": 1}, "dog", "cat"]))
    assert found.splits["train"].tensor("target").tolist() == [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]


def test_rows_that_are_no_distributions_are_told_with_their_lines(tmp_path: Path) -> None:
    path = csv(tmp_path, ["3,1,0", "-1,2,3", "nan,1,1", "0,0,0", "many,1,0", ",1,2", "1,2,inf"])
    with pytest.raises(BadRows) as caught:
        opened(path, VOTES)
    told = str(caught.value)
    for line, reason in ((3, "-1 is no share"), (4, "nan is no share"), (5, "No class has a share"), (8, "inf is no")):
        assert f"table.csv:{line}: {reason}" in told
    assert "table.csv:6: The share of cat is not a number" in told and "table.csv:7: The share of cat is empty" in told
    many = csv(tmp_path / "many", ["3,1,0", "0,0,0", *["1,2,3"] * 198])
    found = opened(many, VOTES, "data.on_bad=skip")
    assert len(found.splits["train"]) == 199 and len(found.info["skipped"]) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([{"cat": 1, "dog": 2}, {"cat": "much"}], "The share of cat is not a number"),
        ([{"cat": 1, "dog": 2}, {"cat": True}], "The share of cat is not a number"),
        ([{"cat": 1, "dog": 2}, {}], "No class has a share"),
        ([{"cat": 1, "dog": 2}, ["cat", "dog"]], "The label is a list"),
        ([{"cat": 1, "dog": 2}, None], "The label is empty"),
        ([{"cat": 1}, {"cat": 2}], "at least two classes"),
        ([["cat"], ["dog"]], "The label is a list"),
    ],
)
def test_objects_that_are_no_distributions(values: list[Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        opened(jsonl(tmp_path, values))
    assert said in str(caught.value)
    if "list" in said:
        assert "--task image-multilabel" in str(caught.value)


def test_a_class_that_only_another_split_has_is_refused_and_one_that_none_has_is_named(tmp_path: Path) -> None:
    drawn(tmp_path, 3)
    for name, rows in (("train", [{"cat": 1, "dog": 0}, {"dog": 1}]), ("test", [{"cat": 1}, {"cow": 1}])):
        lines = [json.dumps({"path": f"{number}.png", "label": row}) for number, row in enumerate(rows)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(BadRows, match="does not have the class 'cow'") as caught:
        opened(tmp_path)
    assert "test.jsonl:2" in str(caught.value)
    found = opened(csv(tmp_path / "votes", ["1,1,0", "2,0,0", "0,3,0"]), VOTES)
    assert any("No training row has a share of owl, so it cannot be learnt." in note for note in found.info["notes"])


def test_mistakes_of_the_recipe_and_of_columns(tmp_path: Path, pictures: Path) -> None:
    path = csv(tmp_path, ["3,1,0", "0,5,4", "0,2,6"])
    with pytest.raises(DataError, match=r"no column called 'dgo'\. Did you mean dog"):
        opened(path, 'options.classes=["cat","dgo"]')
    for setting in ('options.classes=["cat"]', 'options.classes=["cat","cat"]'):
        with pytest.raises(RecipeError, match="two columns or more"):
            opened(path, setting)
    with pytest.raises(RecipeError, match="Did you mean classes"):
        opened(path, 'options.clases=["cat","dog"]')
    with pytest.raises(RecipeError, match=r"options.classes gives distributions; choose cross-entropy or kl"):
        opened(path, VOTES, "loss.label_smoothing=0", "loss.name=hinge")
    recipe = resolve(str(pictures), None, settings=[VOTES])
    with pytest.raises(DataError, match="one class for each picture"):
        prepare(TASK.intake.open(pictures, recipe), TASK, recipe)


def test_a_hinge_refuses_distributions_that_only_the_data_shows() -> None:
    recipe = resolve("digits", None, settings=["loss.label_smoothing=0", "loss.name=squared-hinge"])
    noise = np.random.default_rng(0).integers(0, 255, (30, 8, 8), dtype=np.uint8)
    data = from_arrays({"train": (noise, np.eye(3).repeat(10, 0))})
    with pytest.raises(DataError, match="The loss squared-hinge wants one class") as caught:
        prepare(data, TASK, recipe)
    assert "cross-entropy or kl" in str(caught.value)


def test_arrays_of_python(tmp_path: Path) -> None:
    pictures = np.zeros((4, 8, 8), np.uint8)
    votes = np.array([[3, 1], [1, 1], [0, 2], [4, 0]])
    found = from_arrays({"train": (pictures, votes), "test": (pictures, [0, 1, 1, 0])}, classes=["cat", "dog"])
    assert found.info["classes"] == ["cat", "dog"]
    assert found.splits["train"]["target"].tolist() == [[0.75, 0.25], [0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]
    assert found.splits["test"]["target"].tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
    assert from_arrays({"train": (pictures, torch.from_numpy(votes))}).info["classes"] == ["0", "1"]
    for given, said in (
        (votes - 1, "train row 1: No class|-1 is no share"),
        ([[1, 2], [1], [1, 2], [1, 2]], "train row 1: There is not one number for each class"),
        ([{"cat": 1, "dog": 1}, {"cat": "x"}, {"dog": 1}, {"dog": 1}], "train row 1: The share of cat is not a number"),
        (np.ones((3, 2)), "not one label for each picture"),
    ):
        with pytest.raises(DataError, match=said):
            from_arrays({"train": (pictures, given)})
    with pytest.raises(BadRows, match="test row 0: There is not one number for each class"):
        from_arrays({"train": (pictures, votes), "test": (pictures[:1], [[1, 2, 3]])})


def test_shares_add_up_to_one_whatever_the_votes() -> None:
    for values in ([1e-300, 1e-300], [1e200, 1.0, 3.0], [1, 2, 4]):
        assert sum(shares.shares(values, "here")) == pytest.approx(1)
    with pytest.raises(DataError, match="too large"):
        shares.shares([1.7e308, 1.7e308], "here")


@pytest.mark.parametrize("loss", ["cross-entropy", "kl", "nll"])
@pytest.mark.parametrize("weights", ["", "loss.class_weights=[1.0,2.0,0.5]"])
def test_a_one_hot_distribution_costs_what_its_class_costs(loss: str, weights: str) -> None:
    recipe = resolve("digits", None, settings=["loss.label_smoothing=0", f"loss.name={loss}", *filter(None, [weights])])
    (phase,) = labels.phases_of(recipe, {"classes": ["a", "b", "c"]}, lambda model, batch: model(batch["x"]))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator).log_softmax(1)
    label = torch.tensor([0, 1, 2, 2, 1, 0])
    hard: Batch = {"x": logits, "label": label}
    soft: Batch = {**hard, "target": torch.nn.functional.one_hot(label, 3).float()}
    model = torch.nn.Identity()
    assert float(phase.loss(model, soft).total) == pytest.approx(float(phase.loss(model, hard).total), rel=1e-6)
    assert phase.count(soft) == pytest.approx(phase.count(hard))


def test_scores_of_distributions_are_cross_entropy_and_accuracy_of_the_likeliest() -> None:
    target = torch.tensor([[0.7, 0.3], [0.4, 0.6], [1.0, 0.0]])
    batch: Batch = {"label": target.argmax(1), "target": target}
    metrics = classification(2)
    sums = metrics.start(torch.device("cpu"))
    metrics.add(sums, {"logits": target.clamp(min=1e-9).log(), "probabilities": target}, batch)
    found = metrics.result(sums)
    entropy = float(-torch.special.xlogy(target, target).sum(1).mean())
    assert found["accuracy"] == 1 and found["loss"] == pytest.approx(entropy, rel=1e-5)
    assert found["ece"] == pytest.approx(0, abs=1e-7), "who says 0.7 where 70 % vote for it is calibrated"
    assert cross_entropy(target.clamp(min=1e-9).log(), target) == pytest.approx(entropy, rel=1e-5)
    assert expected_calibration_error(target, target) == pytest.approx(0, abs=1e-7)
    assert fit_temperature(2 * target[:2].log(), target[:2]) == pytest.approx(2, rel=1e-5)


def test_mixing_goes_on_from_the_distribution() -> None:
    recipe = resolve("digits", None, settings=["augment.preset=none", "augment.mixup=0.4"])
    transform = TASK.transform(recipe, {"mirror": False, "classes": ["a", "b"]})
    assert transform is not None
    target = torch.tensor([[0.75, 0.25], [0.0, 1.0]])
    batch: Batch = {"image": torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "label": target.argmax(1), "target": target}
    made = transform(batch, Draw(0, 0, torch.arange(2)))["target"]
    share = (made[:, 0] - target.flip(0)[:, 0]) / (target - target.flip(0))[:, 0]
    assert bool(((share >= 0) & (share <= 1)).all()) and torch.allclose(made.sum(1), torch.ones(2))
    assert not torch.equal(made, target)


def test_balanced_weights_count_shares() -> None:
    target = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    split = Split({"target": target, "label": target.argmax(1)})
    assert labels.counted(split, 2) == [1.5, 0.5] and labels.counted(split.without("target"), 2) == [2, 0]


@pytest.mark.slow
def test_votes_through_the_commands(call: Command, tmp_path: Path) -> None:
    """Trained, resumed, evaluated on votes and on classes, reported; and refused where the classes are others."""
    path = csv(tmp_path / "data", [",".join(map(str, votes_of(number))) for number in range(150)])
    settings = [part for text in (VOTES, "optimizer.lr=0.01", *TINY) for part in ("--set", text)]
    run = tmp_path / "run"
    done = call("train", path, "--model", "mlp", "--epochs", "12", "--out", run, *settings)
    assert done.code == 0, done.err
    assert "Each picture has a distribution over the classes" in done.out + done.err
    scores = flambeau.Run(run).scores
    floor = -sum(share * np.log(share) for share in (0.8, 0.1, 0.1))
    assert scores["test/accuracy"] > 0.6 and floor - 1e-6 < scores["test/loss"] < floor + 0.3
    assert flambeau.Run(run).recipe.options == {"classes": ["cat", "dog", "owl"]}
    evaluated = call("evaluate", run, "--json").json
    assert evaluated["scores"]["loss"] == pytest.approx(scores["test/loss"])
    assert call("resume", run, "--epochs", "1").code == 0
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "cross-entropy" in report and "likeliest" in report
    folder = tmp_path / "hard"
    for number in range(150, 156):
        (folder / ("cat", "dog", "owl")[number % 3]).mkdir(parents=True, exist_ok=True)
        drawn(tmp_path / "more", 156)
        (tmp_path / "more" / f"{number}.png").rename(folder / ("cat", "dog", "owl")[number % 3] / f"{number}.png")
    assert call("evaluate", run, folder, "--json").json["scores"]["accuracy"] >= 0.5
    other = csv(tmp_path / "other", ["1,2"] * 3, "file,cat,dog")
    refused = call("evaluate", run, other)
    assert refused.code == 2 and "no column called 'owl'" in refused.err
    model = flambeau.load(run)
    with pytest.raises(DataError, match="not one number for each class"):
        flambeau.evaluate(model, (np.zeros((2, 12, 12), np.uint8), [[1.0, 2.0], [2.0, 1.0]]))


def test_what_inspect_counts_is_the_likeliest_class(call: Command, tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"cat": 3, "dog": 1}, {"cat": 1, "dog": 2}, {"cat": 2, "dog": 1}])
    found = call("inspect", path, "--json").json
    assert found["counts"] == {"train": {"cat": 2, "dog": 1}}
    assert any("likeliest" in note for note in found["notes"])


@pytest.mark.parametrize("write", [jsonl, parquet])
def test_lists_of_labels(write: Any, tmp_path: Path) -> None:
    path = write(tmp_path, [["car", "tree"], ["tree"], [], ["bus, red"]], "labels")
    found = opened(path, task=MULTILABEL)
    assert found.info["classes"] == ["bus, red", "car", "tree"]
    assert found.splits["train"].tensor("labels").tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert not any("parted" in note for note in found.info["notes"])


def test_lists_of_labels_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(BadRows) as caught:
        opened(jsonl(tmp_path, [["car"], ["car", None], ["tree", ["car"]]], "labels"), task=MULTILABEL)
    told = str(caught.value)
    assert "jsonl:2: A label in the list is neither" in told and "jsonl:3: A label in the list" in told
    with pytest.raises(BadRows, match="The label is an object"):
        opened(jsonl(tmp_path / "object", [["car"], {"car": 1}], "labels"), task=MULTILABEL)
    with pytest.raises(DataError, match="No row has a label"):
        opened(jsonl(tmp_path / "none", [[], [], []], "labels"), task=MULTILABEL)
    with pytest.raises(BadRows, match="The label is a list"):
        opened(jsonl(tmp_path / "numbers", [[1.0], [2.0]]), task=REGRESSION)


def test_lists_of_labels_in_python() -> None:
    pictures = np.zeros((3, 8, 8), np.uint8)
    recipe = resolve("digits", None, task=MULTILABEL.name)

    def made(source: Any) -> Dataset:
        found: Dataset = MULTILABEL.intake.of_python(source, None, None, recipe)
        return found

    found = made({"train": (pictures, [["car", "tree"], ["tree"], []]), "test": (pictures[:1], [["car"]])})
    assert found.info["classes"] == ["car", "tree"]
    assert found.splits["train"]["labels"].tolist() == [[1, 1], [0, 1], [0, 0]]
    assert found.splits["test"]["labels"].tolist() == [[1, 0]]
    with pytest.raises(BadRows, match="test row 0: The training split does not have the label 'bus'"):
        made({"train": (pictures, [["car"], ["tree"], []]), "test": (pictures[:1], [["bus"]])})
    with pytest.raises(DataError, match="not one target for each picture"):
        made((pictures, [["car"], []]))
    with pytest.raises(DataError, match="a list of names for each picture"):
        made((pictures, ["car", "tree", "car"]))
