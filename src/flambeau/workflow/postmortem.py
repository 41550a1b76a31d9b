"""After a loss that is not finite: finds the batch that caused it by replay, and writes it down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import safetensors.torch

from flambeau import files
from flambeau.core import Batch, State, Stream
from flambeau.engine import checkpoint
from flambeau.engine.codec import without_aliases
from flambeau.engine.loop import Plan, train
from flambeau.errors import FlambeauError, TrainingError

if TYPE_CHECKING:
    from flambeau.run import Run
    from flambeau.workflow.job import Job

FOLDER = "failed-batch"


def examine(run: Run, job: Job, plan: Plan, error: TrainingError, *, before: int) -> TrainingError:
    """Repeats the steps since the last checkpoint with an eye on every gradient, until the guilty batch is found.

    Args:
        run: Gets a folder ``failed-batch`` with the batch's tensors and where it stands.
        job: Makes the state anew.
        plan: What was being carried out.
        error: What stopped it.
        before: The step that is not repeated any more, so that the search ends where nothing is found.

    Returns:
        The error, with the batch named.
    """
    state = job.new_state()
    checkpoint.load(run.checkpoints, state)
    last: dict[str, Batch] = {}
    careful = replace(plan, stream=_remembering(plan.stream, last), careful=True, validate=None)
    try:
        for record in train(state, careful):
            if record.step >= before:
                break
    except TrainingError as found:
        try:
            return _written_down(run, state, last["batch"], error, found)
        except FlambeauError:  # such as a full disk: the first error is the one to tell
            return error
    return error


def _remembering(stream: Stream, last: dict[str, Batch]) -> Stream:
    def epoch(number: int, start: int) -> Iterator[Batch]:
        for batch in stream.epoch(number, start):
            last["batch"] = batch
            yield batch

    return Stream(epoch, stream.length)


def _written_down(run: Run, state: State, batch: Batch, error: TrainingError, found: TrainingError) -> TrainingError:
    folder = run.path / FOLDER
    rows = batch["row"].tolist() if "row" in batch else []
    about = {"problem": found.problem, "step": state.step, "epoch": state.epoch, "batch": state.batch, "rows": rows}
    tensors, _ = without_aliases(dict(batch))
    files.write_folder(
        folder, {"batch.safetensors": safetensors.torch.save(tensors), "about.json": files.to_json(about)}
    )
    cause = f" In a replay from the last checkpoint it began after step {state.step}: {found.problem}"
    return TrainingError(
        f"{error.problem}{cause if found.problem != error.problem else ''} The batch is written down in {FOLDER}/.",
        where=run.path,
        remedy=error.remedy,
    )
