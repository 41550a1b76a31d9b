"""What training will see: rows of the training split after the augmentation that a recipe asks for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch

from flambeau import catalog
from flambeau.columns import Dataset, Split
from flambeau.data.loader import stream
from flambeau.data.prepare import prepare
from flambeau.datasets import opened
from flambeau.errors import UsageError
from flambeau.task import Shown
from flambeau.workflow.planning import resolve

ROWS = 64
"""A batch as large as the largest that the data would choose by itself; among so many, pictures are mixed."""


def augmented(source: Any, task: str | None, settings: Iterable[str], count: int) -> list[str | Shown]:
    """Rows of the first training batch as training would get them, to look at.

    Args:
        source: As for :func:`flambeau.train`.
        task: As there.
        settings: ``key=value`` texts, stronger than the source's own recipe.
        count: How many at most.

    Raises:
        UsageError: The task does not vary its examples by ``[augment]``, or the recipe asks for nothing.
    """
    named = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    recipe = resolve(named, None, settings=settings, task=task)
    chosen = catalog.task(recipe.task)
    if "augment" not in chosen.parts:
        raise UsageError(f"The task {chosen.name} has no [augment] to look at.", where="--augmented", received=source)
    facts, dataset = prepare(opened(recipe, source), chosen, recipe)
    train = dataset.splits["train"]
    transform = chosen.transform(recipe, facts)
    size = ROWS if recipe.train.batch_size == "auto" else recipe.train.batch_size
    batches = stream(train, chosen.collate, batch_size=size, seed=recipe.seed, transform=transform)
    batch = next(iter(batches.epoch(0, 0)))
    values = batch[chosen.input]
    if values.is_floating_point():
        values = values.round().clamp(0, 255).to(torch.uint8)
    columns = {name: tensor for name, tensor in batch.items() if name in train.columns}
    shown = Dataset(
        f"{dataset.name}-augmented", {"train": Split({**columns, chosen.input: values})}, dataset.info, dataset.hash
    )
    return chosen.view.samples(shown, count)
