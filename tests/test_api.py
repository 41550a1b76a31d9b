"""Flambeau from Python: what ``train`` takes, what a run and a model offer, how they show themselves."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image
from torch import nn

import flambeau
from flambeau.errors import BadRows, DataError, FlambeauError, ModelError, RunError, UsageError

RANDOM = np.random.default_rng(0)
LABELS = np.arange(60) % 3
GREY = (RANDOM.integers(0, 80, (60, 8, 8)) + 60 * LABELS[:, None, None]).astype(np.uint8)
COLOUR = np.repeat(GREY[:, :, :, None], 3, axis=3)


class Tensors(torch.utils.data.Dataset[Any]):
    """A data set as introductions write it: a uint8 picture and a number at each place."""

    def __len__(self) -> int:
        return len(GREY)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(GREY[index]).unsqueeze(0), int(LABELS[index])


class Pictures(Tensors):
    """A data set like torchvision's: PIL pictures, and the names of the classes."""

    classes = ("low", "middle", "high")

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return Image.fromarray(COLOUR[index]), int(LABELS[index])


class Net(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


SOURCES = {
    "NumPy, grey": lambda: (GREY, LABELS),
    "NumPy, colour": lambda: (COLOUR, LABELS),
    "NumPy, names for labels": lambda: (GREY, np.array(["low", "middle", "high"])[LABELS]),
    "tensors": lambda: (torch.from_numpy(GREY).unsqueeze(1), torch.from_numpy(LABELS)),
    "lists": lambda: (list(GREY), LABELS.tolist()),
    "splits": lambda: {"train": (GREY[:40], LABELS[:40]), "test": (GREY[40:], LABELS[40:])},
    "data set of torch": Tensors,
    "like torchvision's": Pictures,
    "splits of data sets": lambda: {"train": Pictures(), "test": Pictures()},
    "a data set that was opened": lambda: flambeau.datasets.load((GREY, LABELS)),
}


def train(source: Any, out: Path, **more: Any) -> flambeau.Run:
    options: dict[str, Any] = {"model": "mlp", "epochs": 1, "settings": TINY, "device": "cpu", "quiet": True}
    return flambeau.train(source, out=out, **(options | more))


@pytest.mark.parametrize("name", SOURCES)
def test_train_takes(name: str, tmp_path: Path) -> None:
    run = train(SOURCES[name](), tmp_path / "run")
    assert run.finished
    assert 0 <= run.scores["test/accuracy"] <= 1
    assert len(run.model.classes) == 3
    assert run.report.is_file()


def test_class_names_travel_with_the_model(tmp_path: Path) -> None:
    assert train(Pictures(), tmp_path / "run").model.classes == ["low", "middle", "high"]


def test_a_test_split_that_is_given_is_the_one_that_is_scored(tmp_path: Path) -> None:
    run = train(SOURCES["splits"](), tmp_path / "run")
    assert run.info["data"]["examples"]["test"] == 20


PLAIN = ("train.batch_size=64", "log.tensorboard=false")


@pytest.mark.parametrize("model", [Net, Net(), nn.Sequential(nn.Flatten(), nn.Linear(64, 3))], ids=repr)
def test_train_takes_a_network_or_its_class(model: Any, tmp_path: Path) -> None:
    run = train((GREY, LABELS), tmp_path / "run", model=model, settings=PLAIN)
    assert run.recipe.model.name.startswith("python:")
    made_by = model if isinstance(model, type) else lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    if isinstance(model, Net):
        made_by = Net
    with pytest.raises(ModelError, match="class of its own"):
        flambeau.load(run)
    loaded = flambeau.load(run, network=made_by)
    assert loaded.predict(GREY[0])["class"] in loaded.classes


def test_a_network_starts_from_its_own_weights(tmp_path: Path) -> None:
    network = Net()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    # So small a rate that nothing visible changes: the weights must be those that came in.
    train((GREY, LABELS), tmp_path / "run", model=network, settings=[*PLAIN, "optimizer.lr=1e-12"])
    for name, value in network.state_dict().items():
        assert torch.allclose(value, before[name], atol=1e-6), name


@pytest.mark.parametrize(
    "recipe",
    [
        {"model": {"name": "mlp", "widths": [8]}, "train": {"epochs": 1}},
        flambeau.Recipe.model_validate({"model": {"name": "mlp", "widths": [8]}, "train": {"epochs": 1}}),
    ],
    ids=["tables", "recipe"],
)
def test_train_takes_recipes_of_python(recipe: Any, tmp_path: Path) -> None:
    run = flambeau.train((GREY, LABELS), recipe=recipe, device="cpu", out=tmp_path / "run", quiet=True)
    assert run.recipe.model.arguments() == {"widths": [8]}
    assert run.info["epochs"] == 1


def test_train_calls_observers(tmp_path: Path) -> None:
    seen: list[str] = []
    train((GREY, LABELS), tmp_path / "run", observers=[lambda record, state: seen.append(record.kind)])
    assert {"epoch-start", "step", "epoch"} <= set(seen)


def test_train_prints_nothing_when_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train((GREY, LABELS), tmp_path / "run")
    assert capsys.readouterr() == ("", "")


def test_a_run_can_be_opened_again(trained: Path) -> None:
    run = flambeau.Run(trained)
    assert run.finished
    assert run.report == trained / "report.html"
    assert [line["kind"] for line in run.metrics()].count("epoch") == 2
    assert run.model.scores == run.scores
    assert "test/accuracy" in repr(run)


@pytest.fixture(scope="module")
def model(trained: Path) -> flambeau.Model:
    found = flambeau.load(trained)
    assert isinstance(found, flambeau.Model)
    return found


@pytest.fixture(scope="module")
def digit() -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = flambeau.datasets.load("digits").splits["train"]["image"][7, 0].numpy()
    return found


def as_png(digit: np.ndarray[Any, Any], mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(digit).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


ONE = {
    "bytes": as_png,
    "PIL": Image.fromarray,
    "PIL, RGB": lambda digit: Image.fromarray(digit).convert("RGB"),
    "PIL, RGBA": lambda digit: Image.fromarray(digit).convert("RGBA"),
    "array (H, W)": lambda digit: digit,
    "array (H, W, 1)": lambda digit: digit[:, :, None],
    "array (H, W, 3)": lambda digit: np.repeat(digit[:, :, None], 3, axis=2),
    "tensor (H, W)": torch.from_numpy,
    "tensor (1, H, W)": lambda digit: torch.from_numpy(digit).unsqueeze(0),
    "tensor (3, H, W)": lambda digit: torch.from_numpy(digit).expand(3, -1, -1),
}


@pytest.mark.parametrize("form", ONE)
def test_predict_takes_one(form: str, model: flambeau.Model, digit: np.ndarray[Any, Any]) -> None:
    found = model.predict(ONE[form](digit))
    assert found.keys() == {"class", "probability", "classes"}
    assert len(found["classes"]) == 10
    assert sum(entry["probability"] for entry in found["classes"]) == pytest.approx(1, abs=1e-5)
    assert found["probability"] == pytest.approx(model.predict(digit)["probability"], abs=1e-5)


@pytest.mark.parametrize("kind", [str, Path])
def test_predict_takes_a_path(kind: Any, model: flambeau.Model, digit: np.ndarray[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "digit.png").write_bytes(as_png(digit))
    assert model.predict(kind(tmp_path / "digit.png")) == model.predict(digit)


SEVERAL = {
    "list": lambda digit: [digit, digit],
    "tuple": lambda digit: (digit, as_png(digit)),
    "generator": lambda digit: (picture for picture in (digit, digit)),
    "array (N, H, W, C)": lambda digit: np.stack([digit, digit])[..., None],
    "array (N, H, W, 3)": lambda digit: np.repeat(np.stack([digit, digit])[..., None], 3, axis=3),
    "tensor (N, C, H, W)": lambda digit: torch.from_numpy(np.stack([digit, digit])).unsqueeze(1),
}


@pytest.mark.parametrize("form", SEVERAL)
def test_predict_takes_several(form: str, model: flambeau.Model, digit: np.ndarray[Any, Any]) -> None:
    found = model.predict(SEVERAL[form](digit), top=2)
    assert [row["class"] for row in found] == [model.predict(digit)["class"]] * 2
    assert all(len(row["classes"]) == 2 for row in found)


def test_predict_of_nothing(model: flambeau.Model) -> None:
    assert model.predict([]) == []
    with pytest.raises(DataError, match="nothing to predict"):
        model.predict(None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((8, 8), np.float32), "uint8"),
        (np.zeros((8, 8, 5), np.uint8), "(H, W, 3)"),
        (torch.zeros(7), "uint8"),
        ("absent.png", "absent.png"),
        (b"junk", "picture"),
        (3.5, "float"),
    ],
)
def test_predict_explains_what_it_cannot_read(model: flambeau.Model, wrong: Any, said: str) -> None:
    with pytest.raises(BadRows) as error:
        model.predict(wrong)
    assert said in str(error.value)


def test_doubt_is_only_there_when_it_is_meant(model: flambeau.Model, digit: np.ndarray[Any, Any]) -> None:
    assert "doubt" not in model.predict(digit)
    assert "brighter" in model.predict(255 - digit)["doubt"]


def test_evaluate_of_run_model_and_path_agree(trained: Path) -> None:
    by_path = flambeau.evaluate(trained)
    for other in (flambeau.Run(trained), flambeau.load(trained), trained / "model.safetensors"):
        assert flambeau.evaluate(other).scores == by_path.scores
    assert flambeau.evaluate(trained, split="train").examples > by_path.examples


def test_evaluate_on_arrays_matches_classes_by_name(trained: Path) -> None:
    split = flambeau.datasets.load("digits").splits["train"]
    some = split.take(torch.arange(100))
    scored = flambeau.evaluate(trained, (some["image"], [str(number) for number in some["label"].tolist()]))
    assert (scored.examples, scored.split) == (100, "all")
    assert scored.scores["accuracy"] > 0.15


def test_evaluate_of_python_objects_asks_for_them(tmp_path: Path) -> None:
    run = train(SOURCES["splits"](), tmp_path / "run")
    with pytest.raises(UsageError, match="objects of Python"):
        flambeau.evaluate(run)


def test_datasets_load() -> None:
    assert "digits" in flambeau.datasets.names()
    digits = flambeau.datasets.load("digits")
    assert (len(digits.splits["train"]), digits.info["classes"][3]) == (1797, "3")
    with pytest.raises(DataError, match="Did you mean digits"):
        flambeau.datasets.load("digts")


def test_inspect_and_export_are_callable(trained: Path, tmp_path: Path) -> None:
    assert flambeau.inspect("mlp").facts["parameters"] == 669_706
    assert flambeau.inspect(Net(), shape=(1, 8, 8)).facts["layers"][1]["output"] == (1, 3)
    assert flambeau.inspect(flambeau.Run(trained)).facts["layers"]
    assert flambeau.inspect((GREY, LABELS)).facts["rows"] == {"train": 60}
    result = flambeau.export_model(flambeau.Run(trained), tmp_path / "plain.pth")
    weights = torch.load(tmp_path / "plain.pth", weights_only=True)
    assert len(weights) == result["tensors"] == 4
    imported = flambeau.import_weights(
        tmp_path / "plain.pth", model="mlp", classes=[str(n) for n in range(10)], settings=["model.widths=[16]"]
    )
    assert imported.facts["size"] == [8, 8]


def test_inspect_of_a_run_with_a_class_of_its_own(tmp_path: Path) -> None:
    run = train((GREY, LABELS), tmp_path / "run", model=Net, settings=PLAIN)
    without = flambeau.inspect(run)
    assert "layers" not in without.facts
    assert "class of its own" in without.facts["notes"][-1]
    assert flambeau.inspect(run, network=Net).facts["layers"]


def test_they_show_themselves_in_a_notebook(trained: Path) -> None:
    shown = {
        "test/accuracy": flambeau.Run(trained)._repr_html_(),
        "mlp": flambeau.load(trained)._repr_html_(),
        "handwritten": flambeau.datasets.load("digits")._repr_html_(),
    }
    for text, html in shown.items():
        assert text in html
        assert html.lstrip().startswith("<")
        assert "<script" not in html
    assert "data:image/png;base64" in shown["handwritten"]


def test_unfinished_or_absent_runs_say_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run folder"):
        flambeau.Run(tmp_path / "nowhere")
    with pytest.raises(FlambeauError):
        flambeau.load(tmp_path)


def test_out_must_be_empty(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(RunError, match="not empty"):
        train((GREY, LABELS), tmp_path)
    assert (tmp_path / "kept.txt").read_text() == "kept"


def test_no_public_name_is_hidden_by_a_module() -> None:
    # A folder of the package that has a function's name would replace it as soon as anything in it is imported.
    functions = [name for name in flambeau.__all__ if name != "datasets"]
    assert not [name for name in functions if find_spec(f"flambeau.{name}")]
