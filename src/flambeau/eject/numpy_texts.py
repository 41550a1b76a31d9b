"""What a script in NumPy alone says of its run: an introduction, and the values that the run chose."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Collection, Sequence

from flambeau.run import Run
from flambeau.workflow.finishing import validates_apart
from flambeau.workflow.job import Job

_WIDTH = 120


def introduction(run: Run, job: Job, chosen: Collection[str], names: Sequence[str]) -> str:
    """The script's docstring: what it does, what stands beside it, what it leaves out.

    Args:
        run: What is ejected.
        job: The same with everything in memory.
        chosen: The names that hold for the run.
        names: Of the script, of its weights and of its data.
    """
    script, weights, data = names
    model = job.recipe.model.name
    paragraphs = [
        f"Trains the network {model} on {job.dataset.name} with NumPy alone, and shows what a framework does for you.",
        f"The steps are those of the run {run.name} of Flambeau (recipe {job.recipe.name}): the same batches, loss and "
        f"updates. {_exactness(chosen)}",
        f"{weights}, beside this file, holds the weights that the run began with. PyTorch's random generator drew "
        f"them, and it is not imitated here. {_data_told(job, chosen, data)}",
        f"What changes no weight is left out: validation, checkpoints, calibration. {_kept(job)}",
    ]
    told = "\n\n".join(textwrap.fill(paragraph, _WIDTH) for paragraph in paragraphs)
    calls = f"    python {script}\n    python {script} --steps 200 --losses losses.txt"
    # A folder may be called anything, and its name must not end the text or escape from it.
    safe = f"{told}\n\n{calls}\n".replace("\\", "\\\\").replace('"', '\\"')
    return f'"""{safe}"""'


def _exactness(chosen: Collection[str]) -> str:
    if "dropout" in chosen:
        return (
            "They are computed in float64. Which numbers dropout switches off is drawn by a generator of NumPy's, and "
            "other ones were switched off in the run; so the losses are like the run's, and not the same."
        )
    return (
        "They are computed in float64, and for 200 steps at least the losses are those of PyTorch in float64 to 1e-8. "
        "The run itself computed in fewer bits; its losses differ by what was rounded, which grows from step to step."
    )


def _data_told(job: Job, chosen: Collection[str], data: str) -> str:
    if "files" not in chosen:
        return f"{data} holds the pictures as the run saw them, and their classes."
    if "rows" in chosen:
        return f"{data} says which of the training pictures the run learnt from; the others were for validation."
    return f"The pictures are read from the files of {job.dataset.name}."


def _kept(job: Job) -> str:
    if job.recipe.train.keep == "best" and validates_apart(job):
        return "The run kept the weights that were best by validation; here those after the last step are measured."
    return "The weights after the last step are measured, as in the run."


def settings(job: Job, weights: str, data: str) -> str:
    """A module with the values of a run in place of those in :mod:`flambeau.eject.numpy_parts.settings`.

    Args:
        job: The run.
        weights: The name of the file with the initial weights.
        data: The name of that with the data.
    """
    recipe, length = job.recipe, job.stream().length
    optimizer, schedule, epochs = recipe.optimizer, recipe.schedule, recipe.train.epochs
    steps, warmup = epochs * length, round(schedule.warmup * length)
    if schedule.name == "one-cycle":
        warmup = warmup or max(1, round(0.3 * steps))
    return f'''"""What this run chose."""
from pathlib import Path
import numpy as np
SEED = {recipe.seed}
EPOCHS = {epochs}
BATCH_SIZE = {job.batch_size}
STEPS = {steps}  # {epochs} epochs of {length:,} batches
EVERY = {recipe.log.every}  # steps between two lines that are printed
LEARNING_RATE = {optimizer.rate}
WARMUP = {warmup}  # steps over which the learning rate rises
STEP_EVERY = {max(1, round(schedule.every * length))}  # steps after which the learning rate goes down
STEP_FACTOR = {schedule.factor}
MOMENTUM = {optimizer.momentum}
BETA1, BETA2 = {optimizer.betas[0]}, {optimizer.betas[1]}
WEIGHT_DECAY = {optimizer.weight_decay}
CLIP = {recipe.train.clip}
SMOOTHING = {recipe.loss.label_smoothing}
SHIFT = {recipe.augment.shift}  # pixels
MEAN = np.reshape({job.facts["mean"]}, (-1, 1, 1))  # of each channel, in the training pictures
STD = np.reshape({job.facts["std"]}, (-1, 1, 1))
WEIGHTS = Path(__file__).with_name({json.dumps(weights)})
DATA = Path(__file__).with_name({json.dumps(data)})
FOLDER = Path({json.dumps(str(job.dataset.info.get("source", "")))})
'''
