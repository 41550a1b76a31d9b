"""What every task has in common whose inputs are pictures: their size and channels, their reading, their statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from flambeau.columns import Column, Columns, Dataset, Split
from flambeau.core import Batch, Builder, Facts, Transform, device_of
from flambeau.data import brightness, images, preview
from flambeau.data.augment import picture_transform
from flambeau.data.opening import PictureRules, picture_inputs
from flambeau.data.pictures import ROLES
from flambeau.data.splits import with_test_and_validation
from flambeau.errors import DataError
from flambeau.models.classifier import Classifier
from flambeau.models.fit import check_fit
from flambeau.models.frozen import Frozen, freeze
from flambeau.models.regressor import Regressor
from flambeau.recipe import Recipe
from flambeau.task import Insight, Shown
from flambeau.tasks.common import check_outputs, column_checks, tensors

DEFAULT_SIDE = 64
"""The side that pictures of different sizes are brought to when the recipe names none."""


FEATURE_BATCH = 32
"""Pictures that go through a frozen network at a time."""

PRIVATE = ("rules", "counts", "brightness")
"""Facts that are machinery."""


def facts_of(split: Split, info: Mapping[str, Any], recipe: Recipe) -> Facts:
    """Picture size and channels, whether a mirror changes their meaning, and the rules that pictures are read by.

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
    """Pictures in any form to uint8 ``(N, C, H, W)`` of the model's size; other columns pass through."""
    rules = PictureRules.from_facts(facts["rules"])
    height, width = facts["size"]
    pictures = images.read_pictures(raw["image"], (height, width), facts["channels"], rules)
    return {**raw, "image": pictures}


def statistics(split: Split, facts: Facts, recipe: Recipe) -> Facts:
    """Channel means and standard deviations (of pixels in [0, 1]), and how dark and how bright pictures are."""
    known: Facts = {"brightness": brightness.ranges(split.tensor("image").numpy())}
    if recipe.images.mean is not None:
        return {**known, "mean": recipe.images.mean, "std": recipe.images.std}
    if recipe.images.normalize == "none":
        return {**known, "mean": None, "std": None}
    if recipe.images.normalize == "half":
        half = [0.5] * facts["channels"]
        return {**known, "mean": half, "std": half}
    mean, std = images.channel_statistics(split.tensor("image"))
    return {**known, "mean": mean, "std": [max(value, 1 / 255) for value in std]}


