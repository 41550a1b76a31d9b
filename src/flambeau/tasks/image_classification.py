"""Pictures into classes: one label a picture."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.core import (
    Batch,
    Builder,
    Column,
    Columns,
    Facts,
    Loss,
    Metrics,
    Outcome,
    Phase,
    Shown,
    Split,
    Task,
    Transform,
)
from flambeau.data import brightness, images
from flambeau.data.augment import picture_transform
from flambeau.data.opening import PictureRules
from flambeau.engine.optim import optimizer
from flambeau.errors import DataError, ModelError
from flambeau.metrics.calibration import expected_calibration_error, fit_temperature
from flambeau.metrics.classification import classification
from flambeau.metrics.tables import accuracy_interval
from flambeau.models.classifier import Classifier, check_fit
from flambeau.recipe import Recipe

FEWEST = 100
"""Below so many validation pictures a temperature follows chance more than the model, and none is fitted."""

LOWEST, HIGHEST = 0.1, 10.0
"""Between these a fitted temperature is believed."""

DEFAULT_SIDE = 64
"""The side that pictures of different sizes are brought to when the recipe names none."""


def facts(split: Split, info: Mapping[str, Any], recipe: Recipe) -> Facts:
    """Classes, picture size and channels, and the rules that pictures are read by.

    A recipe's own size and channels win. Otherwise the data's: its own size when it is the same throughout, else
    64 x 64 (or less, when every picture is smaller); grey only when every picture is.
    """
    wanted = recipe.images
    rules = PictureRules.of(wanted)
    sizes, channels = _shapes(split["image"], rules)
    if wanted.size != "auto":
        size, reason = wanted.size, "as the recipe says"
    elif len(sizes) == 1:
        size, reason = next(iter(sizes)), "the pictures' own"
    else:
        side = min(DEFAULT_SIDE, max(max(pair) for pair in sizes))
        size, reason = (side, side), f"chosen for pictures of {len(sizes)} different sizes"
    return {
        "classes": list(info["classes"]),
        "size": list(size),
        "size_reason": reason,
        "channels": wanted.channels if wanted.channels != "auto" else max(channels),
        "mirror": bool(info.get("mirror", True)),
        "rules": rules.to_facts(),
    }


def _shapes(column: Column, rules: PictureRules) -> tuple[Counter[tuple[int, int]], set[int]]:
    """How many pictures have which (height, width), and the numbers of channels that occur."""
    if isinstance(column, Tensor):
        height, width = column.shape[-2:]
        return Counter({(height, width): len(column)}), {column.shape[1] if column.dim() == 4 else 1}
    sizes: Counter[tuple[int, int]] = Counter()
    channels: set[int] = set()
    for raw in column:
        try:
            width, height, depth = images.probe(raw, rules)
        except DataError:
            continue  # read() meets it again and reports it with all others
        sizes[height, width] += 1
        channels.add(depth)
    return sizes or Counter({(DEFAULT_SIDE, DEFAULT_SIDE): 1}), channels or {3}


def read(raw: Columns, facts: Facts) -> dict[str, Column]:
    """Pictures in any form to uint8 ``(N, C, H, W)`` of the model's size; labels pass through."""
    rules = PictureRules.from_facts(facts["rules"])
    height, width = facts["size"]
    pictures = images.read_pictures(raw["image"], (height, width), facts["channels"], rules)
    return {**raw, "image": pictures}


def measure(split: Split, facts: Facts, recipe: Recipe) -> Facts:
    """The facts with channel means and standard deviations (of pixels in [0, 1]), the number of each class, and how
    dark and how bright pictures are."""
    counts = torch.bincount(split.tensor("label"), minlength=len(facts["classes"])).tolist()
    known = {**facts, "counts": counts, "brightness": brightness.ranges(split.tensor("image"))}
    if recipe.images.mean is not None:
        return {**known, "mean": recipe.images.mean, "std": recipe.images.std}
    if recipe.images.normalize == "none":
        return {**known, "mean": None, "std": None}
    if recipe.images.normalize == "half":
        half = [0.5] * facts["channels"]
        return {**known, "mean": half, "std": half}
    mean, std = images.channel_statistics(split.tensor("image"))
    return {**known, "mean": mean, "std": [max(value, 1 / 255) for value in std]}


def collate(examples: Columns) -> Batch:
    """The columns as they are: pictures of one size need no padding."""
    return {name: column for name, column in examples.items() if isinstance(column, Tensor)}


def transform(recipe: Recipe, facts: Facts) -> Transform | None:
    """Mirror, shift and crop; a mirrored digit or letter would no longer be one, so ``auto`` asks the data."""
    mirror = facts["mirror"] if recipe.augment.mirror == "auto" else recipe.augment.mirror
    return picture_transform(recipe.augment, mirror)


