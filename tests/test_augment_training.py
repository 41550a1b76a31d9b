"""Training with augmentation: distributions as targets, presets, contradictions, and resuming in the middle."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from torch import Tensor, nn
from torch.nn import functional as F

import flambeau
from flambeau.core import Draw, Record, State
from flambeau.engine.update import micro_batches
from flambeau.errors import RecipeError
from flambeau.recipe import Augment, parse
from flambeau.tasks import labels, sound_classification
from flambeau.workflow.planning import resolve


def data() -> dict[str, tuple[Tensor, Tensor]]:
    """Noisy stripes of three kinds, 3 x 10 x 10."""
    generator = torch.Generator().manual_seed(4)
    splits = {}
    for name, rows in (("train", 70), ("val", 20), ("test", 20)):
        label = torch.arange(rows) % 3
        images = torch.randint(0, 120, (rows, 3, 10, 10), generator=generator)
        for row, number in enumerate(label.tolist()):
            images[row, :, 3 * number : 3 * number + 3] += 100
        splits[name] = (images.to(torch.uint8), label)
    return splits


def train(folder: Path, augment: dict[str, Any], **more: Any) -> flambeau.Run:
    recipe = {
        "augment": augment,
        "model": {"name": "compact", "width": 8},
        "train": {"epochs": 2, "batch_size": 8, "device": "cpu"},
        "log": {"every": 3, "tensorboard": False},
    }
    return flambeau.train(data(), recipe=recipe, out=folder, quiet=True, **more)


FACTS = {"classes": ["a", "b", "c"], "counts": [5, 3, 1]}
LOSSES = [
    {},
    {"label_smoothing": 0.2},
    {"class_weights": [0.2, 1.0, 3.0]},
    {"class_weights": [0.2, 1.0, 3.0], "label_smoothing": 0.1},
    {"name": "nll", "class_weights": "balanced"},
    {"name": "nll"},
]


def outputs(model: nn.Module, batch: Any) -> Tensor:
    return F.log_softmax(model(batch["x"]), 1)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_distribution_that_is_all_one_class_is_that_class(loss: dict[str, Any]) -> None:
    (phase,) = labels.phases_of(parse({"loss": loss}), FACTS, outputs)
    torch.manual_seed(0)
    model, x, label = nn.Linear(4, 3), torch.randn(9, 4), torch.arange(9) % 3
    indices = {"x": x, "label": label}
    shares = {**indices, "target": F.one_hot(label, 3).float()}
    assert phase.count(shares) == pytest.approx(phase.count(indices), rel=1e-6)
    torch.testing.assert_close(phase.loss(model, shares).total, phase.loss(model, indices).total)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_a_distribution_is_its_definition_and_adds_up(loss: dict[str, Any]) -> None:
    recipe = parse({"loss": loss})
    (phase,) = labels.phases_of(recipe, FACTS, outputs)
    torch.manual_seed(0)
    model, x, target = nn.Linear(4, 3), torch.randn(9, 4), torch.rand(9, 3).softmax(1)
    batch = {"x": x, "label": target.argmax(1), "target": target}
    weight = torch.tensor(labels.class_weights(recipe, FACTS) or [1.0, 1.0, 1.0])
    smooth = recipe.loss.label_smoothing
    shares = (1 - smooth) * target + smooth / 3
    expected = -(shares * weight * model(x).log_softmax(1)).sum()
    torch.testing.assert_close(phase.loss(model, batch).total, expected)
    assert phase.count(batch) == pytest.approx(float((target * weight).sum()), rel=1e-5)
    parts = micro_batches(batch, 4)
    assert sum(phase.count(part) for part in parts) == pytest.approx(phase.count(batch), rel=1e-6)
    torch.testing.assert_close(torch.stack([phase.loss(model, part).total for part in parts]).sum(), expected)


@pytest.mark.parametrize("preset", ["none", "light", "strong"])
def test_each_preset_trains_and_the_run_says_what_it_was(preset: str, tmp_path: Path) -> None:
    run = train(tmp_path / "run", {"preset": preset})
    assert run.scores["test/accuracy"] > 0.4
    assert run.recipe.augment == Augment(preset=preset)  # type: ignore[arg-type]
    written = (run.path / "recipe.toml").read_text()
    assert f'preset = "{preset}"' in written and f"cutout = {Augment(preset=preset).cutout}" in written  # type: ignore[arg-type]


class StoppedError(Exception):
    """What stands for a kill."""


@pytest.mark.slow
def test_a_run_with_everything_on_resumes_to_the_same_bits(tmp_path: Path) -> None:
    augment = {
        "preset": "strong", "shift": 1, "rotate": 30, "brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1
    }  # fmt: skip
    whole = train(tmp_path / "a" / "run", augment)

    def stop(record: Record, state: State) -> None:
        if record.kind == "step" and record.step == 13:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(tmp_path / "b" / "run", augment, observers=[stop])
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    resumed = flambeau.resume(tmp_path / "c" / "run", source=data(), quiet=True)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_a_preset_that_is_asked_for_replaces_the_recipes_augmentation() -> None:
    plain = resolve("fashion-mnist-mini", None).augment
    assert plain.preset is None and plain.shift > 0
    light = resolve("fashion-mnist-mini", None, settings=["augment.preset=light", "augment.rotate=12"]).augment
    assert light == Augment(preset="light", rotate=12)
    none = resolve("fashion-mnist-mini", None, settings=["augment.preset=none"]).augment
    assert none == Augment(mirror=False, preset="none")


MISTAKES = [
    (["augment.preset=lihgt"], "augment.preset: expected 'none', 'light' or 'strong', received 'lihgt'"),
    (["augment.rotate=200"], "augment.rotate: expected at most 180, received 200"),
    (["augment.hue=0.7"], "augment.hue: expected at most 0.5, received 0.7"),
    (["augment.cutout=1"], "augment.cutout: expected less than 1, received 1"),
    (["augment.mixup=-1"], "augment.mixup: expected at least 0, received -1"),
    (["augment.randaugment=9"], "augment.randaugment: expected at most 8, received 9"),
    (["augment.magnitude=12"], "augment.magnitude: says how strong augment.randaugment is, which is off (0)"),
    (["augment.cutmix=1", "train.batch_size=1"], "need a second picture in the batch"),
    (["augment.hue=0.1", "images.channels=1"], "images.channels = 1 leaves no colours to change"),
    (["task=gan", "augment.preset=strong"], "a GAN has no labels to mix beside the pictures; set both to 0"),
]


@pytest.mark.parametrize(("settings", "mistake"), MISTAKES)
def test_what_means_nothing_is_said_before_data_is_read(settings: list[str], mistake: str) -> None:
    task = "gan" if settings[0] == "task=gan" else None
    with pytest.raises(RecipeError) as caught:
        resolve("nowhere", None, task=task, settings=settings[task is not None :])
    assert mistake in str(caught.value)


def test_augmented_pictures_can_be_looked_at(call: Command) -> None:
    done = call("inspect", "digits", "--augmented", "--set", "augment.preset=strong", "--samples", "6", "--json")
    assert done.code == 0, done.err
    assert Path(done.json["samples"]).read_bytes().startswith(b"\x89PNG")
    refused = call("inspect", "mlp", "--augmented")
    assert refused.code == 2 and "Only data can be shown augmented" in refused.err


def test_recordings_are_mixed_as_pictures_are() -> None:
    facts = {"length": 100, "size": [8, 8], "classes": ["a", "b", "c"]}
    off = {"shift": 0, "gain": 0, "mask_mels": 0, "mask_frames": 0}
    recipe = parse({"task": "sound-classification", "options": {**off, "mixup": 0.4}})
    vary = sound_classification.transform(recipe, facts)
    assert vary is not None
    sound = torch.randint(-9000, 9000, (6, 100), generator=torch.Generator().manual_seed(0)).to(torch.int16)
    mixed = vary({"sound": sound, "label": torch.tensor([0, 1, 2, 0, 1, 2])}, Draw(0, 0, torch.arange(6)))
    plain = sound.float() / 32768
    share = mixed["target"].gather(1, torch.tensor([[0], [1], [2], [0], [1], [2]]))
    assert torch.allclose(mixed["target"].sum(1), torch.ones(6))
    for row in (0, 2, 3, 5):  # the two in the middle of a class with itself say nothing about their share
        torch.testing.assert_close(mixed["sound"][row], share[row] * plain[row] + (1 - share[row]) * plain[5 - row])
