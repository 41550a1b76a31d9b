from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, Subset

from flambeau import recipe as recipes
from flambeau.data.datasets import digits, fashion_mnist_mini
from flambeau.data.sources import open_source
from flambeau.errors import DataError, UsageError
from flambeau.tasks.image_classification import TASK
from flambeau.userfile import load_object

LOADERS = {"digits": digits.load, "fashion-mnist-mini": fashion_mnist_mini.load}
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 10, 3), dtype=np.uint8)
LABELS = [0, 1, 2, 0, 1, 2]


def opened(source: Any, **data: object) -> Any:
    return open_source(source, recipes.parse({"data": data}), TASK.intake, LOADERS)


def test_built_in_names_and_data_sets_of_our_own() -> None:
    data = opened("digits")
    assert data.name == "digits" and opened(data) is data


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("fashon-mnist-mini", "Did you mean fashion-mnist-mini?"),
        ("no/such/folder", "There is no such file or folder."),
        ("./digits2", "There is no such file or folder."),
        (Path("digits2"), "There is no such file or folder."),
        (17, "This cannot serve as data."),
    ],
)
def test_what_is_not_there_gets_a_fitting_error(source: object, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        opened(source)
    assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("name", "told"), [("a.zip", "damaged, or is none"), ("a.png", "not a folder or table of pictures")]
)
def test_files_are_refused_with_what_to_do(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / name).write_bytes(b"?")
    with pytest.raises(DataError, match=told):
        opened(str(tmp_path / name))


def test_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(PIXELS[0]).save(tmp_path / name / "1.png")
    data = opened(str(tmp_path))
    assert data.info["classes"] == ["a", "b"] and data.info["source"] == str(tmp_path)
    assert data.info["mirror"] is False  # classes of one letter each


@pytest.mark.parametrize("kind", ["array", "tensor", "channels first", "float", "int64", "list of arrays", "pictures"])
def test_every_form_of_pictures_gives_the_same_columns(kind: str) -> None:
    first = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    images = {
        "array": PIXELS,
        "tensor": torch.from_numpy(PIXELS),
        "channels first": first,
        "float": PIXELS.astype(np.float32) / 255,
        "int64": PIXELS.astype(np.int64),
        "list of arrays": list(PIXELS),
        "pictures": [Image.fromarray(picture) for picture in PIXELS],
    }[kind]
    data = opened((images, np.array(LABELS)))
    column = data.splits["train"]["image"]
    if kind == "pictures":
        assert isinstance(column, list) and data.info["notes"] == []
    else:
        assert torch.equal(column, first) and column.is_contiguous()
        assert any("multiplied by 255" in note for note in data.info["notes"]) == (kind == "float")
    assert data.splits["train"]["label"].tolist() == LABELS and data.splits["train"]["label"].dtype == torch.int64
    assert data.info["classes"] == ["0", "1", "2"] and data.info["mirror"] is False


def test_grey_pictures_get_a_channel() -> None:
    assert opened((PIXELS[..., 0], LABELS)).splits["train"]["image"].shape == (6, 1, 8, 10)
    assert opened((torch.from_numpy(PIXELS[..., 0]), LABELS)).splits["train"]["image"].shape == (6, 1, 8, 10)


def test_pictures_of_different_sizes_stay_a_list() -> None:
    images = [PIXELS[0], PIXELS[1][:4], torch.from_numpy(PIXELS[2]).permute(2, 0, 1)]
    column = opened((images, ["a", "b", "a"])).splits["train"]["image"]
    assert [tuple(row.shape) for row in column] == [(3, 8, 10), (3, 4, 10), (3, 8, 10)]


