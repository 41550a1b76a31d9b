"""A run as one script in NumPy alone, with its own automatic differentiation: what a framework does, written out."""

from __future__ import annotations

import importlib
import inspect
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from flambeau import files
from flambeau.columns import Split
from flambeau.datasets import opened
from flambeau.eject.assembling import script_of, section_of
from flambeau.eject.network_text import has_modes, network_text
from flambeau.eject.numpy_texts import introduction, settings
from flambeau.errors import UsageError
from flambeau.recipe import Augment
from flambeau.run import Run
from flambeau.workflow.job import Job, assemble
from flambeau.workflow.telling import Teller
from flambeau.workflow.training import require_same_data

NETWORKS = ("lenet", "mlp", "tutorial-cifar10")

FILES = {"cifar10": "cifar", "fashion-mnist": "idx", "kmnist": "idx", "mnist": "idx"}
"""Data sets whose own files the script reads, and how."""

BEFORE, AFTER = ("tensor", "layers", "activations"), ("losses", "steps", "chance", "reading", "loop")
"""Modules of :mod:`flambeau.eject.numpy_parts`, in the order in which they are read; the network stands between."""

FOLLOWED = {"preset", "magnitude", "mirror", "shift"}
"""The keys of ``[augment]`` that the script can follow, or that change nothing by themselves."""


def eject_numpy(run: Run, out: Path) -> dict[str, Any]:
    """Writes a run as a script that needs NumPy and nothing else, and takes the same steps in float64.

    The initial weights are written beside it, and so is data that has no published files of its own. The script is put
    together from the modules in :mod:`flambeau.eject.numpy_parts`; what the run does not use is not in it.

    Args:
        run: Of a picture classifier with one of :data:`NETWORKS`; it need not be finished.
        out: The script. Beside it come ``<stem>-weights.npz`` and, where needed, ``<stem>-data.npz``.

    Returns:
        ``out``, ``files`` (all that was written), ``lines`` (of the script).

    Raises:
        UsageError: The script could not take the steps of this run; the error says why.
        DataError: The data cannot be read.
        RunError: The data is not what it was, or a file cannot be written.

    Example:
        >>> eject_numpy(Run("runs/demo"), Path("train.py"))["files"]          # doctest: +SKIP
        ['train.py', 'train-weights.npz', 'train-data.npz']
    """
    _require(run, _obstacles(run))
    job = assemble(run.recipe, None, None, Teller(None, run.recipe), device="cpu")
    require_same_data(run, job)
    _require(run, _unfit(job))
    with torch.random.fork_rng(devices=[]):
        network = cast(nn.Sequential, job.fresh_model().network)
    weights, data = (out.with_name(f"{out.stem}-{what}.npz") for what in ("weights", "data"))
    reading, arrays = _data(job)
    chosen = reading | _chosen(job, network)
    example = job.dataset.splits["train"].tensor("image")[:1]
    sources = [
        settings(job, weights.name, data.name),
        *(_part(name) for name in BEFORE),
        network_text(network, example),
        *(_part(name) for name in AFTER),
    ]
    script = script_of([section_of(source, chosen) for source in sources])
    text = f"{introduction(run, job, chosen, [out.name, weights.name, data.name])}\n\n{script}"
    content = {out: text.encode(), weights: _npz(dict(network.named_parameters()))}
    if arrays:
        content[data] = _npz(arrays)
    for path, value in content.items():
        files.write(path, value)
    return {"out": str(out), "files": [str(path) for path in content], "lines": len(text.splitlines())}


def _part(name: str) -> str:
    return inspect.getsource(importlib.import_module(f"flambeau.eject.numpy_parts.{name}"))


def _npz(arrays: Mapping[str, Tensor]) -> bytes:
    plain: dict[str, Any] = {name: tensor.detach().numpy() for name, tensor in arrays.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **plain)
    return buffer.getvalue()


def _require(run: Run, obstacles: list[str]) -> None:
    """Refuses a run that the script could not follow.

    Raises:
        UsageError: With every obstacle.
    """
    if obstacles:
        raise UsageError(
            "\n  - ".join(["A script in NumPy alone cannot take the steps of this run:", *obstacles]),
            where=run.path,
            remedy="Eject it without --numpy, or train one without these settings.",
        )


