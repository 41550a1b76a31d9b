"""Checkpoints: the whole state on disk, without pickle, so that a killed run goes on bit for bit.

A checkpoint is a folder ``step-00001234`` with the model, the optimisers and the position, each file with its checksum
in a manifest. It appears whole or not at all. The newest that verifies is the one to resume from; besides it, the one
before and the best are kept.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from flambeau import files
from flambeau.core import Record, State
from flambeau.engine.codec import decode, encode, without_aliases
from flambeau.errors import RunError, TrainingError

KEPT = 2
INTERVAL_SECONDS = 10.0
"""No more than this is lost when a run is killed; looked up whenever a writer is made."""

EPOCH_SECONDS = 1.0
"""After an epoch that is not the best one nothing is saved within this time of the last checkpoint."""


SCALARS = ("step", "epoch", "batch", "meters", "best", "best_loss", "best_step", "stale", "rate", "skipped", "halvings")
"""The fields of a state that JSON holds as they are."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a checkpoint held beside the state.

    Attributes:
        path: The checkpoint's folder.
        notes: What the caller stored with it.
        warnings: What was wrong with newer checkpoints, which were passed over.
    """

    path: Path
    notes: dict[str, Any]
    warnings: tuple[str, ...]


def save(folder: Path, state: State, notes: Mapping[str, Any]) -> Path:
    """Saves the state as a new checkpoint, points the hints at it, and prunes.

    Args:
        folder: The run's ``checkpoints`` folder.
        state: What is saved.
        notes: JSON values to get back from :func:`load`.

    Raises:
        TrainingError: A weight is not finite; it is not saved.
        RunError: The disk is full or cannot be written; earlier checkpoints are intact.
    """
    _require_finite_weights(state)
    path = folder / f"step-{state.step:08d}"
    files.write_folder(path, pack(state, notes))
    files.write(folder / "LATEST", f"{path.name}\n".encode())
    if state.best_step is not None:
        files.point_link(folder / "best", f"step-{state.best_step:08d}")
    _prune(folder, state.step, state.best_step)
    return path


def load(folder: Path, state: State, *, step: int | None = None) -> Loaded | None:
    """Restores the newest checkpoint that verifies, or that of one step, into the state.

    Returns:
        What it held beside the state, or None when there is no checkpoint.

    Raises:
        RunError: There are checkpoints and none of them verifies.
    """
    warnings: list[str] = []
    for path in reversed(paths(folder)):
        if step is not None and path.name != f"step-{step:08d}":
            continue
        try:
            contents = files.read_folder(path)
        except RunError as error:
            warnings.append(f"checkpoint {path.name} is damaged and was passed over: {error.problem}")
            continue
        return Loaded(path, unpack(contents, state), tuple(warnings))
    if warnings:
        raise RunError(
            "No checkpoint of this run is whole.",
            where=folder,
            received="; ".join(warnings),
            remedy="Start the run again from its recipe.toml.",
        )
    return None


def paths(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first, whole or not."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir() and not path.is_symlink())


def pack(state: State, notes: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a checkpoint."""
    weights, aliases = without_aliases(state.model.state_dict())
    tensors: dict[str, Tensor] = {}
    optimizers = {
        name: encode(optimizer.state_dict(), tensors, f"optimizer.{name}")
        for name, optimizer in state.optimizers.items()
    }
    ema = encode(state.ema, tensors, "ema")
    generators = _generators(tensors)
    packed, packed_aliases = without_aliases(tensors)
    document = {
        "format": 1,
        **{field: getattr(state, field) for field in SCALARS},
        "meters": {name: float(value) for name, value in state.meters.items()},
        "scores": encode(state.scores, {}, "scores"),
        "scaler": None if state.scaler is None else state.scaler.state_dict(),
        "aliases": aliases,
        "tensor_aliases": packed_aliases,
        "optimizers": optimizers,
        "ema": ema,
        "generators": generators,
        "notes": dict(notes),
    }
    return {
        "model.safetensors": safetensors.torch.save(weights),
        "optimizer.safetensors": safetensors.torch.save(packed),
        "state.json": files.to_json(document),
    }


