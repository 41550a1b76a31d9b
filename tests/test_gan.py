"""GANs: the networks, the noise, the two phases, the classifier behind the distance, and runs from end to end."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

import flambeau
from flambeau import catalog
from flambeau.columns import Dataset, Split
from flambeau.core import Draw, Record, State
from flambeau.engine import checkpoint
from flambeau.engine.update import Rules, update
from flambeau.errors import ModelError, RecipeError
from flambeau.models import gan as models
from flambeau.report.gan import nearest_rows, sheet
from flambeau.tasks import gan as task

FACTS: dict[str, Any] = {"classes": ["a", "b", "c"], "size": [28, 28], "channels": 1, "noise": 12}
SMALL = ("model.name=mlp-gan", "model.width=16", "options.noise=8", "log.tensorboard=false", "train.batch_size=64")


def digits(rows: int = 600) -> dict[str, tuple[Tensor, Tensor]]:
    train = flambeau.datasets.load("digits").splits["train"]
    images, labels = train.tensor("image"), train.tensor("label")
    return {
        "train": (images[:rows], labels[:rows]),
        "val": (images[1000:1300], labels[1000:1300]),
        "test": (images[1300:], labels[1300:]),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> flambeau.Run:
    out = tmp_path_factory.mktemp("gan") / "run"
    return flambeau.train("digits", task="gan", epochs=2, settings=SMALL, device="cpu", out=out, quiet=True)


@pytest.mark.parametrize(
    ("size", "channels"), [((28, 28), 1), ((32, 32), 3), ((64, 64), 3), ((48, 32), 1), ((8, 8), 1)]
)
def test_dcgan_makes_and_judges_pictures_of_the_usual_sizes(size: tuple[int, int], channels: int) -> None:
    facts = {**FACTS, "size": list(size), "channels": channels}
    gan = models.Gan(models.dcgan(facts, width=4), facts)
    images = torch.randint(0, 256, (3, channels, *size), dtype=torch.uint8)
    judged = gan(images=images, noise=torch.randn(5, 12), compare=True)
    assert judged["pictures"].shape == (5, channels, *size) and judged["pictures"].abs().max() <= 1
    assert judged["real"].shape == (3,) and judged["fake"].shape == (5,)
    assert judged["real_features"].shape == (3, gan.features.size) and judged["fake_class"].shape == (5,)


def test_dcgan_says_which_sizes_it_makes() -> None:
    with pytest.raises(ModelError, match="28, 32, 48 or 64"):
        models.dcgan({**FACTS, "size": [30, 30]})
    models.mlp_gan({**FACTS, "size": [30, 17]})


@pytest.mark.parametrize(
    ("setting", "where"),
    [("model.width=0", "model.width"), ("model.depth=0", "model.depth"), ("model.dropout=1.5", "model.dropout")],
)
def test_arguments_out_of_range_are_found_before_any_data_is_read(setting: str, where: str) -> None:
    with pytest.raises(RecipeError, match=where):
        flambeau.train("digits", task="gan", settings=["model.name=mlp-gan", setting], quiet=True)


def test_weights_start_as_the_paper_says() -> None:
    made = models.dcgan(FACTS, width=64)
    kernels = torch.cat(
        [m.weight.detach().flatten() for m in made.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    )
    assert float(kernels.mean()) == pytest.approx(0, abs=1e-3) and float(kernels.std()) == pytest.approx(0.02, rel=0.02)


def test_a_network_of_ones_own_needs_both_parts_of_the_right_shapes() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = nn.Linear(12, 784)

    with pytest.raises(ModelError, match="no pair of a generator and a discriminator"):
        models.Gan(Half(), FACTS)
    flat = models.Adversaries(nn.Linear(12, 784), nn.Linear(784, 1))
    with pytest.raises(ModelError, match="another shape"):
        models.Gan(flat, FACTS)


def test_noise_is_normal_and_a_function_of_the_row_alone() -> None:
    rows = torch.arange(4000)
    noise = task.normals(Draw(3, 1, rows), 25)
    assert abs(float(noise.mean())) < 0.01 and abs(float(noise.std()) - 1) < 0.01
    assert float((noise.abs() < 1).float().mean()) == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.005)
    assert float((noise**4).mean()) == pytest.approx(3, abs=0.1) and noise.isfinite().all()
    assert float(torch.corrcoef(noise.T).fill_diagonal_(0).abs().max()) < 0.08
    chosen = torch.tensor([17, 3999, 0])
    assert task.normals(Draw(3, 1, chosen), 25).equal(noise[chosen])
    assert not task.normals(Draw(3, 2, chosen), 25).equal(noise[chosen])
    assert not task.normals(Draw(4, 1, chosen), 25).equal(noise[chosen])


def test_the_two_phases_get_noise_of_their_own() -> None:
    vary = task.transform(catalog.recipe("gan"), {**FACTS, "mirror": True})
    batch = {"image": torch.zeros(6, 1, 28, 28, dtype=torch.uint8)}
    noise = vary(batch, Draw(0, 0, torch.arange(6)))["noise"]
    assert noise.shape == (6, 2, 12) and not noise[:, 0].equal(noise[:, 1])


def state_of(network: nn.Module, facts: dict[str, Any], **settings: Any) -> State:
    recipe = catalog.recipe("gan").model_copy(update=settings)
    model = models.Gan(network, facts)
    phases = task.phases(recipe, facts)
    named = list(model.named_parameters())
    made = {phase.name: phase.optimizer([pair for pair in named if phase.trains(pair[0])]) for phase in phases}
    return State(model.train(), phases, made)


def batch_of(n: int = 8) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return {"image": images, "noise": torch.randn(n, 2, 12, generator=generator)}


def test_each_phase_changes_its_own_part_and_neither_the_classifier() -> None:
    state = state_of(models.dcgan(FACTS, width=4), FACTS)
    features = {name: value.clone() for name, value in state.model.features.state_dict().items()}
    for phase, part, other in ((0, "discriminator", "generator"), (1, "generator", "discriminator")):
        before = {name: value.detach().clone() for name, value in state.model.named_parameters()}
        alone = State(state.model, (state.phases[phase],), state.optimizers)
        for name, parameter in state.model.named_parameters():
            parameter.requires_grad_(state.phases[phase].trains(name))
        update(alone, batch_of(), Rules(lambda step: 1.0))
        changed = {name for name, value in state.model.named_parameters() if not value.equal(before[name])}
        assert changed and all(name.startswith(part) for name in changed) and other not in str(changed)
    assert all(value.equal(features[name]) for name, value in state.model.features.state_dict().items())
    assert not any(name.startswith("features") for name, _ in state.model.named_parameters())


def test_micro_batches_give_the_gradient_of_the_batch() -> None:
    found = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        state = state_of(models.mlp_gan(FACTS, width=8, dropout=0.0), FACTS)
        done = update(state, batch_of(), Rules(lambda step: 1.0, accumulate=accumulate))
        gradients = [p.grad for p in state.model.discriminator.parameters()]
        found.append((gradients, done.losses))
    for one, other in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(dict(found[0][1]), dict(found[1][1]), rtol=1e-4, atol=1e-6)


def test_label_smoothing_lowers_what_is_wanted_for_real_pictures_only() -> None:
    torch.manual_seed(0)
    recipe = catalog.recipe("gan")
    smooth = recipe.model_copy(update={"loss": recipe.loss.model_copy(update={"label_smoothing": 0.1})})
    model = models.Gan(models.mlp_gan(FACTS, width=8, dropout=0.0), FACTS)
    batch = batch_of()
    judged = model(images=batch["image"], noise=batch["noise"][:, 0])
    plain, smoothed = (task.phases(each, FACTS)[0].loss(model, batch).total for each in (recipe, smooth))
    real, fake = judged["real"], judged["fake"]
    assert float(plain) == pytest.approx(
        float(-real.sigmoid().log().sum() - (1 - fake.sigmoid()).log().sum()), rel=1e-4
    )
    # BCE is linear in the target: lowering it by 0.1 adds 0.1 of the logit.
    assert float(smoothed - plain) == pytest.approx(float(0.1 * real.sum()), rel=1e-3, abs=1e-4)


def test_the_classifier_behind_the_distance_is_the_same_every_time_and_moves_no_generator() -> None:
    splits = {name: Split({"image": images, "label": labels}) for name, (images, labels) in digits(400).items()}
    data = Dataset("digits", splits, {"classes": list("0123456789")}, "")
    facts = {**FACTS, "classes": list("0123456789"), "size": [8, 8]}
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = models.Gan(models.mlp_gan(facts, width=4), facts)
        before, own = torch.get_rng_state(), [value.clone() for value in model.generator.parameters()]
        task.ready(model, data)
        assert torch.get_rng_state().equal(before)
        assert all(value.equal(kept) for value, kept in zip(model.generator.parameters(), own, strict=True))
        weights.append(model.features.state_dict())
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())
    assert bool(model.features.trained) and float(model.features.accuracy) > 0.7


def test_a_run_from_end_to_end(run: flambeau.Run) -> None:
    scores = run.scores
    assert {"test/frechet", "test/diversity", "test/variety", "test/real_right", "test/fake_right"} <= scores.keys()
    assert scores["test/frechet"] > 0
    assert sorted(path.name for path in (run.path / "snapshots").iterdir()) == ["epoch-001.png", "epoch-002.png"]
    page = (run.path / "report.html").read_text(encoding="utf-8")
    for text in ("Samples over time", "Nearest training pictures", "classifier of our own", "epoch 2"):
        assert text in page
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert all({"val/frechet", "val/diversity"} <= line.keys() for line in lines if line["kind"] == "epoch")


def test_a_saved_model_measures_the_same_distance(run: flambeau.Run) -> None:
    again = flambeau.evaluate(run.path)
    assert again.scores["frechet"] == pytest.approx(run.scores["test/frechet"], rel=1e-6)


def test_verdicts_and_samples(run: flambeau.Run) -> None:
    model = flambeau.load(run.path)
    verdict = model.predict(np.zeros((8, 8), np.uint8))
    assert verdict["verdict"] in ("real", "made") and 0 <= verdict["probability"] <= 1
    state = torch.get_rng_state()
    one, same, other = (flambeau.sample(model, n=10, seed=seed)[0] for seed in (0, 0, 1))
    assert one.png == same.png != other.png and torch.get_rng_state().equal(state)
    with Image.open(io.BytesIO(one.png)) as picture:
        assert picture.size == (8 * 9 * 8, 2 * 9 * 8)


class _StopError(Exception):
    pass


def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["model.width=4", "options.noise=8", "log.tensorboard=false", "train.batch_size=50"]
    arguments: dict[str, Any] = {"task": "gan", "settings": settings, "device": "cpu", "quiet": True, "epochs": 2}
    whole = flambeau.train(digits(200), out=tmp_path / "whole" / "run", **arguments)

    def stop(record: Record, state: State) -> None:
        if record.kind == "step" and record.step == 6:
            raise _StopError

    monkeypatch.setattr(checkpoint, "INTERVAL_SECONDS", 0.0)
    with pytest.raises(_StopError):
        flambeau.train(digits(200), out=tmp_path / "parted" / "run", observers=[stop], **arguments)
    assert list((tmp_path / "parted" / "run" / "checkpoints").glob("step-*"))
    parted = flambeau.resume(tmp_path / "parted" / "run", source=digits(200), quiet=True)
    one, other = (safetensors.torch.load((made.path / "model.safetensors").read_bytes()) for made in (whole, parted))
    assert one.keys() == other.keys() and all(value.equal(other[name]) for name, value in one.items())
    assert (whole.path / "metrics.jsonl").read_bytes() == (parted.path / "metrics.jsonl").read_bytes()


def test_pictures_without_classes_are_compared_by_random_features(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    for number, image in enumerate(digits()["train"][0][:120]):
        Image.fromarray(image[0].numpy()).save(folder / f"{number:03}.png")
    found = task.open_folder(folder, catalog.recipe("gan"))
    assert found.info["classes"] == [] and len(found.splits["train"]) == 120
    assert task.TASK.intake.describe(found)["rows"] == {"train": 120} and "classes" not in task.TASK.intake.describe(
        found
    )
    run = flambeau.train(folder, task="gan", epochs=1, settings=SMALL, device="cpu", out=tmp_path / "run", quiet=True)
    assert "test/frechet" in run.scores and "test/variety" not in run.scores
    assert "fixed random weights" in (run.path / "report.html").read_text(encoding="utf-8")


def test_collapse_is_said(run: flambeau.Run) -> None:
    fine = {"diversity": 0.95, "variety": 0.9, "real_right": 0.7, "fake_right": 0.7}
    assert task.warnings_of(fine) == []
    alike = task.warnings_of({**fine, "diversity": 0.1, "variety": 0.2})
    assert len(alike) == 2 and all(sentence.startswith("Mode collapse") for sentence in alike)
    assert "discriminator" in task.warnings_of({**fine, "real_right": 1.0, "fake_right": 0.99})[0]
    # A generator that makes the same picture of any noise.
    model = flambeau.load(run.path)
    with torch.no_grad():
        next(model.network.generator.parameters()).zero_()
    scores = flambeau.evaluate(model, "digits").scores
    assert scores["diversity"] < 0.01 and scores["variety"] < 0.3 and task.warnings_of(scores)


def test_nearest_training_pictures_are_found() -> None:
    generator = torch.Generator().manual_seed(1)
    training = torch.randint(0, 256, (5000, 1, 6, 6), generator=generator, dtype=torch.uint8)
    images = torch.cat(
        [training[4321:4322], torch.randint(0, 256, (3, 1, 6, 6), generator=generator, dtype=torch.uint8)]
    )
    rows, apart = nearest_rows(images, training)
    wanted = torch.cdist(images.flatten(1).double(), training.flatten(1).double()).min(1)
    assert rows.equal(wanted.indices) and int(rows[0]) == 4321 and float(apart[0]) == 0
    torch.testing.assert_close(apart.double(), wanted.values / 6, rtol=1e-3, atol=1e-3)


def test_a_sheet_has_the_pictures_in_rows() -> None:
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 64, 64) * 40
    with Image.open(io.BytesIO(sheet(images, 3))) as made:
        assert made.size == (3 * 65, 2 * 65)
        assert [made.getpixel((65 * (n % 3) + 5, 65 * (n // 3) + 5))[0] for n in range(5)] == [0, 40, 80, 120, 160]
