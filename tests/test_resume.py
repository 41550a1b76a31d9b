"""A killed run goes on to the same bits: real processes, real signals, real files."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from killing import CHILD, Kill, carry_on, checkpoints, differences, environment, fingerprint, kill
from warm import programs

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")]

NEVER, ALWAYS, OFTEN = 1000.0, 0.0, 0.03
STEPS = 16
"""In an epoch of the child's data."""

BEFORE_FIRST = [Kill("adamw", "step", 1, NEVER), Kill("sgd", "step", 7, NEVER), Kill("adamw", "step", 16, NEVER)]
MID_EPOCH = [
    Kill("adamw", "step", 6, ALWAYS),
    Kill("sgd", "step", 9, ALWAYS),
    Kill("adamw", "step", 13, ALWAYS),
    Kill("sgd", "step", 15, ALWAYS),
    Kill("adamw", "step", 18, NEVER),
    Kill("sgd", "step", 23, OFTEN),
    Kill("adamw", "step", 25, ALWAYS),
    Kill("sgd", "step", 31, NEVER),
    Kill("adamw", "step", 40, OFTEN),
    Kill("sgd", "step", 47, ALWAYS),
]
WHILE_SAVING = [
    Kill("adamw", "rename", 1, NEVER),
    Kill("sgd", "rename", 1, ALWAYS),
    Kill("adamw", "rename", 7, ALWAYS),
    Kill("sgd", "rename", 16, ALWAYS),
    Kill("adamw", "rename", 3, NEVER),
]
VALIDATING = [Kill("adamw", "validate", 1, OFTEN), Kill("sgd", "validate", 2, NEVER)]
KILLS = [*BEFORE_FIRST, *MID_EPOCH, *WHILE_SAVING, *VALIDATING]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What runs that are never killed come to, in interpreters that hash in other orders than those that are killed."""
    folder = tmp_path_factory.mktemp("reference")
    made = {}
    for config in ("adamw", "sgd"):
        # The model file holds the name of its run, so all the runs have the same one.
        run = folder / config / "run"
        carry_on(run, config, fresh=True)
        made[config] = fingerprint(run)
    return made


def test_the_twenty_kills_are_what_they_should_be() -> None:
    assert len(set(KILLS)) == 20
    assert all(kill.number % STEPS for kill in MID_EPOCH)


def killed_and_resumed(wanted: Kill, folder: Path, references: dict[str, dict[str, Any]]) -> list[str]:
    run = folder / str(wanted) / "run"
    assert kill(run, wanted) == -signal.SIGKILL
    assert not (run / "model.safetensors").exists(), "the process had finished"
    if wanted in BEFORE_FIRST:
        assert not checkpoints(run)
    if wanted in MID_EPOCH:
        assert checkpoints(run), "there was nothing to resume from"
    if wanted in WHILE_SAVING:
        assert list((run / "checkpoints").glob(".tmp-step-*"))
    carry_on(run, wanted.config)
    assert not list(run.rglob(".tmp-*"))
    return [f"{wanted}: {name}" for name in differences(run, references[wanted.config])]


def test_a_run_killed_at_twenty_moments_ends_in_the_same_bits(
    tmp_path: Path, references: dict[str, dict[str, Any]]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        differing = list(pool.map(lambda wanted: killed_and_resumed(wanted, tmp_path, references), KILLS))
    assert not [name for names in differing for name in names]


def test_a_run_killed_again_and_again_ends_in_the_same_bits(
    tmp_path: Path, references: dict[str, dict[str, Any]]
) -> None:
    run = tmp_path / "run"
    for wanted in (
        Kill("adamw", "step", 5, ALWAYS),
        Kill("adamw", "rename", 4, ALWAYS),
        Kill("adamw", "validate", 1, ALWAYS),
        Kill("adamw", "step", 33, NEVER),
    ):
        assert kill(run, wanted, fresh=True) == -signal.SIGKILL
    carry_on(run, "adamw", fresh=True)
    assert not differences(run, references["adamw"])


@pytest.mark.parametrize("after", ["never killed", "killed in it"])
def test_a_finished_run_takes_further_epochs(tmp_path: Path, references: dict[str, Any], after: str) -> None:
    run, twin = tmp_path / "a" / "run", tmp_path / "b" / "run"
    for path in (run, twin):
        carry_on(path, "adamw")
    carry_on(run, "adamw", segment=2)
    info = json.loads((run / "run.json").read_bytes())
    assert [(s["first_epoch"], s["epochs"], s["schedule"]) for s in info["segments"]] == [
        (0, 3, "one-cycle"),
        (3, 2, "cosine"),
    ]
    assert info["epochs"] == 5 and info["status"] == "finished"
    if after == "killed in it":
        assert kill(twin, Kill("adamw", "step", 53, ALWAYS), segment=2) == -signal.SIGKILL
        assert kill(twin, Kill("adamw", "validate", 2, NEVER)) == -signal.SIGKILL
        carry_on(twin, "adamw")
    else:
        carry_on(twin, "adamw", segment=2)
    assert not differences(twin, fingerprint(run))


@pytest.mark.parametrize("file", ["state.json", "MANIFEST.json"])
def test_a_flipped_bit_in_the_newest_checkpoint_is_passed_over(
    tmp_path: Path, references: dict[str, dict[str, Any]], file: str
) -> None:
    run = tmp_path / "run"
    kill(run, Kill("sgd", "step", 22, ALWAYS))
    damaged = run / "checkpoints" / checkpoints(run)[-1] / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 4
    damaged.write_bytes(content)
    carry_on(run, "sgd")
    assert not differences(run, references["sgd"])
    (session,) = json.loads((run / "run.json").read_bytes())["history"]
    assert re.search("step-00000021 is damaged and was passed over", session["warnings"][0])
    assert session["from_step"] == 20


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_run_that_resumes(
    tmp_path: Path, references: dict[str, dict[str, Any]], number: signal.Signals, status: int
) -> None:
    run = tmp_path / "run"
    with start(run) as child:
        assert child.stdout is not None and child.stderr is not None
        wait_for_metrics(run)
        child.send_signal(number)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == status, errors
    assert "was interrupted" in errors and f"flambeau resume {run}" in errors and "Traceback" not in errors
    assert checkpoints(run) and not (run / "model.safetensors").exists()
    assert flambeau("resume", str(run), "--quiet").returncode == 0
    assert json.loads((run / "run.json").read_bytes())["status"] == "finished"
    again = flambeau("resume", str(run))
    assert again.returncode == 0 and "finished" in again.stdout


def test_a_second_process_on_the_same_run_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with start(run) as child:
        wait_for_metrics(run)
        second = flambeau("resume", str(run))
        child.kill()
    assert second.returncode == 2
    assert "Another process is working on this run" in second.stderr


def start(run: Path) -> subprocess.Popen[str]:
    """Trains for some seconds, long enough to be caught in the act."""
    line = flambeau_line("train", f"{CHILD}:pictures", "--model", f"{CHILD}:Net", "--epochs", "150")
    line += ["--set", "log.every=1", "--set", "log.tensorboard=false", "--out", str(run), "--quiet"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def wait_for_metrics(run: Path) -> None:
    for _ in range(6000):
        if (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size:
            return
        time.sleep(0.01)
    raise AssertionError("the process did not begin to train")


def flambeau_line(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from flambeau.cli.main import main; main()", *arguments]


def flambeau(*arguments: str) -> subprocess.CompletedProcess[str]:
    forked = programs()
    line = [str(forked / "flambeau"), *arguments] if forked else flambeau_line(*arguments)
    return subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=300)


def test_a_run_whose_data_changed_is_refused(tmp_path: Path) -> None:
    run, data = tmp_path / "run", tmp_path / "data.py"
    text = CHILD.read_text()
    data.write_text(text.replace('f"{HERE}:pictures"', f'"{data}:pictures"'))
    line = [sys.executable, str(data), str(run), "sgd", "step", "20", "0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment()) as child:
        assert child.stdout is not None and child.stdout.readline() == f"NOW {child.pid}\n"
        child.kill()
    data.write_text(text.replace("manual_seed(11)", "manual_seed(12)"))
    refused = flambeau("resume", str(run))
    assert refused.returncode == 2
    assert "The data is not what it was when the run began" in refused.stderr