def build(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """The named network behind its normalisation; checked with an example of the right shape."""
    network = builder(facts, **recipe.model.arguments())
    check_fit(network, facts)
    return Classifier(network, facts["mean"], facts["std"])


def phases(recipe: Recipe, facts: Facts) -> tuple[Phase, ...]:
    """One phase: cross-entropy or negative log-likelihood, weighted by class where the recipe says so."""
    weights = class_weights(recipe, facts)
    smoothing = recipe.loss.label_smoothing

    def loss(model: nn.Module, batch: Batch) -> Loss:
        outputs, label = model(batch["image"]), batch["label"]
        weight = None if weights is None else outputs.new_tensor(weights)
        if recipe.loss.name == "nll":
            return Loss(F.nll_loss(outputs, label, weight, reduction="sum"))
        return Loss(F.cross_entropy(outputs, label, weight, reduction="sum", label_smoothing=smoothing))

    def count(batch: Batch) -> float:
        if weights is None:
            return len(batch["label"])
        return float(batch["label"].new_tensor(weights, dtype=torch.float64)[batch["label"]].sum())

    part = recipe.optimizer
    make = optimizer(
        part.name,
        lr=part.lr,
        momentum=part.momentum,
        nesterov=part.nesterov,
        weight_decay=part.weight_decay,
        betas=part.betas,
    )
    return (Phase("loss", loss, count, make),)


def class_weights(recipe: Recipe, facts: Facts) -> list[float] | None:
    """A weight for each class; ``balanced`` gives n / (classes · n of the class), as scikit-learn does."""
    wanted = recipe.loss.class_weights
    if wanted is None:
        return None
    classes = facts["classes"]
    if wanted == "balanced":
        counts = facts["counts"]
        return [sum(counts) / (len(classes) * max(1, count)) for count in counts]
    if len(wanted) != len(classes):
        raise ModelError(
            "There must be one weight for each class.",
            where="loss.class_weights",
            expected=f"{len(classes)} numbers, in the order {', '.join(classes[:12])}",
            received=len(wanted),
        )
    return list(wanted)


def metrics(recipe: Recipe, facts: Facts) -> Metrics:
    """Accuracy and what belongs to it."""
    return classification(len(facts["classes"]))


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Logits ``(N, K)`` and calibrated probabilities ``(N, K)``, both float32."""
    logits = model(batch["image"])
    return {"logits": logits, "probabilities": torch.softmax(logits / model.temperature, dim=1)}


def decode(outputs: Batch, facts: Facts) -> list[dict[str, Any]]:
    """For each picture its class, the probability of that, and all classes from the most probable on."""
    classes = facts["classes"]
    # By logits and stable: what wins is what wins when accuracy is counted, also where probabilities round to equals.
    order = outputs["logits"].cpu().sort(dim=1, descending=True, stable=True).indices
    probabilities = outputs["probabilities"].cpu().gather(1, order)
    decoded = []
    for values, indices in zip(probabilities.tolist(), order.tolist(), strict=True):
        ranked = [{"class": classes[i], "probability": value} for i, value in zip(indices, values, strict=True)]
        decoded.append({"class": ranked[0]["class"], "probability": values[0], "classes": ranked})
    return decoded


def example(facts: Facts) -> dict[str, Tensor]:
    """One mid-grey picture of the model's size, uint8 ``(1, C, H, W)``."""
    return {"image": torch.full((1, facts["channels"], *facts["size"]), 128, dtype=torch.uint8)}


def doubts(batch: Batch, facts: Facts) -> list[str | None]:
    """Pictures whose border or whole is darker or brighter than in every training picture, in a sentence."""
    return brightness.doubts(batch["image"].cpu(), facts.get("brightness", {}))


def calibrate(model: nn.Module, outputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Fits the temperature on validation logits and stores it in the model."""
    logits, label = outputs["logits"], outputs["label"]
    if len(label) < FEWEST:
        return {}
    temperature = fit_temperature(logits, label)
    if not LOWEST < temperature < HIGHEST:
        # So few mistakes (or so few right answers) that any confidence fits: there is nothing to calibrate by.
        temperature = 1.0
    stored = cast(Tensor, model.temperature)
    stored.fill_(temperature)
    return {
        "temperature": float(stored),
        "val/ece_before": expected_calibration_error(torch.softmax(logits, 1), label),
        "val/ece_after": expected_calibration_error(torch.softmax(logits / float(stored), 1), label),
    }


def report(outcome: Outcome) -> tuple[list[Any], list[Any]]:
    """Headline numbers and sections: scores, confusion, classes, calibration, mistakes, samples."""
    from flambeau.report.pictures import (
        ClassificationReport,
        classification_cards,
        classification_sections,
        spread_sample,
    )

    outputs, train = outcome.evaluation.outputs, outcome.dataset.splits["train"]
    chosen = spread_sample(train.tensor("label"))
    made = ClassificationReport(
        classes=outcome.facts["classes"],
        split=outcome.split,
        labels=outputs["label"],
        logits=outputs["logits"],
        probabilities=outputs["probabilities"],
        confusion=outcome.evaluation.sums["confusion"],
        temperature=outcome.calibration.get("temperature", 1.0),
        fitted_on="validation" if outcome.calibration else "",
        images=outcome.dataset.splits[outcome.split].tensor("image"),
        names=_names(outcome),
        samples=train.tensor("image")[chosen],
        sample_labels=train.tensor("label")[chosen],
    )
    return classification_cards(made), classification_sections(made)


def _names(outcome: Outcome) -> list[str] | None:
    columns = outcome.dataset.splits[outcome.split].columns
    return [str(name) for name in columns["name"]] if "name" in columns else None


def tell(outcome: Outcome, recipe: Recipe) -> list[str | Shown]:
    """Accuracy and loss on the test split; first pictures and accuracy by class where the recipe shows them."""
    scores, classes = outcome.evaluation.scores, recipe.show.class_names or outcome.facts["classes"]
    shown: list[str | Shown] = []
    if recipe.show.samples:
        shown += _first_pictures(outcome, recipe.show.samples, classes)
    if recipe.show.by_class:
        confusion = outcome.evaluation.sums["confusion"]
        rates = (confusion.diagonal() / confusion.sum(1).clamp(min=1)).tolist()
        shown += [f"accuracy of {name:<10} {100 * rate:5.1f} %" for name, rate in zip(classes, rates, strict=True)]
    low, high = accuracy_interval(outcome.evaluation.sums["confusion"])
    line = (
        f"test accuracy {scores['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}), "
        f"average loss {scores['loss']:.4f}"
    )
    # The tutorials print this other average; elsewhere it would only raise the question of which to believe.
    in_walk = recipe.show.step or recipe.show.epoch
    shown.append(f"{line} (mean of batch means {scores['loss_mean_of_batches']:.6f})" if in_walk else line)
    return shown


def _first_pictures(outcome: Outcome, count: int, names: Sequence[str]) -> list[str | Shown]:
    """The first test pictures with what was predicted and what they are."""
    from flambeau.data.preview import grid, to_terminal

    outputs = outcome.evaluation.outputs
    truth = [names[label] for label in outputs["label"][:count].tolist()]
    predicted = [names[label] for label in outputs["logits"][:count].argmax(1).tolist()]
    captions = [f"{guess} ({'right' if guess == name else name})" for guess, name in zip(predicted, truth, strict=True)]
    pictures = outcome.dataset.splits[outcome.split].tensor("image")[:count]
    buffer = io.BytesIO()
    grid(pictures, captions, min(count, 10)).save(buffer, "PNG")
    strip = Shown(
        "first-test-pictures.png",
        buffer.getvalue(),
        lambda width: to_terminal(pictures, captions, max(1, min(count, width // 22))),
    )
    lines = [f'predicted "{guess}", actual "{name}"' for guess, name in zip(predicted, truth, strict=True)]
    return [strip, *lines]


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    mistakes = []
    mean, std = recipe.images.mean, recipe.images.std
    if (mean is None) != (std is None) or (mean and std and len(mean) != len(std)):
        mistakes.append("images.mean: goes with images.std, one number of each for each channel")
    elif mean is not None and recipe.images.channels not in ("auto", len(mean)):
        mistakes.append(f"images.mean: expected {recipe.images.channels} numbers, received {len(mean)}")
    if recipe.loss.name == "nll" and recipe.loss.label_smoothing:
        mistakes.append("loss.label_smoothing: goes with cross-entropy; with nll leave it at 0")
    if recipe.optimizer.nesterov and not recipe.optimizer.momentum:
        mistakes.append("optimizer.nesterov: needs optimizer.momentum above 0")
    if recipe.optimizer.name != "sgd" and recipe.optimizer.momentum:
        mistakes.append(f"optimizer.momentum: goes with sgd; {recipe.optimizer.name} has optimizer.betas")
    return mistakes


TASK = Task(
    name="image-classification",
    input="image",
    facts=facts,
    read=read,
    measure=measure,
    collate=collate,
    transform=transform,
    build=build,
    phases=phases,
    metrics=metrics,
    predict=predict,
    decode=decode,
    example=example,
    checks=checks,
    keep=("logits", "probabilities", "label"),
    report=report,
    tell=tell,
    doubts=doubts,
    calibrate=calibrate,
)
