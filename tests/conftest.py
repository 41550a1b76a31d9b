"""What several test files share: a small trained run, a folder of pictures, and the command line in this process."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ENTRY = "from flambeau.cli.main import main; main()"

TINY = ("model.widths=[16]", "train.batch_size=64", "log.tensorboard=false")
"""Settings of an ``mlp`` that trains in well under a second."""


@dataclass(frozen=True)
class Called:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON object and nothing else."""
        found = json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert isinstance(found, dict)
        return found


Command = Callable[..., Called]


def pytest_collection_finish() -> None:
    """Keeps what was imported out of garbage collection, which otherwise takes a twentieth of the tests' time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Lets libraries take their objects back in the end; some complain of those that they do not get."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def no_weights(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty cache of published weights, here and in child processes: what is in the user's would change defaults."""
    os.environ["TORCH_HOME"] = str(tmp_path_factory.mktemp("torch-home"))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs a command in this process, in an empty folder; an exception that gets out of it fails the test."""
    from flambeau.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Called:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return Called(exit_.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def process(tmp_path: Path) -> Command:
    """Runs a command in a process of its own."""

    def run(*arguments: object) -> Called:
        done = subprocess.run(
            [sys.executable, "-c", ENTRY, *map(str, arguments)],
            capture_output=True,
            encoding="utf-8",
            cwd=tmp_path,
            timeout=120,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        )
        return Called(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: ``mlp`` on ``digits``, two epochs. Not to be changed."""
    import flambeau

    out = tmp_path_factory.mktemp("trained") / "run"
    flambeau.train("digits", model="mlp", epochs=2, settings=TINY, device="cpu", out=out, quiet=True)
    return out


Small = Callable[[str], Path]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Finished runs on the contract tests' data, by task; trained when first asked for, and not to be changed."""
    sys.path.append(str(Path(__file__).parent / "contracts"))
    from small_data import case

    import flambeau

    base = tmp_path_factory.mktemp("small")

    @cache
    def run(task: str) -> Path:
        (base / task).mkdir()
        found = case(task)
        source, out = found.write(base / task), base / task / "run"
        flambeau.train(source, task=task, settings=found.all_settings(), device="cpu", out=out, quiet=True)
        return out

    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 48 pictures in two classes: PNG and JPEG, grey, RGB and with alpha, of three sizes."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name, low in (("bright", 120), ("dark", 0)):
        (root / name).mkdir()
        for number in range(24):
            height, width = ((20, 24), (16, 16), (33, 21))[number % 3]
            mode, depth = (("L", 0), ("RGB", 3), ("RGBA", 4))[number // 3 % 3]
            shape = (height, width, depth) if depth else (height, width)
            values = random.integers(low, low + 130, shape, dtype=np.uint8)
            suffix = "jpg" if number % 2 and mode != "RGBA" else "png"
            Image.fromarray(values, mode).save(root / name / f"{number:02}.{suffix}")
    return root
