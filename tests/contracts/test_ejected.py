"""Every task's run, as a script, gives its losses and weights where Flambeau cannot be imported."""

from __future__ import annotations

from pathlib import Path

import pytest

import flambeau
from flambeau import catalog
from flambeau.errors import UsageError
from small_data import case
from test_eject import QUICK, execute, require_equal


@pytest.mark.slow
@pytest.mark.parametrize("task", catalog.TASKS)
def test_a_script_of_every_task_reproduces_its_run(task: str, tmp_path: Path) -> None:
    entry = case(task)
    source = entry.write(tmp_path)
    settings = [*entry.all_settings(), *QUICK]
    run = flambeau.train(source, task=task, settings=settings, out=tmp_path / "run", quiet=True)
    if len(catalog.task(task).phases(run.recipe, run.info["facts"])) > 1:
        with pytest.raises(UsageError, match="one loop for one loss"):
            flambeau.eject_run(run, tmp_path / "train.py")
        return
    flambeau.eject_run(run, tmp_path / "train.py")
    execute([tmp_path / "train.py"])
    require_equal(run, tmp_path)
