"""Pictures of how far a model has come, one after each epoch, where the task can make them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flambeau import files
from flambeau.core import Observer, Record, State
from flambeau.engine.evaluate import averaged_weights, evaluation_mode

if TYPE_CHECKING:
    from flambeau.engine.observers import Events
    from flambeau.run import Run
    from flambeau.workflow.job import Job

FOLDER = "snapshots"
_NAME = re.compile(r"epoch-(\d+)\.png")


def taker(run: Run, job: Job, events: Events | None) -> Observer | None:
    """An observer that writes ``snapshots/epoch-NNN.png`` after each epoch, and shows it in TensorBoard."""
    make = job.task.snapshot
    if make is None:
        return None

    def observe(record: Record, state: State) -> None:
        if record.kind != "epoch":
            return
        with averaged_weights(state), evaluation_mode(state.model):
            shown = make(state.model, job.facts)
        (run.path / FOLDER).mkdir(exist_ok=True)
        files.write(run.path / FOLDER / f"epoch-{record.epoch + 1:03}.png", shown.png)
        if events is not None:
            events.picture(shown.name, shown.png, record.step)

    return observe


def of(run: Run) -> list[tuple[int, bytes]]:
    """The pictures of a run: the epoch (from 0) and the PNG's bytes, in order."""
    folder = run.path / FOLDER
    found = [(match, path) for path in folder.glob("*.png") if (match := _NAME.fullmatch(path.name))]
    return sorted((int(match[1]) - 1, path.read_bytes()) for match, path in found)
