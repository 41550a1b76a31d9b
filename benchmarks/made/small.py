"""A small model and a picture for it, for programs that are not given any."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

import flambeau


def run(folder: Path, model: str) -> Path:
    """A run of two epochs on ``fashion-mnist-mini``, in a folder that is there."""
    path = folder / "run"
    settings = ["log.tensorboard=false"]
    flambeau.train("fashion-mnist-mini", model=model, epochs=2, settings=settings, device="cpu", out=path, quiet=True)
    return path


def picture(folder: Path) -> Path:
    """A picture of an ankle boot, as a PNG."""
    path = folder / "boot.png"
    values = flambeau.datasets.load("fashion-mnist-mini").splits["test"].tensor("image")[0, 0].numpy()
    Image.fromarray(values).save(path)
    return path
