"""How a script comes by its data: what every way has in common."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from flambeau.columns import Dataset, Split

ROW = "eject/row"
"""The column that carries each row's number in the split that its source gives."""


@dataclass(slots=True)
class Reading:
    """How the script comes by its data.

    Attributes:
        text: Defines ``read_data()``, which returns columns by split; places of copied definitions in it.
        where: What ``DATA`` is by default: a path, as Python writes it.
        beside: Files that lie beside the script, by name.
        note: What the reader of the script should know.
    """

    text: str
    where: str
    beside: dict[str, bytes] = field(default_factory=dict)
    note: str = ""
    imports: set[str] = field(default_factory=set)


def with_rows(raw: Dataset) -> Dataset:
    """A data set whose rows carry their numbers, so that it can be seen afterwards how it was divided."""
    splits = {name: split.with_columns(**{ROW: torch.arange(len(split))}) for name, split in raw.splits.items()}
    return Dataset(raw.name, splits, raw.info, raw.hash)


def without_rows(read: Dataset) -> Dataset:
    """The data set as it is trained on."""
    made: dict[int, Split] = {}
    splits = {name: made.setdefault(id(split), split.without(ROW)) for name, split in read.splits.items()}
    return Dataset(read.name, splits, read.info, read.hash)


def origin_of(raw: Dataset, name: str) -> str:
    """The split of the source that a split was taken from."""
    return name if name in raw.splits else "train"


def npz(arrays: Mapping[str, Any]) -> bytes:
    """A NumPy archive of arrays or tensors, by name."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
