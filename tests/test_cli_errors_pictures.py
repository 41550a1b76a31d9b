"""Bad tables, targets and settings of the picture tasks: each is answered before training, with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from PIL import Image
from test_cli_errors import require_message

from flambeau.workflow.planning import resolve


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Twelve pictures of two kinds, and tables of them, each with something wrong."""
    rows = []
    for number in range(12):
        kind = ("cat", "dog")[number % 2]
        (tmp_path / "pics" / kind).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pics" / kind / f"{number}.png")
        rows.append((f"pics/{kind}/{number}.png", kind, number))
    written = {
        "empty": ("", []),
        "header": ("path,label", []),
        "one": ("path,label", [f"{path},cat" for path, _, _ in rows]),
        "tags": ("path,labels", [f"{path},cat;dog" for path, _, _ in rows]),
        "twice": ("path,label,label", [f"{path},{kind},{kind}" for path, kind, _ in rows]),
        "folder": ("path,label", ["pics/cat,cat", *(f"{path},{kind}" for path, kind, _ in rows)]),
        "shares": ("path,label", [f"{path},{number * 0.37}" for path, _, number in rows]),
        "parts": ("path,label,split", [f"{path},{kind},{('trian', 'test')[n % 2]}" for path, kind, n in rows]),
        "tested": ("path,label,split", [f"{path},{kind},test" for path, kind, _ in rows]),
        "bound": ("path,label,group", [f"{path},{kind},{kind}" for path, kind, _ in rows]),
        "words": ("path,age", [f"{path},{'old' if number == 3 else number}" for path, _, number in rows]),
        "low": ("path,age", [f"{path},{number - 5}" for path, _, number in rows]),
        "good": ("path,label,age", [f"{path},{kind},{number}" for path, kind, number in rows]),
    }
    for name, (heading, lines) in written.items():
        (tmp_path / f"{name}.csv").write_text("\n".join([heading, *lines]).lstrip() + ("\n" if heading else ""))
    (tmp_path / "cut.jsonl").write_text('{"path": "a.png", "label"\n')
    for name in ("junk.zip", "junk.tar.gz", "junk.parquet"):
        (tmp_path / name).write_text("junk")
    return tmp_path


CASES = {
    "empty table": ("empty.csv", ["empty.csv", "The table is empty"]),
    "heading alone": ("header.csv", ["no rows of a training split", "received: no rows"]),
    "one class": ("one.csv", ["only one class", "received: cat", "data.columns.label"]),
    "labels in one cell": ("tags.csv", ["received: cat;dog", "--task image-multilabel"]),
    "column twice": ("twice.csv", ["Several columns are called label", "Rename"]),
    "path of a folder": ("folder.csv", ["folder.csv:2", "no file pics/cat"]),
    "numbers for classes": ("shares.csv", ["Too few rows", "--task image-regression"]),
    "names of splits": ("parts.csv", ["'trian' is not the name of a split", "Did you mean train"]),
    "test rows alone": ("tested.csv", ["no rows of a training split", "received: rows of test"]),
    "groups leave nothing": ("bound.csv --group group", ["leave a class without any", "cat in 1, dog in 1"]),
    "misspelt group": ("good.csv --group labl", ["no column called 'labl'", "Did you mean label"]),
    "too many folds": ("good.csv --folds 30", ["Too few rows", "cat (6)", "at least 30 rows"]),
    "one fold": ("good.csv --folds 1", ["--folds", "expected: a whole number from 2", "received: 1"]),
    "broken JSON": ("cut.jsonl", ["cut.jsonl:1", "not valid JSON"]),
    "broken zip": ("junk.zip", ["junk.zip", "damaged"]),
    "broken tar": ("junk.tar.gz", ["junk.tar.gz", "damaged"]),
    "folder for labels": ("pics --task image-multilabel", ["no table of pictures", "column of labels"]),
    "word for a number": ("words.csv --task image-regression", ["words.csv:5", "'old' is not a finite number"]),
    "numbers for msle": ("low.csv --task image-regression --set loss.name=msle", ["above -1", "mse, mae or huber"]),
    "misspelt target": (
        "good.csv --task image-regression --set options.targets=['agee']",
        ["no column called 'agee'", "Did you mean age", "Correct the name"],
    ),
    "loss of another target": ("good.csv --set loss.name=bce", ["image-classification takes cross-entropy", "'bce'"]),
    "nll of scores": (
        "good.csv --set loss.name=nll",
        ["takes log-probabilities", "received: compact"],
    ),
    "misspelt loss": ("good.csv --set loss.name=crossentropy", ["loss.name", "Did you mean cross-entropy"]),
    "misspelt optimiser": ("good.csv --set optimizer.name=adamx", ["optimizer.name", "Did you mean adam"]),
    "misspelt schedule": ("good.csv --set schedule.name=cosin", ["schedule.name", "Did you mean cosine"]),
    "misspelt beginning": ("good.csv --set initial.name=orthogonl", ["initial.name", "Did you mean orthogonal"]),
    "misspelt activation": ("good.csv --set model.activation=geluu", ["model.activation", "Did you mean gelu"]),
    "misspelt norm": ("good.csv --set model.norm=batchnorm", ["model.norm", "Did you mean batch"]),
    "misspelt preset": ("good.csv --augment strng", ["augment.preset", "Did you mean strong"]),
    "misspelt stem": ("good.csv --model resnet18 --set model.stem=smal", ["model.stem", "Did you mean small"]),
    "size": ("good.csv --set images.size=0", ["images.size: expected 'auto' or at least 1, received 0", "a mistake"]),
    "channels": ("good.csv --set images.channels=2", ["images.channels: expected 'auto', 1 or 3, received 2"]),
    "minutes": ("good.csv --minutes 0", ["train.minutes: expected more than 0"]),
    "threads": ("good.csv --threads 0", ["train.threads: expected at least 1"]),
    "precision": ("good.csv --set train.precision=half", ["train.precision", "'float16'", "received 'half'"]),
    "device": ("good.csv --device gpu", ["no device called 'gpu'", "cuda is a GPU"]),
    "expression": ("pics --group (", ["data.group", "no regular expression"]),
    "beginning of no model": ("pics --init good.csv", ["good.csv", "damaged or not a model"]),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_of_pictures(call: Command, tables: Path, name: str) -> None:
    command, parts = CASES[name]
    require_message(call("train", *command.split()), *parts)
    assert not (tables / "runs").exists() or "fold" in name


def test_model_of_another_kind_of_data(call: Command, tables: Path, trained: Path) -> None:
    (tables / "texts.csv").write_text("text,label\n" + "good,yes\nbad,no\n" * 6)
    refused = call("train", "texts.csv", "--init", trained)
    require_message(refused, "another kind of data", "text-classification", "a model for image-classification")


def test_another_loss_leaves_the_recipes_smoothing_out() -> None:
    assert resolve("digits", None).loss.label_smoothing > 0
    assert resolve("digits", None, settings=["loss.name=hinge"]).loss.label_smoothing == 0
    assert resolve("digits", None, settings=["loss.name=cross-entropy"]).loss.label_smoothing > 0
