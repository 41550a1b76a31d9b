"""Training and serving agree: what ``evaluate`` scores is what ``predict`` answers, picture by picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

import flambeau
from flambeau.data.prepare import prepare
from flambeau.datasets import opened

TOLERANCE = 2e-6
"""Of a probability: a batch of one may be multiplied in another order than a batch of many."""


def test_files_one_by_one(pictures: Path, tmp_path: Path) -> None:
    run = flambeau.train(pictures, model="mlp", epochs=2, settings=TINY, device="cpu", out=tmp_path / "run", quiet=True)
    _, dataset = prepare(opened(run.recipe), run.model.task, run.recipe)
    test = dataset.splits["test"]
    scored = flambeau.evaluate(run)
    answers = [run.model.predict(pictures / str(name)) for name in test["name"]]
    require_equal(answers, scored, run)
    in_bytes = [run.model.predict((pictures / str(name)).read_bytes()) for name in test["name"]]
    require_equal(in_bytes, scored, run)


def test_arrays_one_by_one(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    labels = np.arange(90) % 3
    images = (random.integers(0, 90, (90, 12, 12, 3)) + 40 * labels[:, None, None, None]).astype(np.uint8)
    source = {"train": (images[:60], labels[:60]), "test": (images[60:], labels[60:])}
    run = flambeau.train(
        source,
        recipe={"model": {"name": "compact", "width": 8}, "train": {"epochs": 1}, "images": {"size": 10}},
        device="cpu",
        out=tmp_path / "run",
        quiet=True,
    )
    scored = flambeau.evaluate(run, source)
    require_equal([run.model.predict(image) for image in images[60:]], scored, run)
    require_equal([run.model.predict(Image.fromarray(image)) for image in images[60:]], scored, run)
    require_equal(run.model.predict([png(image) for image in images[60:]]), scored, run)


def png(image: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def require_equal(answers: list[dict[str, Any]], scored: Any, run: flambeau.Run) -> None:
    classes = run.model.classes
    found = torch.tensor(
        [[{e["class"]: e["probability"] for e in row["classes"]}[name] for name in classes] for row in answers]
    )
    outputs = scored.evaluation.outputs
    assert (found - outputs["probabilities"]).abs().max() < TOLERANCE
    truth = [classes[label] for label in outputs["label"].tolist()]
    accuracy = sum(row["class"] == name for row, name in zip(answers, truth, strict=True)) / len(truth)
    assert accuracy == pytest.approx(scored.scores["accuracy"])
    assert accuracy == pytest.approx(run.scores["test/accuracy"])