@pytest.mark.parametrize(
    ("images", "problem", "received"),
    [
        (PIXELS.astype(np.float32), "not clear what they mean", "float32 from 0 to 255"),
        (PIXELS / 255 - 0.5, "not clear what they mean", "float64 from -0.5 to 0.5"),
        (np.full((6, 8, 8), np.nan), "not clear what they mean", "nan"),
        (PIXELS.astype(np.int32) + 1, "not pixels", "int32 from 1 to 256"),
        (PIXELS[..., :2], "neither one nor three channels", "(6, 8, 10, 2)"),
        (PIXELS[0, 0], "does not hold a number of pictures", "(10, 3)"),
    ],
)
def test_arrays_that_are_no_pictures(images: np.ndarray, problem: str, received: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        opened((images, LABELS))
    assert received in str(caught.value.received)


@pytest.mark.parametrize(
    ("labels", "problem", "where"),
    [
        ([0, 1, 2], "not one label for each", "train"),
        ([0, 1, 2, 0, 1, float("nan")], "neither a whole number nor a text", "train row 5"),
        ([0, 1, None, 0, 1, 2], "neither a whole number nor a text", "train row 2"),
        (np.zeros((6, 1)), "one label for each picture", "train"),
        (np.eye(6)[[0, 1, 2, 0, 1, 2]] * [[1], [1], [1], [0], [1], [1]], "No class has a share", "train row 3"),
        ([1] * 6, "only one class", "train"),
    ],
)
def test_labels_that_cannot_be_used(labels: Any, problem: str, where: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        opened((PIXELS, labels))
    assert caught.value.where == where


def test_labels_of_other_kinds() -> None:
    data = opened((PIXELS, [10, 2, 7, 10, 2, 7]))
    assert data.info["classes"] == ["2", "7", "10"] and data.splits["train"]["label"].tolist() == [2, 0, 1, 2, 0, 1]
    assert any("2, 7, 10" in note for note in data.info["notes"])
    data = opened((PIXELS, ["dog", "cat", "dog", "cat", "cat", "dog"]))
    assert data.info["classes"] == ["cat", "dog"] and data.info["mirror"] is True
    assert opened((PIXELS, torch.tensor(LABELS, dtype=torch.float32))).splits["train"]["label"].tolist() == LABELS


def test_splits_in_a_dictionary() -> None:
    data = opened({"train": (PIXELS, LABELS), "test": (PIXELS[:2], [2, 1])})
    assert {name: len(part) for name, part in data.splits.items()} == {"train": 6, "test": 2}
    assert data.splits["test"]["label"].tolist() == [2, 1]
    with pytest.raises(DataError, match="not that of a class") as caught:
        opened({"train": (PIXELS, LABELS), "test": (PIXELS[:2], [2, 3])})
    assert caught.value.where == "test row 1" and caught.value.received == "3"
    with pytest.raises(DataError, match="names of splits"):
        opened({"training": (PIXELS, LABELS)})


class Own(TorchDataset[Any]):
    classes = ("cat", "dog", "owl")

    def __init__(self, form: str = "tensor") -> None:
        self.form = form

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        if index >= 6:
            raise IndexError
        array = PIXELS[index]
        form = {
            "tensor": torch.from_numpy(array).permute(2, 0, 1),
            "to-tensor": torch.from_numpy(array).permute(2, 0, 1).float() / 255,
            "array": array,
            "picture": Image.fromarray(array),
        }
        return form[self.form], torch.tensor(LABELS[index])


@pytest.mark.parametrize("form", ["tensor", "to-tensor", "array", "picture"])
def test_torch_dataset(form: str) -> None:
    data = opened(Own(form))
    assert data.name == "Own" and data.info["classes"] == ["cat", "dog", "owl"]
    column = data.splits["train"]["image"]
    expected = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    assert form == "picture" or torch.equal(column, expected)
    assert data.splits["train"]["label"].tolist() == LABELS
    assert any("transforms in it are frozen" in note for note in data.info["notes"])


def test_subsets_iterables_and_splits_of_torch_datasets() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return (Own()[index] for index in range(6))

    assert opened(Subset(Own(), [1, 0])).splits["train"]["label"].tolist() == [1, 0]
    assert len(opened(Stream()).splits["train"]) == 6
    data = opened({"train": Own(), "test": Subset(Own(), [2])})
    assert data.splits["test"]["label"].tolist() == [2] and data.info["classes"] == ["cat", "dog", "owl"]


def test_torchvision_set_without_transforms_is_taken_over() -> None:
    class Vision(Own):
        transform = target_transform = transforms = None
        data, targets = PIXELS, LABELS

        def __getitem__(self, index: int) -> Any:
            raise AssertionError("the arrays are there")

    data = opened(Vision())
    assert torch.equal(data.splits["train"]["image"], torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert not any("frozen" in note for note in data.info["notes"])


def test_torch_dataset_that_fails_or_gives_no_pairs() -> None:
    class Broken(Own):
        def __getitem__(self, index: int) -> Any:
            return (1, 2, 3) if index == 1 else (PIXELS[index], 0)

    class Failing(Own):
        def __getitem__(self, index: int) -> Any:
            raise RuntimeError("disk on fire")

    with pytest.raises(DataError, match="not a pair") as caught:
        opened(Broken())
    assert caught.value.where == "Broken row 1"
    with pytest.raises(DataError, match="Reading the data set failed") as caught:
        opened(Failing())
    assert "disk on fire" in str(caught.value.received)


FILE = """
import helper
import torch
from torch.utils.data import Dataset

class Flowers(Dataset):
    classes = ["daisy", "rose"]
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return torch.full((3, 8, 8), helper.VALUE + index, dtype=torch.uint8), index % 2

class Needy(Dataset):
    def __init__(self, root):
        pass

def pairs():
    return {"train": (torch.zeros(4, 8, 8, dtype=torch.uint8), [0, 1, 0, 1])}
"""


def test_class_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("VALUE = 40")
    path = tmp_path / "flowers.py"
    path.write_text(FILE)
    data = opened(f"{path}:Flowers")
    assert data.name == "Flowers" and data.info["source"] == f"{path}:Flowers"
    assert data.info["classes"] == ["daisy", "rose"] and data.splits["train"]["image"][3, 0, 0, 0] == 43
    assert len(opened(f"{path}:pairs").splits["train"]) == 4
    with pytest.raises(DataError, match="could not be made") as caught:
        opened(f"{path}:Needy")
    assert "root" in str(caught.value.received) and caught.value.where == f"{path}:Needy"
    with pytest.raises(UsageError, match="defines no Flower") as missing:
        opened(f"{path}:Flower")
    assert "Did you mean Flowers?" in str(missing.value.remedy)


@pytest.mark.parametrize(
    ("content", "received"),
    [("x = 1\nraise ValueError('oh')", "ValueError: oh"), ("def x(:", "SyntaxError"), ("import sys\nsys.exit(3)", "3")],
)
def test_file_that_fails_is_named_with_its_line(tmp_path: Path, content: str, received: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(content)
    with pytest.raises(UsageError, match="raised an error") as caught:
        load_object(f"{path}:Thing")
    assert received in str(caught.value.received)
    assert caught.value.where == f"{path}, line {2 if 'raise' in content or 'exit' in content else 1}"


@pytest.mark.parametrize("spec", ["nothing", "no.py:", "no.py:a b", "gone.py:Thing"])
def test_specs_that_name_nothing(spec: str) -> None:
    with pytest.raises(UsageError):
        load_object(spec)
