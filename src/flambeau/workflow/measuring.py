"""What is found out by measurement before the first step: a learning rate, and how many epochs fit into the time.

Measured is on a copy of the network, and every random generator is put back. What was found is part of the recipe that
the run folder begins with, so that a run that is killed goes on with it.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from flambeau.core import State
from flambeau.engine.search import search
from flambeau.engine.update import Rules
from flambeau.recipe import Recipe
from flambeau.workflow.job import Job


@contextmanager
def trial(job: Job) -> Iterator[State]:
    """A state to try things on: the weights are a copy, and the generators are afterwards as they were."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield job.state_of(copy.deepcopy(job.fresh_model()))
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


def changed(job: Job, recipe: Recipe, **found: Any) -> Job:
    """The job with another recipe, and with more that was found out."""
    return replace(job, recipe=recipe, found={**job.found, **found})
