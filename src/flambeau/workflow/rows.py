"""The rows of a model's own data, opened again after it was trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from flambeau.columns import Columns, Split
from flambeau.datasets import opened
from flambeau.errors import BadRows, FlambeauError
from flambeau.model import Model
from flambeau.recipe import parse

BATCH = 32


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows raw where they are read one by one, and as the task reads them."""

    raw: Split | None
    read: Split

    def parts(self, order: Tensor) -> Iterator[tuple[Columns | None, Split]]:
        """The rows in an order, a batch at a time."""
        for rows in torch.split(order, BATCH):
            # With its number, as every row has one when a model is evaluated.
            read = self.read.take(rows).with_columns(row=rows)
            yield None if self.raw is None else self.raw.take(rows).columns, read

    def spread(self, count: int | None = None) -> Tensor:
        """Numbers of so many rows, or of all, in an order of no meaning: however few are taken, classes mix."""
        return torch.randperm(len(self.read), generator=torch.Generator().manual_seed(0))[:count]


def rows_of(model: Model, split: str) -> tuple[Rows | None, str | None]:
    """The examples of a split of the data that a model was trained on; or None and the reason why there are none."""
    raw, reason = raw_rows_of(model, split)
    if raw is None:
        return None, reason
    try:
        found, kept = readable(model, raw)
    except FlambeauError as error:
        return None, f"the data cannot be read ({error.problem})"
    arranged = model.task.arrange(found, model.facts)
    return Rows(kept if arranged is found else None, arranged), None


def raw_rows_of(model: Model, split: str) -> tuple[Split | None, str | None]:
    """The rows of such a split as its source gives them; or None and the reason why there are none."""
    recipe = parse(model.description.recipe)
    if recipe.data.source is None:
        return None, "the model was trained on objects of Python"
    try:
        whole = opened(recipe)
        if whole.hash != model.description.data.get("hash"):
            return None, "the data is not what it was when the model was trained"
        raw = model.task.intake.divide(whole, recipe).splits.get(split)
    except FlambeauError as error:
        return None, f"the data cannot be read ({error.problem})"
    return (raw, None) if raw is not None else (None, f"there is no {split} split")


def readable(model: Model, raw: Split) -> tuple[Split, Split]:
    """The rows that can be read, as the task reads them and raw."""
    try:
        return read_rows(model, raw), raw
    except BadRows as error:
        good = torch.tensor([row for row in range(len(raw)) if row not in error.rows], dtype=torch.int64)
        kept = raw.take(good)
        return read_rows(model, kept), kept


def read_rows(model: Model, raw: Split) -> Split:
    """Raw rows as the task reads them."""
    return Split(model.task.read(raw.columns, model.facts))
