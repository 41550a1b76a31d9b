"""What is equal stays equal: seed, recipe and data determine every bit of a run."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import flambeau
from flambeau.run import Run


def data() -> dict[str, tuple[Tensor, Tensor]]:
    """Random pictures, 1 x 8 x 8."""
    generator = torch.Generator().manual_seed(4)
    return {
        name: (torch.randint(0, 256, (rows, 8, 8), generator=generator).to(torch.uint8), torch.arange(rows) % 3)
        for name, rows in (("train", 70), ("val", 15), ("test", 15))
    }


def train(folder: Path, seed: int = 0, **parts: Any) -> Run:
    recipe: dict[str, Any] = {
        "seed": seed,
        "augment": {"shift": 1, "mirror": True, "crop": 0.8},
        "model": {"name": "compact"},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "train": {"epochs": 2, "batch_size": 8, "ema": 0.9, "device": "cpu"},
        "log": {"every": 3, "tensorboard": False},
    }
    return flambeau.train(data(), recipe=recipe | parts, out=folder / "run", quiet=True)


def bits(run: Run) -> tuple[bytes, bytes]:
    return (run.path / "model.safetensors").read_bytes(), (run.path / "metrics.jsonl").read_bytes()


def test_the_same_seed_gives_the_same_bits_whatever_the_global_generators_were(tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = bits(train(tmp_path / "a"))
    torch.manual_seed(2)
    np.random.seed(3)
    random.seed(4)
    assert bits(train(tmp_path / "b")) == one


def test_another_seed_gives_another_run(tmp_path: Path) -> None:
    assert bits(train(tmp_path / "a", seed=0))[1] != bits(train(tmp_path / "b", seed=1))[1]


def test_logging_and_watching_change_nothing(tmp_path: Path) -> None:
    one = train(tmp_path / "a")
    other = train(tmp_path / "b", log={"every": 1, "first": True, "tensorboard": False})
    for name, value in one.model.network.state_dict().items():
        assert torch.equal(value, other.model.network.state_dict()[name]), name
    assert len(other.metrics()) > len(one.metrics())


def test_what_decides_about_bits_is_written_down(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        run = train(
            tmp_path,
            train={"epochs": 1, "batch_size": "auto", "threads": 1, "device": "cpu"},
        )
    finally:
        torch.set_num_threads(before)
    info = json.loads((run.path / "run.json").read_bytes())
    assert info["threads"] == 1 and info["device"] == "cpu"
    assert info["versions"]["torch"] == torch.__version__
    assert len(info["data"]["hash"]) == 64
    assert run.recipe.train.batch_size == 8, "auto is resolved before the recipe is written"


@pytest.mark.parametrize("threads", [2])
def test_a_resume_takes_the_threads_that_the_run_began_with(tmp_path: Path, threads: int) -> None:
    from flambeau.core import Record, State

    before = torch.get_num_threads()
    seen: list[int] = []

    def stop(record: Record, state: State) -> None:
        if record.step == 4:
            raise KeyboardInterrupt

    def look(record: Record, state: State) -> None:
        seen.append(torch.get_num_threads())

    recipe = {"train": {"epochs": 1, "batch_size": 8, "device": "cpu"}, "log": {"tensorboard": False}}
    try:
        torch.set_num_threads(threads)
        with pytest.raises(KeyboardInterrupt):
            flambeau.train(data(), recipe=recipe, out=tmp_path / "run", quiet=True, observers=[stop])
        torch.set_num_threads(1)
        flambeau.resume(tmp_path / "run", source=data(), quiet=True, observers=[look])
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {threads}
