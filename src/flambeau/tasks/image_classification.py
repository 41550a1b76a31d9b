"""Pictures into classes: one label a picture."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flambeau.columns import Column, Columns, Dataset, Split
from flambeau.core import Batch, Builder, Facts, Transform
from flambeau.data import brightness, images
from flambeau.data.augment import picture_transform
from flambeau.data.opening import PictureRules
from flambeau.data.pictures import FORMS, claims_pictures, open_pictures, picture_inputs, pictures_of_python
from flambeau.data.preview import describe
from flambeau.data.splits import with_test_and_validation
from flambeau.errors import DataError
from flambeau.models.classifier import Classifier, check_fit
from flambeau.models.frozen import Frozen
from flambeau.recipe import Recipe
from flambeau.task import Intake, Outcome, Shown, Start, Task, View
from flambeau.tasks import labels
from flambeau.tasks.common import tensors

START = Start(
    {"name": "resnet18", "pretrained": True, "freeze": True},
    below=5_000,
    file="resnet18-f37072fd.pth",
    megabytes=45,
    gain="Features that were learnt from ImageNet's 1.2 million pictures mostly recognise more than so few can teach.",
)

FEATURE_BATCH = 32
"""Pictures that go through a frozen network at a time."""

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


def transform(recipe: Recipe, facts: Facts) -> Transform | None:
    """Mirror, shift and crop; a mirrored digit or letter would no longer be one, so ``auto`` asks the data."""
    mirror = facts["mirror"] if recipe.augment.mirror == "auto" else recipe.augment.mirror
    return picture_transform(recipe.augment, mirror)


def build(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """The named network behind its normalisation; checked with an example of the right shape."""
    network = builder(facts, **recipe.model.arguments())
    check_fit(network, facts)
    return Classifier(network, facts["mean"], facts["std"])


@torch.no_grad()
def condense(model: nn.Module, split: Split) -> Split:
    """Where only the last layer learns: features float32 ``(N, F)`` in place of the pictures."""
    if not isinstance(model, Classifier) or not isinstance(model.network, Frozen):
        return split
    frozen, device = model.network.eval(), model.temperature.device
    pictures = split.tensor("image")
    parts = [
        frozen.backbone(model.normalized(pictures[start : start + FEATURE_BATCH].to(device))).cpu()
        for start in range(0, len(pictures), FEATURE_BATCH)
    ]
    return split.with_columns(image=torch.cat(parts))


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Logits ``(N, K)`` and calibrated probabilities ``(N, K)``, both float32."""
    return labels.outputs_of(model, model(batch["image"]))


def example(facts: Facts) -> dict[str, Tensor]:
    """One mid-grey picture of the model's size, uint8 ``(1, C, H, W)``."""
    return {"image": torch.full((1, facts["channels"], *facts["size"]), 128, dtype=torch.uint8)}


def doubts(batch: Batch, facts: Facts) -> list[str | None]:
    """Pictures whose border or whole is darker or brighter than in every training picture, in a sentence."""
    return brightness.doubts(batch["image"].cpu(), facts.get("brightness", {}))


def report(outcome: Outcome) -> tuple[list[Any], list[Any]]:
    """Headline numbers and sections: scores, confusion, classes, calibration, mistakes, samples."""
    from flambeau.report.pictures import (
        classification_cards,
        classification_of,
        classification_sections,
        spread_sample,
    )

    train = outcome.dataset.splits["train"]
    chosen = spread_sample(train.tensor("label"))
    made = classification_of(
        outcome,
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
    names = recipe.show.class_names or outcome.facts["classes"]
    shown = _first_pictures(outcome, recipe.show.samples, names) if recipe.show.samples else []
    return [*shown, *labels.tell(outcome, recipe)]


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


def about(facts: Mapping[str, Any]) -> dict[str, str]:
    """Sizes, colours and channel statistics, in a line each."""
    sizes = [f"{size['width']}x{size['height']} ({size['count']:,})" for size in facts["sizes"][:5]]
    reach = facts["size_range"]
    if reach and len(facts["sizes"]) > 5:
        (narrow, wide), (low, high) = reach["width"], reach["height"]
        sizes.append(f"...; widths {narrow} to {wide}, heights {low} to {high}")
    kinds = {"1": "grey", "3": "RGB"}
    colours = ", ".join(f"{count:,} {kinds.get(channels, channels)}" for channels, count in facts["channels"].items())
    return {
        "sizes": ", ".join(sizes),
        "colours": colours,
        "mean": f"{_rounded(facts['mean'])}  (of pixels in [0, 1], training split)",
        "std": _rounded(facts["std"]),
    }


def _rounded(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def shown_samples(dataset: Dataset, count: int) -> list[str | Shown]:
    """A labelled grid of samples."""
    from flambeau.data.preview import grid, samples, to_terminal

    pictures, captions = samples(dataset, count)
    buffer = io.BytesIO()
    grid(pictures, captions).save(buffer, "PNG")

    def terminal(width: int) -> Any:
        columns = max(1, width // 22)
        # Drawn anew: fewer samples still show as many classes as there is room for.
        return to_terminal(*samples(dataset, min(count, 2 * columns)), columns)

    return [Shown(f"{dataset.name}-samples.png", buffer.getvalue(), terminal)]


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    mistakes = []
    mean, std = recipe.images.mean, recipe.images.std
    if (mean is None) != (std is None) or (mean and std and len(mean) != len(std)):
        mistakes.append("images.mean: goes with images.std, one number of each for each channel")
    elif mean is not None and recipe.images.channels not in ("auto", len(mean)):
        mistakes.append(f"images.mean: expected {recipe.images.channels} numbers, received {len(mean)}")
    return mistakes + labels.checks(recipe)


INTAKE = Intake(
    forms=FORMS,
    claims=claims_pictures,
    open=open_pictures,
    of_python=pictures_of_python,
    divide=lambda dataset, recipe: with_test_and_validation(dataset, recipe.data),
    describe=describe,
    align=labels.align,
)

VIEW = View(
    asks="PICTURE...",
    inputs=picture_inputs,
    line=labels.line,
    cells=labels.cells,
    breakdown=labels.breakdown,
    report=report,
    tell=tell,
    about=about,
    samples=shown_samples,
    private=("rules", "counts", "brightness"),
)

TASK = Task(
    name="image-classification",
    about="One of several classes for each picture.",
    family="pictures",
    recipe="pictures",
    input="image",
    intake=INTAKE,
    view=VIEW,
    facts=facts,
    read=read,
    measure=measure,
    collate=tensors,
    transform=transform,
    build=build,
    phases=lambda recipe, facts: labels.phases_of(recipe, facts, lambda model, batch: model(batch["image"])),
    metrics=labels.metrics,
    predict=predict,
    decode=labels.decode,
    example=example,
    toy={"classes": [str(number) for number in range(10)], "size": [28, 28], "channels": 1, "mean": None, "std": None},
    parts=("images", "augment"),
    checks=checks,
    keep=labels.KEPT,
    start=START,
    doubts=doubts,
    condense=condense,
    calibrate=labels.calibrate,
)
