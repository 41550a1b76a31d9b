"""The gate of export: a file that does not answer as its model does is not kept, and what was compared is told."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Command
from PIL import Image

import flambeau
from flambeau import catalog
from flambeau.errors import FlambeauError, UsageError
from flambeau.export.portable.exported import open_exported

OFF = """
from dataclasses import replace
from torch import Tensor, nn
from flambeau.export.pt2 import FORMAT as PT2
from flambeau.program import Graph

class Off(nn.Module):
    def __init__(self, inner: nn.Module, scale: float, shift: float) -> None:
        super().__init__()
        self.inner, self.scale, self.shift = inner, scale, shift

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.scale * value + self.shift for value in self.inner(image))

def made(name: str, scale: float, shift: float):
    def write(graph, out, card):
        PT2.write(Graph(graph.name, Off(graph.module, scale, shift).eval(), graph.inputs, graph.outputs), out, card)
    return replace(PT2, name=name, write=write)

CLOSE, FAR, NONE = made("close", 1.0, 1e-6), made("far", 1.0, 1e-3), made("none", float("nan"), 0.0)
"""


@pytest.fixture
def formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Formats of another package: one that is a little off, one that is far off, and one that gives no numbers."""
    installed = tmp_path / "installed"
    information = installed / "off-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: off\nVersion: 1.0\n")
    names = "\n".join(f"{name} = off_formats:{name.upper()}" for name in ("close", "far", "none"))
    (information / "entry_points.txt").write_text(f"[flambeau.formats]\n{names}\n")
    (installed / "off_formats.py").write_text(OFF)
    monkeypatch.syspath_prepend(installed)
    catalog.names.cache_clear()
    yield
    catalog.names.cache_clear()


