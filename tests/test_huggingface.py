"""Data sets of Hugging Face: objects, saved folders and names, made here on the spot; nothing is fetched."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Command
from PIL import Image

import flambeau
from flambeau import recipe as recipes
from flambeau.columns import Dataset
from flambeau.data.prepare import prepare
from flambeau.data.sources import open_source
from flambeau.datasets import task_of
from flambeau.errors import BadRows, DataError, MissingExtra
from flambeau.tasks.image_classification import TASK

hub = pytest.importorskip("datasets", reason="datasets is not installed")


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (12, 10, 3), dtype=np.uint8))


def encoded(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


def made(first: int = 0, count: int = 24, **more: list[Any]) -> Any:
    """A data set of pictures in two classes, owls and cats by turns, as the Hub's are."""
    columns = {"image": [picture(first + n) for n in range(count)], "label": [n % 2 for n in range(count)], **more}
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["owl", "cat"])})
    for name, values in more.items():
        features[name] = hub.Value("string" if isinstance(values[0], str) else "int64")
    return hub.Dataset.from_dict(columns, features=features)


def opened(source: Any, **data: object) -> Dataset:
    return open_source(source, recipes.parse({"data": data}), TASK.intake, {})


def test_an_object_is_read_as_its_pictures() -> None:
    data = opened(made())
    train = data.splits["train"]
    assert data.info["classes"] == ["cat", "owl"] and train.tensor("label").tolist()[:3] == [1, 0, 1]
    _, read = prepare(data, TASK, recipes.parse({}))
    known = {torch.from_numpy(np.array(picture(n))).permute(2, 0, 1).contiguous().numpy().tobytes() for n in range(24)}
    pixels = [image.numpy().tobytes() for split in read.splits.values() for image in split.tensor("image")]
    assert set(pixels) == known and len(pixels) == 24
    assert opened(made()).hash == data.hash != opened(made(1)).hash


def test_selections_keep_their_order() -> None:
    source = made(id=list(range(24))).shuffle(seed=0).select(range(10))
    labels = opened(source).splits["train"].tensor("label")
    assert labels.tolist() == [1 - number % 2 for number in source["id"]]


def test_splits_groups_and_other_names() -> None:
    source = hub.DatasetDict({"train": made(), "validation": made(30, 6), "unlabelled": made(40, 4)})
    data = opened(source)
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 24, "val": 6}
    assert "Splits that mean neither train, val nor test are left out: unlabelled." in data.info["notes"]
    assert {name: len(part) for name, part in opened(hub.DatasetDict({"all": made()})).splits.items()} == {"train": 24}
    with pytest.raises(DataError, match="splits of the data set are not clear"):
        opened(hub.DatasetDict({"test": made(), "other": made()}))
    grouped = made(burst=[f"b{number // 4}" for number in range(24)])
    _, read = prepare(opened(grouped, group="burst"), TASK, recipes.parse({"data": {"group": "burst"}}))
    assert any("form 6 groups" in note for note in read.info["notes"])


def test_bad_rows_are_named() -> None:
    features = hub.Features({"image": hub.Image(decode=False), "label": hub.ClassLabel(names=["owl", "cat"])})
    images = [{"bytes": encoded(number), "path": None} for number in range(8)]
    images[3]["bytes"] = b"<html>"
    source = hub.Dataset.from_dict({"image": images, "label": [0, 1] * 4}, features=features)
    with pytest.raises(BadRows) as caught:
        opened(source)
    assert caught.value.where == "row 4" and "not a picture" in caught.value.problem


def test_pictures_that_are_files_begin_at_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        Path(name).write_bytes(encoded(number))
    features = hub.Features({"image": hub.Image(), "label": hub.Value("string")})
    table = {"image": [*names[:5], str(tmp_path / "5.png")], "label": ["a", "b"] * 3}
    assert len(opened(hub.Dataset.from_dict(table, features=features)).splits["train"]) == 6
    table["image"][0] = "gone.png"
    with pytest.raises(BadRows, match=r"There is no file gone\.png") as caught:
        opened(hub.Dataset.from_dict(table, features=features))
    assert caught.value.where == "dataset-train:1"


@pytest.mark.slow
def test_a_saved_folder_trains_and_resumes_from_the_command_line(tmp_path: Path, call: Command) -> None:
    hub.DatasetDict({"train": made(0, 40), "test": made(50, 10)}).save_to_disk(str(tmp_path / "owls"))
    assert task_of(str(tmp_path / "owls")) == "image-classification"
    asked = [word for setting in TINY for word in ("--set", setting)]
    told = call("train", "owls", "--model", "mlp", "--epochs", "1", "--out", "run", "--json", "-q", *asked)
    assert told.code == 0, told.err
    run = flambeau.Run(tmp_path / "run")
    assert run.info["data"]["source"] == str(tmp_path / "owls") and run.info["data"]["name"] == "owls"
    assert call("resume", "run", "--epochs", "1", "-q").code == 0
    assert call("evaluate", "run", "--json", "-q").json["examples"] == 10
    next((tmp_path / "owls" / "train").glob("*.arrow")).write_bytes(b"damaged")
    told = call("evaluate", "run")
    assert told.code == 2 and "saved data set is damaged" in told.err


def test_texts_are_taken_too(tmp_path: Path) -> None:
    features = hub.Features({"text": hub.Value("string"), "label": hub.ClassLabel(names=["neg", "pos"])})
    source = hub.Dataset.from_dict({"text": [f"word {n}" for n in range(6)], "label": [0, 1] * 3}, features=features)
    source.save_to_disk(str(tmp_path / "reviews"))
    assert task_of(tmp_path / "reviews") == "text-classification"
    data = flambeau.datasets.load(tmp_path / "reviews")
    assert data.info["classes"] == ["neg", "pos"] and data.splits["train"].tensor("label").tolist() == [0, 1] * 3


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hf:", "hf:a/b/c", "hf:a b"):
        with pytest.raises(DataError, match="no name of a data set"):
            opened(name)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra) as caught:
        opened("hf:owner/name")
    assert caught.value.remedy == "pip install 'flambeau[huggingface]'"


@pytest.mark.slow
def test_a_name_that_cannot_be_loaded(process: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    told = process("train", "hf:nobody/nothing")
    assert told.code == 2 and "could not be loaded from the Hugging Face Hub" in told.err
    assert "Traceback" not in told.err
