"""Bad input: each kind ends in a message that says what, where, and what to do, with exit code 2 and no traceback."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from conftest import TINY, Called, Command
from PIL import Image

from flambeau.cli.output import Output, output

NET = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4, 10)
    def forward(self, x):
        return self.last(self.first(x).mean((2, 3)))
"""

RECIPES = {
    "three.toml": '[train]\nepochs = 0\nbatch_sise = 3\n[optimizer]\nlr = -1\n[model]\nname = "compct"\n',
    "broken.toml": "[train\nepochs = 1\n",
}


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A folder with everything that the bad commands below name."""
    for name in ("empty", "not-a-run", "no-pictures", "single/only"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "not-a-run" / "notes.txt").write_text("notes")
    (tmp_path / "no-pictures" / "readme.txt").write_text("text")
    for name in ("single/only", "pair/cat", "pair/dog"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            pixels = np.full((9, 9), 20 * number, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    for name, text in RECIPES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    (tmp_path / "raises.py").write_text("1 / 0\n", encoding="utf-8")
    (tmp_path / "names.txt").write_text("a\nb\nc\n", encoding="utf-8")
    (tmp_path / "one-name.txt").write_text("a\n", encoding="utf-8")
    (tmp_path / "junk.safetensors").write_bytes(b"junk" * 20)
    torch.save({"a": torch.zeros(3)}, tmp_path / "odd.pth")
    return tmp_path


def require_message(done: Called, *parts: str) -> None:
    text = done.err
    assert done.code == 2, f"exit code {done.code}: {text}"
    assert "Traceback" not in text + done.out
    assert "bug in Flambeau" not in text
    missing = [part for part in parts if part not in text]
    assert not missing, f"{missing} not in:\n{text}"


CASES = {
    "unknown command": ("trian digits", ["No such command 'trian'", "train"]),
    "unknown option": ("train digits --epoch 3", ["No such option: --epoch", "--epochs"]),
    "option without number": ("train digits --epochs many", ["--epochs", "expected a whole number"]),
    "option without value": ("train digits --epochs", ["--epochs"]),
    "no data named": ("train", ["nothing to train on", "flambeau datasets"]),
    "unknown data": ("train fashon-mnist", ["fashon-mnist", "Did you mean fashion-mnist"]),
    "missing path": ("train ./nowhere", ["./nowhere", "no such file or folder", "Check the path"]),
    "file for a folder": ("train junk.safetensors", ["junk.safetensors", "This is a file", "class folders"]),
    "empty folder": ("train empty", ["empty", "no class folders", "a folder for each class"]),
    "one class": ("train single", ["single", "only one class", "received: only", "Add a folder"]),
    "four mistakes": (
        "train digits --recipe three.toml",
        [
            "three.toml",
            "4 mistakes",
            "train.epochs: expected at least 1, received 0",
            "train.batch_sise: there is no such setting. Did you mean batch_size",
            "optimizer.lr: expected 'auto' or more than 0, received -1",
            "model.name: there is no model called 'compct'. Did you mean compact?",
        ],
    ),
    "absent recipe file": ("train digits --recipe absent.toml", ["absent.toml", "cannot be read"]),
    "recipe not TOML": ("train digits --recipe broken.toml", ["broken.toml", "not valid TOML", "line 1"]),
    "recipe not UTF-8": ("train digits --recipe latin.toml", ["latin.toml", "not UTF-8"]),
    "unknown recipe": ("train digits --recipe tutorial/fashon-mnist", ["Did you mean tutorial/fashion-mnist"]),
    "unknown setting": ("train digits --set train.epoch=3", ["train.epoch: there is no such", "Did you mean epochs"]),
    "unknown table": ("train digits --set trian.epochs=3", ["trian", "Did you mean train?"]),
    "setting without value": ("train digits --set nonsense", ["--set nonsense", "key=value"]),
    "settings all reported": ("train digits --set a --set b", ["2 mistakes", "--set a", "--set b"]),
    "wrong type": ("train digits --set train.epochs=lots", ["train.epochs: expected a whole number, received 'lots'"]),
    "wrong choice": ("train pair --on-bad maybe", ["data.on_bad: expected 'fail' or 'skip', received 'maybe'"]),
    "union": ("train digits --set data.validation=3", ["data.validation", "'auto'", "received 3"]),
    "contradiction": ("train digits --set optimizer.nesterov=true", ["optimizer.nesterov", "momentum"]),
    "argument's name": ("train digits --set model.widht=3", ["model.widht", "Did you mean width?"]),
    "argument's value": ("train digits --set model.width=-3", ["model.width", "expected a whole number", "-3"]),
    "unknown model": ("train digits --model compcat", ["model.name", "'compcat'", "Did you mean compact?"]),
    "unknown task": ("train digits --task image-clasification", ["Did you mean image-classification"]),
    "unknown device": ("train digits --device cda", ["'cda'", "auto, cpu, cuda, mps", "Did you mean cuda?"]),
    "layer does not fit": (
        "train digits --model net.py:Net --out out",
        ["layer first", "N x 3 x height x width", "2 x 1 x 8 x 8", "in_channels = 1"],
    ),
    "pictures too small": (
        "train digits --model tutorial-cifar10 --out out",
        ["conv2", "at least 6 x 5 x 5", "received: 6 x 2 x 2", "images.size = 16"],
    ),
    "unknown class": ("train digits --model net.py:Nett --out out", ["net.py", "no Nett", "Net"]),
    "file without class": ("train digits --model net.py", ["net.py:Net"]),
    "absent Python file": ("train digits --model nett.py:Net --out out", ["nett.py", "no such Python file"]),
    "Python file raises": ("train digits --model raises.py:Net --out out", ["raises.py, line 1", "ZeroDivisionError"]),
    "class weights": (
        "train digits --set loss.class_weights=[1,2] --out out",
        ["loss.class_weights", "expected: 10 numbers", "received: 2"],
    ),
    "folder not empty": ("train digits --out not-a-run", ["not-a-run", "not empty", "Choose another --out"]),
    "out is a file": ("train digits --out names.txt", ["names.txt", "This is a file"]),
    "resume no run": ("resume not-a-run", ["not-a-run", "not a run folder", "recipe.toml"]),
    "resume nothing": ("resume nowhere", ["nowhere", "no such run folder"]),
    "evaluate no run": ("evaluate not-a-run", ["not-a-run", "not a run folder"]),
    "evaluate nothing": ("evaluate nowhere", ["nowhere", "no such file"]),
    "damaged model": ("evaluate junk.safetensors", ["junk.safetensors", "damaged or not a model"]),
    "text for a model": ("predict names.txt pair", ["names.txt", "damaged or not a model"]),
    "no path": ("predict junk.safetensors", ["INPUT"]),
    "nothing to inspect": ("inspect mpl", ["mpl", "nothing of this name", "Did you mean mlp?"]),
    "inspect a file of Python": ("inspect net.py", ["net.py", "net.py:NAME"]),
    "inspect shape": ("inspect mlp --input 28x28", ["--input", "CxHxW", "received: 28x28"]),
    "inspect argument": ("inspect mlp --set model.widhts=3", ["model.widhts", "Did you mean widths?"]),
    "inspect setting": ("inspect mlp --set images.size=3", ["--set", "model.NAME=VALUE"]),
    "inspect misfit": ("inspect net.py:Net", ["layer first", "2 x 1 x 28 x 28"]),
    "unwanted weights": (
        "import odd.pth --model mlp --classes names.txt",
        ["odd.pth", "expected: 6 tensors", "received: 1 tensor"],
    ),
    "absent weights": ("import absent.pth --model mlp --classes names.txt", ["absent.pth", "no such file"]),
    "text for weights": ("import names.txt --model mlp --classes names.txt", ["names.txt", "torch.save"]),
    "import of unknown model": ("import odd.pth --model mlpp --classes names.txt", ["Did you mean mlp?"]),
    "absent class names": ("import odd.pth --model mlp --classes no.txt", ["no.txt", "cannot be read"]),
    "one class name": (
        "import odd.pth --model mlp --classes one-name.txt",
        ["at least two class names", "received: 1"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(call: Command, scene: Path, name: str) -> None:
    command, parts = CASES[name]
    require_message(call(*command.split()), *parts)
    assert not (scene / "out").exists(), "nothing is left behind"
    assert not (scene / "runs").exists()


MODEL_CASES = {
    "unknown split": ("evaluate RUN --split tset", ["--split", "'tset'", "Did you mean test?"]),
    "other classes": ("evaluate RUN pair", ["pair", "does not know: cat, dog", "expected: classes among 0, 1"]),
    "folder without pictures": ("predict RUN no-pictures", ["no-pictures", "no picture in the folder", ".png"]),
    "absent picture": ("predict RUN absent.png", ["absent.png", "There is no such file"]),
    "format of predictions": ("predict RUN pair --format tabel", ["--format", "'tabel'", "table"]),
    "top": ("predict RUN pair --top 0", ["--top", "at least 1"]),
    "unknown format": ("export RUN --format onxx --out x.pth", ["'onxx'", "Did you mean onnx"]),
    "folder to export to is a file": ("export RUN --out names.txt/x.pth", ["names.txt/x.pth", "could not be written"]),
    "folder holds a run": ("train digits --out RUN", ["holds a run already", "flambeau resume"]),
    "no further epochs": ("resume RUN --epochs 0", ["--epochs", "at least 1"]),
    "class file": ("evaluate RUN --network nett.py:Net", ["nett.py", "no such Python file"]),
}


@pytest.mark.parametrize("name", MODEL_CASES)
def test_bad_input_with_a_good_model(call: Command, scene: Path, trained: Path, name: str) -> None:
    command, parts = MODEL_CASES[name]
    require_message(call(*(str(trained) if word == "RUN" else word for word in command.split())), *parts)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_device_that_is_not_there(call: Command) -> None:
    require_message(call("train", "digits", "--device", "cuda"), "finds no cuda device", "received: cuda", "--device")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(call: Command, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    require_message(call("export", trained, "--out", "locked/x.pth"), "locked/x.pth", "could not be written")


@pytest.mark.parametrize("command", ["train nowhere-at-all", "evaluate nowhere", "inspect mpl", "resume nowhere"])
def test_json_has_the_error_on_standard_output(call: Command, command: str) -> None:
    done = call(*command.split(), "--json")
    assert done.code == 2
    assert done.json.keys() == {"error"}
    assert done.json["error"].keys() >= {"type", "problem"}
    assert "error:" in done.err


def test_json_of_misuse(call: Command) -> None:
    done = call("train", "digits", "--epoch", "3", "--json")
    assert (done.code, done.json["error"]["type"]) == (2, "UsageError")


def test_json_lists_every_mistake_of_a_recipe(call: Command, scene: Path) -> None:
    done = call("train", "digits", "--recipe", "three.toml", "--json")
    assert len(done.json["error"]["mistakes"]) == 4


def test_debug_shows_the_traceback(call: Command) -> None:
    done = call("train", "nowhere-at-all", "--debug")
    assert done.code == 2
    assert "Traceback" in done.err
    assert "DataError" in done.err


def test_in_a_process(process: Command) -> None:
    done = process("train", "fashon-mnist")
    assert done.code == 2
    assert "Did you mean fashion-mnist" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (RuntimeError("odd"), 1, "This is a bug in Flambeau: RuntimeError: odd"),
        (OSError(28, "No space left on device", "disk/x"), 2, "disk/x: No space left on device"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_nobody_foresaw(raised: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as exit_, output(json=False, debug=False, quiet=False):
        raise raised
    assert exit_.value.exit_code == code
    assert said in capsys.readouterr().err


def test_numbers_that_are_none_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True, quiet=False).result({"scores": [{"a": float("nan")}, (float("inf"), 1.5)]})
    assert capsys.readouterr().out == '{"scores": [{"a": null}, [null, 1.5]]}\n'


def test_training_with_a_mistaken_network_leaves_no_folder(call: Command, scene: Path) -> None:
    settings = [text for setting in TINY for text in ("--set", setting)]
    done = call("train", "digits", "--model", "net.py:Net", *settings, "--out", "out")
    require_message(done, "widths")
    assert not (scene / "out").exists()
