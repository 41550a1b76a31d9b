"""What follows training: the best state is selected, calibrated, tested once, saved and reported."""

from __future__ import annotations

import shlex
import time
from typing import Any

from flambeau import files
from flambeau.core import Evaluation, Scores, State
from flambeau.engine import checkpoint
from flambeau.engine.evaluate import evaluate
from flambeau.errors import RunError
from flambeau.model import Model, describe
from flambeau.run import MODEL, REPORT, Run
from flambeau.task import Baseline, Outcome
from flambeau.userfile import in_file
from flambeau.workflow import snapshots
from flambeau.workflow.job import Job, data_record
from flambeau.workflow.reporting import render_report, warnings
from flambeau.workflow.spending import bottlenecks


def finish(run: Run, job: Job, state: State, clock_offset: float) -> Run:
    """Finishes a run whose training is done; repeated from the start when it was interrupted.

    Args:
        run: Its folder.
        job: Data, task, device.
        state: As training left it; afterwards it holds the selected weights.
        clock_offset: What to add to the clock to get the seconds that the run has taken.
    """
    epochs, skipped, halvings = state.epoch, state.skipped, state.halvings
    chosen = select(run, job, state)
    calibration: dict[str, float] = {}
    scores: Scores = {}
    if validates_apart(job):
        with job.timed("validate"), job.teller.busy("scoring the validation split"):
            validated = measure(job, state, "val")
            if job.task.calibrate is not None:
                calibration = job.task.calibrate(state.model, validated.outputs)
            if calibration:
                # Again, so that every score is one of the model that is saved.
                validated = measure(job, state, "val")
        scores |= {f"val/{name}": value for name, value in validated.scores.items()}
    with job.timed("test"), job.teller.busy("scoring the test split"):
        tested = measure(job, state, "test")
    scores |= {f"test/{name}": value for name, value in tested.scores.items()}
    baseline = _baseline(job)
    if baseline is not None:
        scores |= {f"baseline/{name}": value for name, value in baseline.scores.items()}
    Model(state.model, job.task, job.facts, _described(run, job, scores, calibration)).save(run.path / MODEL)
    pictures = snapshots.of(run)
    outcome = Outcome(job.facts, job.dataset, "test", tested, calibration, state.model.eval(), baseline, pictures)
    found: dict[str, Any] = {"scores": scores, "calibration": calibration, "epochs": epochs, "selected": chosen}
    if baseline is not None:
        found["baseline"] = baseline.name
    if skipped:
        found["skipped_steps"] = skipped
    if halvings:
        found["halvings"] = halvings
    run.save_info(**found)
    with job.timed("report"), job.teller.busy("writing the report"):
        job.seconds["total"] = time.monotonic() + clock_offset
        files.write(run.path / REPORT, render_report(run, job, outcome).encode())
    job.seconds["total"] = time.monotonic() + clock_offset
    run.save_info(status="finished", seconds={name: round(value, 3) for name, value in job.seconds.items()})
    _tell(run, job, outcome)
    return run


def _baseline(job: Job) -> Baseline | None:
    """What a simple method reaches on the same data, where the task has one."""
    if job.task.baseline is None:
        return None
    with job.timed("baseline"), job.teller.busy("fitting the baseline"):
        return job.task.baseline(job.dataset, job.facts, job.recipe)


def select(run: Run, job: Job, state: State) -> dict[str, Any]:
    """Puts the weights to be kept into the state's model; says which they are."""
    best, last = state.best_step, state.step
    wanted = job.recipe.train.keep == "best" and validates_apart(job)
    if wanted and best is not None and best != last and _restored(run, state, best) is None:
        job.teller.notes([f"the checkpoint of step {best}, the best, is gone or damaged; the last weights are kept"])
    if state.ema is not None:
        state.model.load_state_dict(state.ema)
    return {"step": state.step, "why": "best on validation" if wanted and state.step == best else "last"}


def _restored(run: Run, state: State, step: int) -> checkpoint.Loaded | None:
    try:
        return checkpoint.load(run.checkpoints, state, step=step)
    except RunError:
        return None


def validates_apart(job: Job) -> bool:
    """Whether there is a validation split that is not the test split."""
    splits = job.dataset.splits
    return "val" in splits and job.recipe.data.validation != "test"


def measure(job: Job, state: State, split: str) -> Evaluation:
    """Scores and kept outputs of a split."""
    return evaluate(state.model, job.batches(split), job.task.predict, job.metrics(), job.task.keep)


def _described(run: Run, job: Job, scores: Scores, calibration: dict[str, float]) -> Any:
    data = data_record(job.dataset, job.facts)
    description = describe(job.recipe, job.facts, data=data, source=job.source, run=run.name)
    return description.model_copy(update={"scores": scores, "calibration": calibration})


def _tell(run: Run, job: Job, outcome: Outcome) -> None:
    """Says what came out, and where it is."""
    for item in job.task.view.tell(outcome, job.recipe):
        if isinstance(item, str):
            job.teller.say(item)
        else:
            files.write(run.path / item.name, item.png)
            job.teller.show(item)
    job.teller.notes([*warnings(run, job.metrics()), *bottlenecks(job.seconds)])
    folder = shlex.quote(str(run.path))
    trust = " --trust-code" if in_file(job.recipe.task) else ""
    kept = run.info["selected"]
    job.teller.facts(
        {
            "kept": f"the weights after step {kept['step']:,} ({kept['why']})",
            "model": run.path / MODEL,
            "report": run.path / REPORT,
            "predict": f"flambeau predict {folder} {job.task.view.asks}{trust}",
            "evaluate": f"flambeau evaluate {folder}{trust}",
        }
    )
