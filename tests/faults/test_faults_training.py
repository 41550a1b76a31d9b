"""Faults 31 to 38: what can befall training, checkpoints and model files, one test a number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import flambeau
from flambeau import files
from flambeau.core import Record, State
from flambeau.engine import checkpoint
from flambeau.errors import Interrupted, ModelError, RunError, TrainingError
from flambeau.run import Run

POISON = 251
"""A pixel of this value makes the network's output infinite."""

POISONED = 37
"""The training row that has one."""


class Net(nn.Module):
    """Cannot take one certain picture."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        spoilt = (flat * 255).round().eq(POISON).any(dim=1, keepdim=True)
        logits: Tensor = self.head(flat.masked_fill(spoilt, torch.inf))
        return logits


def data(*, poisoned: bool = False) -> dict[str, tuple[Tensor, Tensor]]:
    """Random pictures of 4 x 4 pixels: 60 to train on, 12 to validate, 12 to test."""
    generator = torch.Generator().manual_seed(4)
    splits = {}
    for name, rows in (("train", 60), ("val", 12), ("test", 12)):
        images = torch.randint(0, 200, (rows, 4, 4), generator=generator).to(torch.uint8)
        splits[name] = images, torch.arange(rows) % 3
    if poisoned:
        splits["train"][0][POISONED, 2, 1] = POISON
    return splits


def recipe(**parts: dict[str, Any]) -> dict[str, Any]:
    small: dict[str, Any] = {
        "images": {"normalize": "none"},
        "augment": {"mirror": False},
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        "train": {"epochs": 2, "batch_size": 6, "device": "cpu"},
        "log": {"every": 2, "tensorboard": False},
    }
    for name, part in parts.items():
        small[name] = {**small.get(name, {}), **part}
    return small


def train(out: Path, *, poisoned: bool = False, observers: Any = (), **parts: dict[str, Any]) -> Run:
    return flambeau.train(
        data(poisoned=poisoned), model=Net, recipe=recipe(**parts), out=out, observers=observers, quiet=True
    )


def resume(run: Path, **arguments: Any) -> Run:
    return flambeau.resume(run, source=data(), model=Net, quiet=True, **arguments)


def at_step(step: int, act: Callable[[], None]) -> Any:
    """An observer that does something after a step."""

    def observe(record: Record, state: State) -> None:
        if record.kind == "step" and record.step == step:
            act()

    return observe


def bits(run: Path) -> dict[str, bytes]:
    last = max((run / "checkpoints").glob("step-*"))
    return {
        "metrics": (run / "metrics.jsonl").read_bytes(),
        "weights": (last / "model.safetensors").read_bytes(),
        "optimizer": (last / "optimizer.safetensors").read_bytes(),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A run that nothing befell."""
    return bits(train(tmp_path_factory.mktemp("whole") / "run").path)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step."""
    monkeypatch.setattr(checkpoint, "INTERVAL_SECONDS", 0.0)


def test_fault_31_a_loss_that_is_not_finite_stops_and_the_batch_is_written_down(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(
        TrainingError, match=r"The (loss|gradient's norm) is (nan|inf) at step \d+ \(epoch 1, batch"
    ) as caught:
        train(run, poisoned=True)
    assert "failed-batch" in caught.value.problem and str(run) in str(caught.value.where)
    about = json.loads((run / "failed-batch" / "about.json").read_bytes())
    batch = safetensors.torch.load((run / "failed-batch" / "batch.safetensors").read_bytes())
    assert POISONED in about["rows"] and about["rows"] == batch["row"].tolist()
    assert batch["image"][about["rows"].index(POISONED), 0, 2, 1] == POISON
    state = checkpoint.paths(run / "checkpoints")[-1]
    weights = safetensors.torch.load(files.read_folder(state)["model.safetensors"])
    assert int(state.name.removeprefix("step-")) == about["step"]
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert not (run / "model.safetensors").exists()


def test_fault_31_a_batch_that_counts_for_nothing_keeps_its_own_remedy(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="counts for nothing") as caught:
        train(tmp_path / "run", loss={"class_weights": [0, 0, 1]}, train={"batch_size": 1})
    assert "weight above 0" in str(caught.value.remedy)


def test_fault_32_a_gradient_that_explodes_is_logged_can_be_clipped_and_is_never_saved(tmp_path: Path) -> None:
    wild: dict[str, Any] = {"optimizer": {"lr": 1e38}, "train": {"epochs": 9}}
    with pytest.raises(TrainingError, match=r"The loss is|The gradient|not finite"):
        train(tmp_path / "wild", **wild)
    for folder in checkpoint.paths(tmp_path / "wild" / "checkpoints"):
        weights = safetensors.torch.load(files.read_folder(folder)["model.safetensors"])
        assert all(torch.isfinite(value).all() for value in weights.values())
    clipped = train(tmp_path / "tame", train={"clip": 0.01})
    norms = [line["gradient_norm"] for line in clipped.metrics() if line["kind"] == "step"]
    assert len(norms) == 10 and all(norm > 0.01 for norm in norms)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_fault_33_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, whole: dict[str, bytes]) -> None:
    run = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(Path(flambeau.__file__).parents[1])}
    child = subprocess.run([sys.executable, __file__, str(run)], capture_output=True, text=True, env=environment)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert checkpoint.paths(run / "checkpoints")[-1].name == "step-00000012"
    resumed = resume(run)
    assert resumed.info["resumed_from"] == 12 and resumed.finished
    assert bits(run) == whole


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX's")
def test_fault_34_a_full_disk_leaves_the_earlier_checkpoint_and_no_partial_one(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    import resource

    run = tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full() -> None:
        # From now on no file may grow beyond a kilobyte, as on a disk that has no more room.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))

    try:
        with pytest.raises(RunError, match="could not be written") as caught:
            train(run, observers=[at_step(7, full)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "Free some space and resume" in str(caught.value.remedy)
    assert [path.name for path in checkpoint.paths(run / "checkpoints")][-1] == "step-00000006"
    assert not list(run.rglob(".tmp-*"))
    resume(run)
    assert bits(run) == whole


@pytest.mark.parametrize("damage", ["a flipped bit", "cut off"])
def test_fault_35_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, whole: dict[str, bytes], damage: str
) -> None:
    run = interrupted(tmp_path / "run", 8)
    newest = checkpoint.paths(run / "checkpoints")[-1] / "optimizer.safetensors"
    content = bytearray(newest.read_bytes())
    content[-3] ^= 16
    newest.write_bytes(content if damage == "a flipped bit" else content[:-5])
    resumed = resume(run)
    (session,) = resumed.info["history"]
    assert "step-00000008 is damaged and was passed over" in session["warnings"][0]
    assert session["from_step"] == 7
    assert bits(run) == whole


def interrupted(run: Path, step: int, number: int = signal.SIGTERM) -> Path:
    with pytest.raises(Interrupted):
        train(run, observers=[at_step(step, lambda: signal.raise_signal(number))])
    return run


def test_fault_35_a_damaged_best_checkpoint_is_told_and_the_last_weights_are_kept(tmp_path: Path) -> None:
    def damage() -> None:
        (best,) = (tmp_path / "run" / "checkpoints").glob("step-00000010/model.safetensors")
        best.write_bytes(b"")

    run = train(tmp_path / "run", observers=[at_step(19, damage)], train={"keep": "best"}, optimizer={"lr": 1e-12})
    assert run.info["selected"] == {"step": 20, "why": "last"}


def test_fault_36_a_second_process_on_a_run_is_refused(tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run", 3)
    line = [sys.executable, "-c", "from flambeau.cli.main import main; main()", "resume", str(run), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(flambeau.__file__).parents[1])}
    with files.locked(run):
        second = subprocess.run(line, capture_output=True, text=True, env=environment)
    assert second.returncode == 2 and "Traceback" not in second.stderr
    assert json.loads(second.stdout)["error"]["problem"] == "Another process is working on this run."


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("kind", ["step", "validate", "epoch"])
def test_fault_37_a_signal_ends_training_with_a_checkpoint(
    tmp_path: Path, whole: dict[str, bytes], number: int, status: int, kind: str
) -> None:
    run = tmp_path / "run"

    def observe(record: Record, state: State) -> None:
        if record.kind == kind and record.step in (5, 10):
            signal.raise_signal(number)

    with pytest.raises(Interrupted) as caught:
        train(run, observers=[observe])
    step = 5 if kind == "step" else 10
    assert caught.value.exit_code == status and f"after step {step}" in caught.value.problem
    assert checkpoint.paths(run / "checkpoints")[-1].name == f"step-{step:08d}"
    assert resume(run).info["resumed_from"] == step
    assert bits(run) == whole


def test_fault_37_a_signal_in_a_validation_of_averaged_weights_saves_the_models_own(tmp_path: Path) -> None:
    averaging: dict[str, Any] = {"train": {"ema": 0.9}}
    reference = bits(train(tmp_path / "a" / "run", **averaging).path)

    def observe(record: Record, state: State) -> None:
        if record.kind == "validate" and record.step == 10:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(tmp_path / "b" / "run", observers=[observe], **averaging)
    resume(tmp_path / "b" / "run")
    assert bits(tmp_path / "b" / "run") == reference


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        b"",
        b"\xff" * 8 + b"{}",
        b"\x00\x00\x01\x00\x00\x00\x00\x00" + b"[" * 65536,
    ],
    ids=["pickle", "empty", "huge header", "deep JSON"],
)
def test_fault_38_a_hostile_model_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged or not a model"):
        flambeau.load(path)


def test_fault_38_a_manifest_reaches_nothing_outside_its_folder(tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run", 3)
    (tmp_path / "secret").write_text("x")
    for folder in checkpoint.paths(run / "checkpoints"):
        for name in ("../../../secret", str(tmp_path / "secret")):
            entries = {"files": [{"path": name, "size": 1, "sha256": "2d711642b726b04401627ca9fbac32f5"}]}
            (folder / "MANIFEST.json").write_text(json.dumps(entries))
    with pytest.raises(RunError, match="No checkpoint of this run is whole"):
        resume(run)


def test_a_start_that_was_killed_before_the_recipe_was_there_can_be_made_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("LOCK", "run.json", ".tmp-recipe.toml-12ab"):
        (run / name).write_text("")
    assert train(run).finished


def test_metrics_that_were_cut_are_told(tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run", 8)
    (run / "metrics.jsonl").write_text("")
    assert [line["step"] for line in resume(run).metrics()] == [10, 10, 12, 14, 16, 18, 20, 20]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"status": "training"}', "[" * 100_000])
def test_a_damaged_run_json_is_refused(tmp_path: Path, content: str) -> None:
    run = interrupted(tmp_path / "run", 2)
    (run / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json: The file is damaged"):
        resume(run)


if __name__ == "__main__":  # the process that fault 33 kills
    checkpoint.INTERVAL_SECONDS = 0.0
    train(Path(sys.argv[1]), observers=[at_step(13, lambda: os.kill(os.getpid(), signal.SIGKILL))])
