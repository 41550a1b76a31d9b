"""What is found out by measurement before the first step: a learning rate, and how many epochs fit into the time.

Measured is on a copy of the network, and every random generator is put back. What was found is part of the recipe that
the run folder begins with, so that a run that is killed goes on with it.
"""

from __future__ import annotations

import contextlib
import copy
import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from flambeau.core import State
from flambeau.engine.compiling import compile_in_place
from flambeau.engine.evaluate import Predict, evaluating, evaluation_mode
from flambeau.engine.search import search
from flambeau.engine.update import Rules, update
from flambeau.errors import UsageError
from flambeau.recipe import Recipe
from flambeau.workflow.job import Job

LOOK_SECONDS = 2.0
"""How long the speed of training is looked at, at least four steps; that of scoring half as long."""

FIRST_STEPS = 2
"""Steps that are not representative: memory is asked for, code is compiled, caches are filled."""

REPORT_SECONDS = 3.0
"""Kept for the report and the model file."""

SHARE = 0.95
"""The part of the time that is planned; the rest is for what varies."""

ANNEALED = ("cosine", "one-cycle")
"""Schedules that end at zero."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take, in seconds.

    Attributes:
        start: What the first steps take beyond what steps take later, such as compiling.
        epoch: An epoch with its validation, and with the picture of the progress that a task may make.
        end: Validation and test after the last epoch.
    """

    start: float
    epoch: float
    end: float


@contextmanager
def trial(job: Job) -> Iterator[State]:
    """A state to try things on: the weights are a copy, and the generators are afterwards as they were."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            model = copy.deepcopy(job.fresh_model())
            if job.recipe.train.compile:
                compile_in_place(model, ragged=job.task.lengths is not None)
            yield job.state_of(model)
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)


def with_rate(job: Job, rules: Rules) -> Job:
    """The job with a learning rate in place of ``auto``, and with the search among what it found."""
    if job.recipe.optimizer.lr != "auto":
        return job
    with job.timed("search"), job.teller.busy("searching for a learning rate"), trial(job) as state:
        found = search(state, job.stream(), rules)
    job.teller.say(f"learning rate {found.rate:g}, found in {len(found.points)} trial steps")
    optimizer = job.recipe.optimizer.model_copy(update={"lr": found.rate})
    record = {"rate": found.rate, "points": [list(point) for point in found.points]}
    return changed(job, job.recipe.model_copy(update={"optimizer": optimizer}), search=record)


def with_epochs(job: Job, rules: Rules, started: float) -> Job:
    """The job with as many epochs as fit into the recipe's minutes, and a schedule that ends at zero with them.

    Args:
        job: Its learning rate is a number.
        rules: How one update is done.
        started: When the run was, by ``time.monotonic``.

    Raises:
        UsageError: Not even one epoch fits.
    """
    recipe = job.recipe
    if recipe.train.minutes is None:
        return job
    with job.timed("plan"), job.teller.busy("measuring the speed"), trial(job) as state:
        pace = measured(job, state, rules)
    spent = time.monotonic() - started
    fixed = spent + pace.start + pace.end + REPORT_SECONDS
    epochs = int((SHARE * 60 * recipe.train.minutes - fixed) / pace.epoch)
    if epochs < 1:
        needed = math.ceil(10 * (fixed + pace.epoch) / SHARE / 60) / 10
        raise UsageError(
            f"Not even one epoch fits into {recipe.train.minutes:g} minutes.",
            where="train.minutes",
            expected=f"at least {needed:g}: an epoch takes about {pace.epoch:.1f} s, all the rest {fixed:.1f} s",
            received=f"{recipe.train.minutes:g}",
            remedy="Allow more time, or take a smaller network, smaller examples or less data.",
        )
    name = recipe.schedule.name if recipe.schedule.name in ANNEALED else "cosine"
    warmup = min(recipe.schedule.warmup, epochs / 2)
    fitting = f"{epochs:,} epoch{'' if epochs == 1 else 's'}"
    job.teller.say(f"{recipe.train.minutes:g} minutes: {fitting} of about {pace.epoch:.2g} s, with the schedule {name}")
    planned = recipe.model_copy(
        update={
            "train": recipe.train.model_copy(update={"epochs": epochs, "minutes": None}),
            "schedule": recipe.schedule.model_copy(update={"name": name, "warmup": warmup}),
        }
    )
    return changed(job, planned, plan={"minutes": recipe.train.minutes, "epochs": epochs, **asdict(pace)})


def measured(job: Job, state: State, rules: Rules) -> Pace:
    """Trains and scores for a few seconds, and reckons from that."""
    first = state.phases[0].name
    stream = job.stream()
    state.model.train()
    marks = [time.monotonic()]
    for batch in stream.epoch(0, 0):
        losses = update(state, batch, rules).losses
        if first in losses:
            losses[first].item()  # waits for the device
        marks.append(time.monotonic())
        if len(marks) > FIRST_STEPS + 3 and marks[-1] - marks[FIRST_STEPS] > LOOK_SECONDS:
            break
    warm = min(FIRST_STEPS, len(marks) - 2)
    step = (marks[-1] - marks[warm]) / (len(marks) - 1 - warm)
    glance = _scoring(job, state, "val", job.task.glance or job.task.predict) if "val" in job.dataset.splits else 0.0
    whole = glance if job.task.glance is None or not glance else _scoring(job, state, "val", job.task.predict)
    test = _scoring(job, state, "test", job.task.predict)
    # After training, validation is scored anew, and again with what was calibrated on it.
    epoch = stream.length * step + glance + _snapshot(job, state)
    return Pace(max(0.0, marks[warm] - marks[0] - warm * step), epoch, 2 * whole + test)


def _snapshot(job: Job, state: State) -> float:
    """Seconds for the picture of the progress that a task may make after each epoch."""
    if job.task.snapshot is None:
        return 0.0
    start = time.monotonic()
    with evaluation_mode(state.model):
        job.task.snapshot(state.model, job.facts)
    return time.monotonic() - start


def _scoring(job: Job, state: State, split: str, predict: Predict) -> float:
    """Seconds to score a split, reckoned from its first batches."""
    total = -(-len(job.dataset.splits[split]) // job.recipe.train.eval_batch_size)
    marks = [time.monotonic()]
    steps = evaluating(state.model, job.batches(split), predict, job.metrics())
    with contextlib.closing(steps):
        for _ in steps:
            marks.append(time.monotonic())
            if len(marks) > 2 and marks[-1] - marks[0] > LOOK_SECONDS / 2:
                break
    return (marks[-1] - marks[0]) / (len(marks) - 1) * total


def changed(job: Job, recipe: Recipe, **found: Any) -> Job:
    """The job with another recipe, and with more that was found out."""
    return replace(job, recipe=recipe, found={**job.found, **found})
