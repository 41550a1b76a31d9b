"""Compiled training, deterministic algorithms, precision and threads, from recipe to run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Command
from safetensors import safe_open
from torch import Tensor, nn

import flambeau
from flambeau.core import Record, State
from flambeau.engine.compiling import is_compiled
from flambeau.errors import TrainingError
from flambeau.recipe import Augment, parse
from flambeau.run import Run
from flambeau.workflow.troubles import computing

TINY_SET = [option for setting in TINY for option in ("--set", setting)]


def small(out: Path, *settings: str, **more: Any) -> Run:
    given: dict[str, Any] = {"model": "mlp", "epochs": 1, "device": "cpu", "quiet": True, **more}
    return flambeau.train("digits", settings=[*(TINY if given["model"] == "mlp" else ()), *settings], out=out, **given)


@pytest.mark.slow
def test_precision_is_recorded_and_scores_are_those_of_32_bits(tmp_path: Path) -> None:
    auto = small(tmp_path / "auto", "train.precision=auto")
    assert auto.recipe.train.precision == "float32", "the rule's answer for processors"
    short = small(tmp_path / "short", "train.precision=bfloat16")
    assert short.recipe.train.precision == "bfloat16"
    assert short.scores["test/loss"] != auto.scores["test/loss"]
    assert short.scores["test/loss"] == pytest.approx(auto.scores["test/loss"], rel=0.02)
    assert flambeau.evaluate(short).scores["loss"] == short.scores["test/loss"]


def test_float16_on_a_processor_is_refused_before_data_is_read(call: Command) -> None:
    done = call("train", "digits", "--device", "cpu", "--set", "train.precision=float16", "--out", "run")
    assert done.code == 2 and "train.precision: float16 is for CUDA devices." in done.err
    assert "Take bfloat16" in done.err and not Path("run").exists()


class Scattering(nn.Module):
    """Puts values at places, in an order that PyTorch does not promise."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.head = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.head(images.flatten(1))
        return output + torch.zeros(4).put_(torch.tensor([0]), output.detach()[0, :1])[0]


def test_deterministic_mode_names_an_operation_that_has_no_such_form(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no deterministic form: put_") as caught:
        small(tmp_path / "run", "train.deterministic=true", model=Scattering)
    assert caught.value.where == "train.deterministic" and not torch.are_deterministic_algorithms_enabled()


def test_deterministic_mode_is_on_while_it_trains_and_off_again(tmp_path: Path) -> None:
    seen: list[bool] = []

    def watch(record: Record, state: State) -> None:
        seen.append(torch.are_deterministic_algorithms_enabled())

    small(tmp_path / "run", "train.deterministic=true", observers=[watch])
    assert all(seen) and not torch.are_deterministic_algorithms_enabled()


class Doubling(nn.Module):
    """Asks for a product of two types, which only 16 bits make of it."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = torch.addmm(torch.zeros(8), images.flatten(1), self.first.weight.T)
        output: Tensor = self.last(made)
        return output + torch.dot(made[0], torch.ones(8, dtype=torch.float32)) * 0


def test_a_network_that_does_not_go_with_16_bits_is_explained(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="does not train in bfloat16") as caught:
        small(tmp_path / "half", "train.precision=bfloat16", model=Doubling)
    assert caught.value.where == "train.precision"


def test_flags_for_threads_and_augmentation_reach_the_run(call: Command) -> None:
    before = torch.get_num_threads()
    line = ("train", "digits", "--model", "mlp", "--epochs", "1", "--threads", "1", "--augment", "light")
    try:
        assert call(*line, *TINY_SET, "--set", "augment.mirror=true", "--out", "run", "--quiet").code == 0
    finally:
        torch.set_num_threads(before)
    run = Run("run")
    assert run.info["threads"] == 1 == run.recipe.train.threads
    assert run.recipe.augment == Augment(preset="light", mirror=True)


@pytest.mark.slow
def test_a_machine_without_a_compiler_is_told_before_data_is_read(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "flambeau", "train", "digits", "--set", "train.compile=true", "--out", "run"]
    nothing = str(tmp_path)
    empty = {**os.environ, "PATH": nothing, "CXX": f"{nothing}/c++", "TORCHINDUCTOR_CACHE_DIR": nothing}
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, env=empty, timeout=200)
    assert done.returncode == 2, done.stderr
    assert "train.compile: PyTorch cannot compile on this machine." in done.stderr and "C++ compiler" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_network_that_cannot_be_compiled_is_explained() -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise AssertionError("expected size 402==402")

    network = nn.Linear(2, 2)
    network.compile(backend=broken)
    recipe = parse({"train": {"compile": True}})
    with pytest.raises(TrainingError, match="cannot be trained compiled") as caught, computing(recipe):
        network(torch.zeros(1, 2))
    assert caught.value.where == "train.compile" and caught.value.remedy == "Set train.compile = false."
    with pytest.raises(ZeroDivisionError), computing(recipe):
        raise ZeroDivisionError


@pytest.mark.slow
def test_a_compiled_run_resumes_to_the_same_bits_and_scores_as_it_is_written(tmp_path: Path) -> None:
    settings = ("train.compile=true", "model.dropout=0.2", "train.ema=0.9")
    modes: list[bool] = []

    def watch(record: Record, state: State) -> None:
        modes.append(is_compiled(state.model) or record.kind == "validate")

    whole = small(tmp_path / "a" / "run", *settings, epochs=2, observers=[watch])
    assert all(modes)
    plain = small(tmp_path / "plain", *settings[1:], epochs=2)
    names = [sorted(safe_open(run.path / "model.safetensors", "pt").keys()) for run in (whole, plain)]
    assert names[0] == names[1]
    assert flambeau.evaluate(whole).scores["loss"] == whole.scores["test/loss"]

    class StoppedError(Exception):
        pass

    def stop(record: Record, state: State) -> None:
        if record.kind == "step" and record.step == 25:
            raise StoppedError

    with pytest.raises(StoppedError):
        small(tmp_path / "b" / "run", *settings, epochs=2, observers=[stop])
    resumed = flambeau.resume(tmp_path / "b" / "run", quiet=True)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()