def _obstacles(run: Run) -> list[str]:
    """What in the recipe of a run the script has no code for."""
    recipe = run.recipe
    default = Augment(mirror=False)
    moved = [key for key, value in recipe.augment if key not in FOLLOWED and value != getattr(default, key)]
    alpha = recipe.model.name == "mlp" and recipe.model.arguments().get("activation") == "selu"
    resumed = recipe.initial.model is not None and recipe.model.arguments().get("norm") == "batch"
    found = {
        f"model.name is {recipe.model.name!r}; it knows {', '.join(NETWORKS)}": recipe.model.name not in NETWORKS,
        "model.freeze is set": recipe.model.freeze,
        "model.dropout with selu is alpha dropout, which it has not": alpha and recipe.model.arguments().get("dropout"),
        "initial.model together with batch normalisation, which has tracked statistics already": resumed,
        "data.source is not set: the data was given in Python, and no file holds it": recipe.data.source is None,
        f"augmentation by {', '.join(moved)}; it has mirror and shift": moved,
        f"loss.name is {recipe.loss.name!r}; it has cross-entropy and nll": recipe.loss.name
        not in ("auto", "cross-entropy", "nll"),
        "loss.class_weights is set": recipe.loss.class_weights is not None,
        f"optimizer.name is {recipe.optimizer.name!r}; it has sgd, adam and adamw": recipe.optimizer.name
        not in ("sgd", "adam", "adamw"),
        "schedule.name is 'plateau', which depends on validation": recipe.schedule.name == "plateau",
        "train.patience is set, so that validation decides about the end": recipe.train.patience is not None,
        "train.ema is set": recipe.train.ema is not None,
        "the run was gone on with after its end (resume --epochs)": len(run.info["segments"]) > 1,
    }
    return [obstacle for obstacle, there in found.items() if there]


def _unfit(job: Job) -> list[str]:
    """What the script has no code for in the task and its data."""
    columns = job.dataset.splits["train"].columns
    fits = job.task.input == "image" and "label" in columns and "target" not in columns
    return [] if fits else [f"its task is {job.task.name}; the script learns one class for each picture"]


def _chosen(job: Job, network: nn.Sequential) -> set[str]:
    """The names behind ``# only:`` in the parts that hold for a run."""
    recipe, n = job.recipe, len(job.dataset.splits["train"])
    optimizer, schedule = recipe.optimizer, recipe.schedule
    mirror = job.facts["mirror"] if recipe.augment.mirror == "auto" else recipe.augment.mirror
    simple = "momentum" if optimizer.momentum else "sgd"
    steady = "warm" if schedule.warmup else "constant"
    conditions = {
        simple if optimizer.name == "sgd" else "adam": True,
        "nesterov": optimizer.nesterov,
        "decay": optimizer.weight_decay > 0,
        "decoupled": optimizer.weight_decay > 0 and optimizer.name == "adamw",
        "coupled": optimizer.weight_decay > 0 and optimizer.name == "adam",
        "clip": recipe.train.clip is not None,
        {"constant": steady, "step": "step"}.get(schedule.name, "cosine"): True,
        "shuffle": recipe.data.shuffle,
        "single": recipe.data.shuffle and job.batch_size > 1 and n > 1 and n % job.batch_size == 1,
        "mirror": mirror,
        "shift": recipe.augment.shift > 0,
        "smoothing": recipe.loss.label_smoothing > 0,
        "nll": recipe.loss.name == "nll",
        "normalized": job.facts["mean"] is not None,
        "modes": has_modes(network),
        "dropout": any(isinstance(layer, nn.Dropout) for layer in network),
    }
    return {name for name, holds in conditions.items() if holds}


def _data(job: Job) -> tuple[set[str], dict[str, Tensor]]:
    """How the script reads the data, and what is written beside it for that.

    Published files are read where they hold what the run was trained on, picture for picture.
    """
    train, test = (job.dataset.splits[name] for name in ("train", "test"))
    arrays = {
        "train_pictures": train.tensor("image"),
        "train_labels": train.tensor("label"),
        "test_pictures": test.tensor("image"),
        "test_labels": test.tensor("label"),
    }
    reader = FILES.get(str(job.recipe.data.source))
    if reader is None or not Path(job.dataset.info["source"]).is_dir():
        return set(), arrays
    raw = opened(job.recipe)
    numbered = {name: split.with_columns(number=torch.arange(len(split))) for name, split in raw.splits.items()}
    rows = job.task.intake.divide(replace(raw, splits=numbered), job.recipe).splits["train"].tensor("number")
    if not (_same(raw.splits["train"].take(rows), train) and _same(raw.splits["test"], test)):
        return set(), arrays
    if torch.equal(rows, torch.arange(len(raw.splits["train"]))):
        return {"files", reader}, {}
    return {"files", reader, "rows"}, {"rows": rows}


def _same(one: Split, other: Split) -> bool:
    return all(torch.equal(one.tensor(name), other.tensor(name)) for name in ("image", "label"))
