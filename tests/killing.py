"""Starts, kills and compares training processes, for the tests of resume and for ``scripts/kill_many.py``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warm import programs

CHILD = Path(__file__).with_name("killing_child.py")
SOURCES = Path(__file__).resolve().parents[1] / "src"


@dataclass(frozen=True, slots=True)
class Kill:
    """When a process is killed, and how often it saves."""

    config: str
    moment: str
    number: int
    interval: float

    def __str__(self) -> str:
        return f"{self.config}-{self.moment}-{self.number}-every-{self.interval:g}s"


def environment(**more: str) -> dict[str, str]:
    """The environment of the children: one thread each, and this source tree."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(SOURCES), **more}


def kill(run: Path, wanted: Kill, segment: int | None = None, *, fresh: bool = False) -> int:
    """Starts a child, kills it at the moment, and returns its exit status.

    The child is forked from a process that has imported PyTorch, or ``fresh``: an interpreter that starts from nothing.
    """
    line = command(run, wanted.config, wanted.moment, wanted.number, wanted.interval, segment, fresh)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as child:
        assert child.stdout is not None and child.stderr is not None
        told = child.stdout.readline().split()
        if told[:1] != ["NOW"]:
            raise AssertionError(f"{wanted}: the moment never came; the child said {told!r}\n{child.stderr.read()}")
        os.kill(int(told[1]), signal.SIGKILL)
        status = child.wait(120)
        child.stdout.read()
        return status


def command(
    run: Path, config: str, moment: str, number: int, interval: float, segment: int | None, fresh: bool
) -> Sequence[str | Path]:
    """The command line of a child."""
    forked = None if fresh else programs()
    more = [] if segment is None else [str(segment)]
    python = forked / "python" if forked else sys.executable
    return [python, CHILD, run, config, moment, str(number), str(interval), *more]


def carry_on(run: Path, config: str, segment: int | None = None, *, fresh: bool = False) -> None:
    """Trains, or resumes, to the end; ``fresh`` as above."""
    line = command(run, config, "never", 0, 10.0, segment, fresh)
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=300)
    if done.returncode or not done.stdout.endswith("DONE\n"):
        raise AssertionError(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")


def fingerprint(run: Path) -> dict[str, Any]:
    """All that a kill must not change: the model file, the metrics, the last checkpoint; only the seconds differ."""
    last = max((run / "checkpoints").glob("step-*"))
    state = json.loads((last / "state.json").read_bytes())
    del state["notes"]["seconds"]
    info = json.loads((run / "run.json").read_bytes())
    return {
        "model file": (run / "model.safetensors").read_bytes(),
        "metrics": (run / "metrics.jsonl").read_bytes(),
        "checkpoint": last.name,
        "weights": (last / "model.safetensors").read_bytes(),
        "optimizer": (last / "optimizer.safetensors").read_bytes(),
        "state": state,
        "info": {name: info[name] for name in ("status", "scores", "epochs", "selected", "segments", "calibration")},
    }


def differences(run: Path, reference: dict[str, Any]) -> list[str]:
    """What differs from a run that was never killed."""
    found = fingerprint(run)
    return [name for name, value in reference.items() if found[name] != value]


def checkpoints(run: Path) -> list[str]:
    """The names of the checkpoints that a run has."""
    return sorted(path.name for path in (run / "checkpoints").glob("step-*"))
