"""A training process to be killed: trains or resumes, and at a stated moment says so and waits for its end.

Run as ``python killing_child.py RUN CONFIG MOMENT NUMBER INTERVAL [SEGMENT]``; the run is resumed when its folder
holds one. CONFIG is a name in ``CONFIGS``, or ``TASK@SOURCE``: a task as the contract tests try it. The moments:
``step`` (after that many updates), ``validate`` (after the first batch of that validation, from 1), ``rename`` (before
the rename of that checkpoint of this process, from 1), ``slowly`` (waits a little at every record), ``never``. INTERVAL
is the time between two checkpoints in seconds.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import flambeau
from flambeau import files
from flambeau.core import Record, State
from flambeau.engine import checkpoint

HERE = Path(__file__).resolve()

CONFIGS: dict[str, dict[str, Any]] = {
    "adamw": {
        "data": {"source": f"{HERE}:pictures"},
        "augment": {"preset": "light", "shift": 1, "hue": 0.1, "mirror": True},
        "model": {"name": f"{HERE}:Net"},
        "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.05},
        "schedule": {"name": "one-cycle"},
        "train": {"epochs": 3, "batch_size": 10, "eval_batch_size": 16, "ema": 0.9, "clip": 1.0, "accumulate": 2},
        "log": {"every": 3, "tensorboard": False},
    },
    "sgd": {
        "data": {"source": f"{HERE}:pictures"},
        "augment": {"preset": "strong", "crop": 0.7, "mirror": False},
        "model": {"name": f"{HERE}:Net"},
        "loss": {"label_smoothing": 0.1, "class_weights": "balanced"},
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True},
        "train": {"epochs": 3, "batch_size": 10, "eval_batch_size": 16, "patience": 5, "keep": "last"},
        "log": {"every": 4, "first": True, "tensorboard": False},
    },
}


def pictures() -> dict[str, tuple[Tensor, Tensor]]:
    """Noisy stripes of three kinds, 8 x 8 pixels: 160 to train on, 48 to validate, 48 to test."""
    generator = torch.Generator().manual_seed(11)
    splits = {}
    for name, rows in (("train", 160), ("val", 48), ("test", 48)):
        labels = torch.randint(0, 3, (rows,), generator=generator)
        images = torch.randint(0, 160, (rows, 8, 8), generator=generator)
        for row, label in enumerate(labels.tolist()):
            images[row, 2 * label : 2 * label + 2] += 80
        splits[name] = (images.to(torch.uint8), labels)
    return splits


class Net(nn.Module):
    """Dropout draws from the global generator, and batch normalisation keeps running statistics."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2), nn.Flatten())
        self.head = nn.Linear(216, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


def asked_for(config: str) -> dict[str, Any]:
    """What ``flambeau.train`` is given."""
    if config in CONFIGS:
        return {"recipe": CONFIGS[config]}
    task, _, source = config.partition("@")
    sys.path.insert(0, str(HERE.parent / "contracts"))
    from small_data import case

    return {"source": source, "task": task, "settings": case(task).all_settings(), "device": "cpu"}


def wait_for_the_end() -> None:
    """Tells the parent that the moment has come and for whom, and does nothing until it is killed."""
    print("NOW", os.getpid(), flush=True)
    time.sleep(600)


class Stopping(files.Disk):
    """Waits for the end before a checkpoint gets its name."""

    def __init__(self, number: int) -> None:
        self.left = number

    def rename(self, source: Path, target: Path) -> None:
        if target.name.startswith("step-"):
            self.left -= 1
            if self.left == 0:
                wait_for_the_end()
        super().rename(source, target)


def watcher(moment: str, number: int) -> Any:
    """An observer that waits for the end at the moment."""
    validations = 0

    def observe(record: Record, state: State) -> None:
        nonlocal validations
        if moment == "slowly":
            print("NOW", os.getpid(), flush=True)
            time.sleep(0.02)
        if moment == "step" and record.kind == "step" and record.step == number:
            wait_for_the_end()
        if record.kind == "validate" and record.batch == 1:
            validations += 1
            if moment == "validate" and validations == number:
                wait_for_the_end()

    return observe


def main(folder: Path, config: str, moment: str, number: str, interval: str, segment: str | None = None) -> None:
    """Trains, or resumes when there is something to resume."""
    torch.set_num_threads(1)
    checkpoint.INTERVAL_SECONDS = float(interval)
    checkpoint.EPOCH_SECONDS = 0.0  # a checkpoint after every epoch, so that the moments can be counted
    disk = Stopping(int(number)) if moment == "rename" else files.Disk()
    observers = [watcher(moment, int(number))]
    with files.using(disk):
        if (folder / "recipe.toml").exists():
            epochs = None if segment is None else int(segment)
            flambeau.resume(folder, epochs=epochs, observers=observers, quiet=True)
        else:
            flambeau.train(**asked_for(config), out=folder, observers=observers, quiet=True)
    print("DONE", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
