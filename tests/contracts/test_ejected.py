"""Every task's run, as a script, gives its losses and weights where Flambeau cannot be imported."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_data import case
from test_eject import QUICK, execute, require_equal

import flambeau
from flambeau import catalog


@pytest.mark.slow
@pytest.mark.parametrize("task", catalog.TASKS)
def test_a_script_of_every_task_reproduces_its_run(task: str, tmp_path: Path) -> None:
    entry = case(task)
    source = entry.write(tmp_path)
    settings = [*entry.all_settings(), *QUICK]
    run = flambeau.train(source, task=task, settings=settings, out=tmp_path / "run", quiet=True)
    flambeau.eject_run(run, tmp_path / "train.py")
    execute([tmp_path / "train.py"])
    require_equal(run, tmp_path)