def unpack(contents: Mapping[str, bytes], state: State) -> dict[str, Any]:
    """Restores the files of a checkpoint into the state; returns the caller's notes."""
    try:
        document = json.loads(contents["state.json"])
        tensors = safetensors.torch.load(contents["optimizer.safetensors"])
        tensors |= {name: tensors[kept] for name, kept in document["tensor_aliases"].items()}
        state.model.load_state_dict(unpack_weights(contents))
        for name, optimizer in state.optimizers.items():
            optimizer.load_state_dict(decode(document["optimizers"][name], tensors))
        ema = decode(document["ema"], tensors)
        if ema is not None:
            like = state.model.state_dict()
            ema = {name: value.to(like[name].device) for name, value in ema.items()}
        state.ema = ema
        for field in SCALARS:
            setattr(state, field, document[field])
        if state.scaler is not None and document["scaler"]:
            state.scaler.load_state_dict(document["scaler"])
        state.scores = decode(document["scores"], {})
        _set_generators(document["generators"], tensors)
    except (
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        SafetensorError,
    ) as error:
        raise RunError(
            f"The checkpoint does not fit this run ({error}).",
            remedy="Resume with the version of Flambeau that the run's run.json names.",
        ) from error
    notes: dict[str, Any] = document["notes"]
    return notes


def unpack_weights(contents: Mapping[str, bytes]) -> dict[str, Tensor]:
    """The model's weights in a checkpoint's files, shared ones under all their names."""
    weights = safetensors.torch.load(contents["model.safetensors"])
    aliases = json.loads(contents["state.json"])["aliases"]
    return weights | {name: weights[kept] for name, kept in aliases.items()}


class Writer:
    """An observer that saves a checkpoint after each epoch, and in between so that no more than 10 s can be lost.

    Epochs that take a moment would spend most of their time on that, so after an epoch that is not the best one so far
    nothing is saved within a second of the last time; what a resume then repeats takes as long.

    Args:
        folder: The run's ``checkpoints`` folder.
        journal: The run's metrics; its length is recorded, so that a resume cuts it to what the checkpoint knows.
        last_batch: Batches in an epoch. After the last one the writer waits until validation is done, for the two
            checkpoints would be of the same step.
        notes: More to store, such as the seconds spent so far.
        interval: Seconds between checkpoints; :data:`INTERVAL_SECONDS` when left out.
    """

    def __init__(
        self,
        folder: Path,
        journal: files.Journal,
        last_batch: int,
        notes: Mapping[str, float],
        interval: float | None = None,
    ) -> None:
        self.folder = folder
        self.journal = journal
        self.last_batch = last_batch
        self.notes = notes
        self.interval = INTERVAL_SECONDS if interval is None else interval
        self._saved_at = time.monotonic()
        self._saved_step: int | None = None

    def __call__(self, record: Record, state: State) -> None:
        due = record.kind == "step" and time.monotonic() - self._saved_at >= self.interval
        ended = record.kind == "epoch" and (record.best or time.monotonic() - self._saved_at >= EPOCH_SECONDS)
        if (due and state.batch < self.last_batch) or ended:
            self.save(state)

    def save(self, state: State) -> None:
        """Saves now, unless there is nothing new to save.

        The model must hold its own weights, not averaged ones: after a validation that is cut short, close the loop.
        """
        if state.step == self._saved_step:
            return
        save(self.folder, state, {"metrics_length": self.journal.sync(), "seconds": dict(self.notes)})
        self._saved_at, self._saved_step = time.monotonic(), state.step


def _require_finite_weights(state: State) -> None:
    for name, value in state.model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise TrainingError(
                f"The weights of {name} are not finite after step {state.step}; they are not saved.",
                remedy="Lower optimizer.lr, or set train.clip = 1.0; the last checkpoint is intact.",
            )


def _prune(folder: Path, step: int, best_step: int | None) -> None:
    """Keeps the best and the newest two that are whole.

    The one just written is whole, and so is the one before it: this process wrote or loaded it. One of a later step
    was damaged, for else the run would have gone on from there.
    """
    best = None if best_step is None else f"step-{best_step:08d}"
    newest = f"step-{step:08d}"
    later = [path for path in paths(folder) if path.name > newest]
    for path in [*later, *[path for path in paths(folder) if path.name <= newest][:-KEPT]]:
        if path.name != best:
            files.remove_folder(path)


def _generators(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The state of the global random generators: Torch's as tensors, Python's and NumPy's as integers."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    torch_states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        torch_states |= {f"cuda:{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return {
        "python": [version, list(words), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, cached],
        "torch": encode(torch_states, tensors, "generator"),
    }


def _set_generators(document: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
    version, words, gauss = document["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = document["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    for device, state in decode(document["torch"], tensors).items():
        if device == "cpu":
            torch.set_rng_state(state)
        elif torch.cuda.is_available() and int(device.removeprefix("cuda:")) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, device)