@pytest.mark.usefixtures("formats")
@pytest.mark.parametrize("name", ["far", "none"])
def test_a_format_that_answers_otherwise_leaves_no_file(
    call: Command, trained: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.pt2").write_text("an earlier one")
    done = call("export", trained, "--format", name, "--out", "out/model.pt2")
    assert done.code == 2
    assert "does not answer as the model does" in done.err
    assert "0.0001" in done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.pt2"]
    assert (tmp_path / "out" / "model.pt2").read_text() == "an earlier one"


@pytest.mark.usefixtures("formats")
def test_what_differs_by_less_is_kept_and_told(call: Command, trained: Path) -> None:
    done = call("export", trained, "--format", "close", "--out", "model.pt2", "--json")
    assert done.code == 0
    assert 5e-7 < done.json["differences"]["probabilities"] < 5e-6
    assert done.json["examples"] == done.json["of"] > 256
    assert done.json["strangers"] > 0
    assert done.json["scores"]["accuracy"] == done.json["model_scores"]["accuracy"]


def test_examples_that_cannot_be_read_are_left_out_and_changed_data_is_told(tmp_path: Path) -> None:
    data, random = tmp_path / "data", np.random.default_rng(0)
    for split, count in (("train", 80), ("test", 30)):
        for number in range(count):
            name = ("dark", "bright")[number % 2]
            (data / split / name).mkdir(parents=True, exist_ok=True)
            values = random.integers(100 * (number % 2), 150 + 100 * (number % 2), (9, 8), dtype=np.uint8)
            Image.fromarray(values).save(data / split / name / f"{number}.png")
    # A header and not all pixels: whether it can be read is only seen when it is read.
    damaged = data / "test" / "dark" / "4.png"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    settings = [*TINY, "data.on_bad=skip"]
    run = flambeau.train(data, model="mlp", epochs=1, settings=settings, device="cpu", out=tmp_path / "run", quiet=True)
    told: list[str] = []
    whole = flambeau.export_model(run, tmp_path / "a.pt", "torchscript", tell=told.append)
    assert whole["examples"] == whole["of"] == 29
    Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save(data / "test" / "dark" / "another.png")
    changed = flambeau.export_model(run, tmp_path / "b.pt", "torchscript", tell=told.append)
    assert changed["examples"] == 0
    assert changed["strangers"] == whole["strangers"] > 0
    assert any("made-up inputs" in sentence and "not what it was" in sentence for sentence in told)


def test_a_model_of_python_objects_is_compared_on_made_up_inputs(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    label = np.arange(60) % 2
    data = ((random.random((60, 6, 7)) * 100 + 100 * label[:, None, None]).astype(np.uint8), label)
    run = flambeau.train(data, model="mlp", epochs=1, settings=TINY, device="cpu", out=tmp_path / "run", quiet=True)
    told: list[str] = []
    result = flambeau.export_model(run, tmp_path / "m.pt", "torchscript", tell=told.append)
    assert (result["examples"], result["scores"]) == (0, {})
    assert result["strangers"] > 0
    assert "Only made-up inputs are compared, for the model was trained on objects of Python." in told


def test_a_static_file_of_another_size_has_its_preprocessing_beside_it(call: Command, tmp_path: Path) -> None:
    settings = ["train.batch_size=64", "log.tensorboard=false"]
    flambeau.train("digits", model="compact", epochs=1, settings=settings, device="cpu", out="run", quiet=True)
    done = call("export", "run", "--format", "pt2", "--static", "--size", "12", "--out", "small.pt2", "--json")
    assert done.code == 0, done.err
    assert done.json["inputs"]["model.image"]["shape"] == [1, 1, 12, 12]
    assert done.json["inputs"]["model.image"]["dtype"] == "float32"
    beside = json.loads((tmp_path / "small.json").read_text())
    assert (beside["preprocessing"]["size"], beside["preprocessing"]["static"]) == ([12, 12], True)
    picture = np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8)
    model = flambeau.load("run")
    model.facts = {**model.facts, "size": [12, 12]}
    [found] = open_exported(tmp_path / "small.pt2", "pt2").predict([picture])
    assert found["probability"] == pytest.approx(model.predict(picture)["probability"], abs=1e-5)


def test_a_network_of_one_size_is_not_exported_at_another(call: Command, trained: Path, tmp_path: Path) -> None:
    done = call("export", trained, "--format", "pt2", "--size", "16", "--out", "m.pt2")
    assert done.code == 2
    assert "--size: The network cannot take pictures of this size." in done.err
    assert "leave --size out" in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_half_precision_halves_the_file_and_keeps_the_score(call: Command, trained: Path, tmp_path: Path) -> None:
    whole = call("export", trained, "--format", "pt2", "--out", "whole.pt2", "--json").json
    half = call("export", trained, "--format", "pt2", "--weights", "float16", "--out", "half.pt2", "--json").json
    assert half["differences"]["probabilities"] > whole["differences"]["probabilities"]
    assert half["scores"]["accuracy"] == pytest.approx(half["model_scores"]["accuracy"], abs=0.01)
    weights = [
        sum(value.nbytes for value in torch.export.load(name).state_dict.values()) for name in ("whole.pt2", "half.pt2")
    ]
    assert weights[1] < 0.6 * weights[0]
    picture = np.random.default_rng(0).integers(0, 256, (12, 9), dtype=np.uint8)
    first, second = (open_exported(tmp_path / name, "pt2").predict([picture])[0] for name in ("whole.pt2", "half.pt2"))
    assert first["probability"] == pytest.approx(second["probability"], abs=0.01)


@pytest.mark.slow
def test_8_bits_shrink_the_file_keep_the_score_and_are_computed_in(call: Command, tmp_path: Path) -> None:
    import onnxruntime

    settings = ["train.batch_size=64", "log.tensorboard=false", "model.width=16"]
    flambeau.train("digits", model="compact", epochs=3, settings=settings, device="cpu", out="run", quiet=True)
    whole = call("export", "run", "--format", "onnx", "--out", "whole.onnx", "--json").json
    small = call("export", "run", "--format", "onnx", "--weights", "int8", "--out", "small.onnx", "--json").json
    assert small["bytes"] < 0.7 * whole["bytes"]
    assert small["scores"]["accuracy"] == pytest.approx(small["model_scores"]["accuracy"], abs=0.01)
    assert small["milliseconds"].keys() == {"float32", "int8"}
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession("small.onnx", options, providers=["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx_nodes(tmp_path / "optimised.onnx")}
    assert kinds & {"QLinearConv", "ConvInteger"}
    assert "Conv" not in kinds and "FusedConv" not in kinds


def onnx_nodes(path: Path) -> list[Any]:
    """The nodes of a graph."""
    import onnx

    return list(onnx.load(path).graph.node)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--format pt3", "Did you mean pt2"),
        ("--format pt2 --weights int4", "float32, float16"),
        ("--format torchscript --weights float16", "float32"),
        ("--format pt2 --out nowhere/m.pt2", "no such folder"),
        ("--format pt2 --out t.txt/m.pt2", "no such folder"),
        ("--format pt2 --size 0", "--size"),
        ("--format pt2 --size 5000", "sides from 1 to 4,096"),
        ("--format pt2 --out folder", "folder/model.pt2"),
        ("--out folder", "folder/model"),
        ("--static", "graphs only"),
    ],
)
def test_wrong_options_are_named(call: Command, trained: Path, options: str, told: str) -> None:
    before = sorted(trained.iterdir())
    Path("folder").mkdir()
    Path("t.txt").write_text("a file")
    done = call("export", trained, *options.split())
    assert done.code == 2
    assert told in done.err
    assert sorted(trained.iterdir()) == before


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_a_name_that_openvino_cannot_open_is_refused(call: Command, trained: Path) -> None:
    done = call("export", trained, "--format", "openvino", "--out", "model.bin")
    assert done.code == 2
    assert "end in .xml" in done.err and "Name it model.xml" in done.err


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no folder that nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_named(call: Command, trained: Path) -> None:
    done = call("export", trained, "--format", "torchscript", "--out", "/proc/m.pt")
    assert done.code == 2
    assert "/proc: Nothing can be written to this folder" in done.err


def test_an_exported_file_is_no_model_to_export(call: Command, trained: Path) -> None:
    call("export", trained, "--format", "torchscript", "--out", "m.pt", "--quiet")
    for command in ("export", "sample", "evaluate"):
        done = call(command, "m.pt")
        assert done.code == 2
        assert "written by `flambeau export`" in done.err and "all else takes the run" in done.err


def test_a_size_below_one_and_a_missing_path_are_refused_in_python(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a size"):
        flambeau.export_model(trained, tmp_path / "m.pt2", "pt2", size=(0, 8))
    with pytest.raises(FlambeauError, match="Where to write"):
        flambeau.export_model(flambeau.load(trained), None, "pt2")


def test_by_default_the_file_lies_beside_the_model(trained: Path, tmp_path: Path) -> None:
    alone = flambeau.load(trained).save(tmp_path / "digits.safetensors")
    result = flambeau.export_model(alone, None, "torchscript")
    assert result["out"] == str(tmp_path / "digits.pt")
    assert result["bytes"] == (tmp_path / "digits.pt").stat().st_size


def test_the_state_dict_is_as_it_was(trained: Path, tmp_path: Path) -> None:
    model = flambeau.load(trained)
    result = flambeau.export_model(model, tmp_path / "plain.pth")
    weights = torch.load(tmp_path / "plain.pth", weights_only=True)
    own = model.network.network.state_dict()
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[name], own[name]) for name in own)
    assert result["tensors"] == len(own)
    assert result["preprocessing"]["classes"] == model.classes
    assert json.dumps(result)
