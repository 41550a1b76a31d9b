from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flambeau import recipe as recipes
from flambeau.columns import Columns, Dataset
from flambeau.data.arrays import from_arrays
from flambeau.data.datasets import digits, fashion_mnist_mini
from flambeau.data.folders import scan
from flambeau.data.images import decode, fit
from flambeau.data.prepare import prepare
from flambeau.errors import BadRows, DataError
from flambeau.tasks.image_classification import TASK


def recipe(**parts: object) -> recipes.Recipe:
    return recipes.parse(parts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(20):
            size = (20 + number, 30, 3) if number % 2 else (24, 24)
            Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / name / f"{number:02}.png")
    return tmp_path


def test_pictures_that_fit_are_not_copied() -> None:
    source = fashion_mnist_mini.load()
    _, data = prepare(source, TASK, recipe())
    assert data.splits["test"].tensor("image").data_ptr() == source.splits["test"].tensor("image").data_ptr()
    assert data.hash == source.hash and {name: len(part) for name, part in data.splits.items()} == {
        "train": 4000,
        "test": 1000,
        "val": 1000,
    }


def test_folder_is_read_as_each_picture_alone(folder: Path) -> None:
    source = scan(folder)
    told: list[tuple[int, int]] = []
    facts, data = prepare(source, TASK, recipe(images={"size": 16}), progress=lambda done, of: told.append((done, of)))
    assert facts["size"] == [16, 16] and facts["channels"] == 3
    pictures = {decode_fit(path): label for path, label in zip(*columns(source), strict=True)}
    for split in data.splits.values():
        for picture, label in zip(split.tensor("image"), split.tensor("label").tolist(), strict=True):
            assert pictures[bytes(picture.flatten().tolist())] == label
    assert told[-1] == (40, 40)


def columns(source: Dataset) -> tuple[list[Path], list[int]]:
    train = source.splits["train"]
    paths = train["image"]
    assert isinstance(paths, list)
    return paths, train.tensor("label").tolist()


def decode_fit(path: Path) -> bytes:
    return bytes(fit(decode(path).unsqueeze(0), (16, 16), 3).flatten().tolist())


def test_facts_are_measured_on_training_rows_only() -> None:
    images = np.zeros((20, 8, 8), np.uint8)
    test = np.full((10, 8, 8), 255, np.uint8)
    source = from_arrays({"train": (images, [0, 1] * 10), "test": (test, [0, 1] * 5)})
    facts, _ = prepare(source, TASK, recipe(data={"validation": "none"}))
    assert facts["mean"] == [0.0]


def test_validation_on_test_is_read_once() -> None:
    reads: list[int] = []

    def read(raw: Columns, facts: dict[str, object]) -> dict[str, object]:
        reads.append(len(raw["image"]))
        return TASK.read(raw, facts)

    _, data = prepare(fashion_mnist_mini.load(), replace(TASK, read=read), recipe(data={"validation": "test"}))
    assert sorted(reads) == [1000, 5000] and data.splits["val"] is data.splits["test"]


def test_all_bad_rows_of_all_splits_are_reported(folder: Path) -> None:
    source = scan(folder)
    bad = [folder / "cat" / "03.png", folder / "dog" / "11.png", folder / "dog" / "12.png"]
    for path in bad:
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BadRows, match="3 inputs cannot be read") as caught:
        prepare(source, TASK, recipe())
    assert sorted(str(error.where) for error in caught.value.rows.values()) == sorted(map(str, bad))
    with pytest.raises(DataError, match="3 of 40 rows cannot be read, which is more than 1 %"):
        prepare(source, TASK, recipe(data={"on_bad": "skip"}))


def test_bad_rows_in_memory_are_named_by_split_and_number() -> None:
    images: list[object] = [Image.new("L", (8, 8), number) for number in range(30)]
    images[4] = b"nothing"
    source = from_arrays({"train": (images, [0, 1] * 15), "test": (images[10:20], [0, 1] * 5)})
    with pytest.raises(BadRows) as caught:
        prepare(source, TASK, recipe(data={"validation": "none"}))
    assert [error.where for error in caught.value.rows.values()] == ["train row 4"]


def test_digits_gets_its_splits() -> None:
    facts, data = prepare(digits.load(), TASK, recipe())
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 1150, "test": 359, "val": 288}
    assert facts["mirror"] is False and facts["size"] == [8, 8]
    assert torch.equal(data.splits["train"].tensor("label").bincount(), torch.tensor(facts["counts"]))