def network_of(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """The network that a recipe names, checked with an example of the right shape; frozen as far as it says."""
    network = builder(facts, **recipe.model.arguments())
    check_outputs(recipe, check_fit(network, facts))
    if not recipe.model.freeze:
        return network
    pictures = torch.rand(
        2, facts["channels"], *facts["size"], generator=torch.Generator().manual_seed(0), device="cpu"
    )
    return freeze(network, recipe.model.freeze, pictures.to(device_of(network)))


def condense(model: nn.Module, split: Split) -> Split:
    """Where only the last layer learns: features float32 ``(N, F)`` in place of the pictures."""
    inner = model.inner if isinstance(model, Regressor) else model
    if not isinstance(inner, Classifier) or not isinstance(inner.network, Frozen) or not inner.network.tail:
        return split
    return split.with_columns(image=features_of(inner, split.tensor("image")))


@torch.no_grad()
def features_of(model: Classifier, pictures: Tensor) -> Tensor:
    """What the frozen layers of a classifier make of pictures, float32 ``(N, F)``; it is computed once."""
    frozen, device = cast(Frozen, model.network).eval(), device_of(model)
    parts = torch.split(pictures, FEATURE_BATCH)
    return torch.cat([frozen.features(model.normalized(part.to(device))).cpu() for part in parts])


def build_classifier(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """The named network, with an output for each class, behind its normalisation."""
    return Classifier(network_of(recipe, facts, builder), facts["mean"], facts["std"])


def example(facts: Facts) -> dict[str, Tensor]:
    """One mid-grey picture of the model's size, uint8 ``(1, C, H, W)``."""
    return {"image": torch.full((1, facts["channels"], *facts["size"]), 128, dtype=torch.uint8)}


def doubts(batch: Batch, facts: Facts) -> list[str | None]:
    """Pictures whose border or whole is darker or brighter than in every training picture, in a sentence."""
    return brightness.doubts(batch["image"].cpu().numpy(), facts.get("brightness", {}))


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


def transform(recipe: Recipe, facts: Facts) -> Transform | None:
    """What ``[augment]`` says; a mirrored digit or letter would no longer be one, so ``auto`` asks the data."""
    mirror = facts["mirror"] if recipe.augment.mirror == "auto" else recipe.augment.mirror
    return picture_transform(recipe.augment, mirror, len(facts.get("classes", ())))


def samples(dataset: Dataset, count: int, caption: Callable[[Split], Sequence[str]] | None = None) -> list[str | Shown]:
    """A grid of samples with captions, by default their classes."""
    pictures, captions = preview.samples(dataset, count, caption=caption)

    def terminal(width: int) -> Any:
        columns = max(1, width // 22)
        # Drawn anew: fewer samples still show as many classes as there is room for.
        return preview.to_terminal(*preview.samples(dataset, min(count, 2 * columns), caption=caption), columns)

    return [Shown(f"{dataset.name}-samples.png", preview.grid_png(pictures, captions), terminal)]


def thumbnail(raw: Any, facts: Facts) -> Tensor:
    """A picture in any form as it is, uint8 ``(C, H, W)``, to be shown."""
    return images.decode(raw, PictureRules.from_facts(facts["rules"]))


def insight(model: nn.Module, facts: Facts, raw: Any) -> list[Insight]:
    """The picture as the model sees it."""
    return [_seen(_one(facts, raw))]


def class_insight(model: nn.Module, facts: Facts, raw: Any) -> list[Insight]:
    """The picture as the model sees it, and what in it spoke for the most probable class."""
    from flambeau.models.gradcam import grad_cam
    from flambeau.report.pictures import heated

    pictures = _one(facts, raw)
    with torch.inference_mode():
        best = model(pictures.to(device_of(model))).argmax(1)
    heat = grad_cam(model, pictures.to(device_of(model)), best.clone())
    if heat is None:
        return [_seen(pictures)]
    about = f"What spoke for {facts['classes'][int(best)]}: the redder, the more (Grad-CAM)."
    return [_seen(pictures), Insight(about, preview.png(heated(pictures[0], heat[0])))]


def _one(facts: Facts, raw: Any) -> Tensor:
    """A single picture as the network gets it, uint8 ``(1, C, H, W)``."""
    return Split(read({"image": [raw]}, facts)).tensor("image")


def _seen(pictures: Tensor) -> Insight:
    _, channels, height, width = pictures.shape
    colours = "grey" if channels == 1 else "in colour"
    return Insight(f"As the model sees it: {width} × {height} pixels, {colours}.", preview.png(pictures[0]))


def require_target(split: Split, info: Mapping[str, Any], column: str, forms: str) -> None:
    """Refuses data whose pictures have another kind of target than a task learns.

    Raises:
        DataError: There is no such column.
    """
    if column not in split.columns:
        found = "one class for each picture" if "label" in split.columns else "no targets"
        raise DataError(
            f"The data has {found}, and this task wants another kind of target.",
            where=info.get("source"),
            expected=forms,
            remedy="Choose a task that fits: see `flambeau tasks`.",
        )


def checks(recipe: Recipe) -> list[str]:
    """Settings of pictures that contradict each other, and columns that tables of pictures do not have."""
    mistakes = []
    mean, std = recipe.images.mean, recipe.images.std
    if (mean is None) != (std is None) or (mean and std and len(mean) != len(std)):
        mistakes.append("images.mean: goes with images.std, one number of each for each channel")
    elif mean is not None and recipe.images.channels not in ("auto", len(mean)):
        mistakes.append(f"images.mean: expected {recipe.images.channels} numbers, received {len(mean)}")
    mistakes += recipe.augment.contradictions(recipe.train.batch_size, recipe.images.channels)
    return mistakes + column_checks(recipe, *ROLES)


def unmixed_checks(recipe: Recipe, target: str) -> list[str]:
    """Augmentation that mixes classes, for tasks whose pictures have another target than a class (called so)."""
    if not recipe.augment.mixes:
        return []
    return [f"augment.mixup, augment.cutmix: mix classes, and here a picture has {target}; set both to 0"]


INTAKE_FIELDS: Mapping[str, Any] = {
    "divide": lambda dataset, recipe: with_test_and_validation(dataset, recipe.data),
    "describe": preview.describe,
}
VIEW_FIELDS: Mapping[str, Any] = {
    "asks": "PICTURE...",
    "inputs": picture_inputs,
    "about": about,
    "thumbnail": thumbnail,
    "insight": insight,
}
TASK_FIELDS: Mapping[str, Any] = {
    "family": "pictures",
    "input": "image",
    "read": read,
    "collate": tensors,
    "transform": transform,
    "example": example,
    "parts": ("images", "augment"),
    "doubts": doubts,
    "condense": condense,
}
"""What the records of tasks have in common that say something about each picture."""

TOY: Facts = {"size": [28, 28], "channels": 1, "mean": None, "std": None}
"""What the facts of their small problems have in common."""
