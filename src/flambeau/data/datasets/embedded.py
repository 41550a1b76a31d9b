"""Reads the small data sets that come inside the package."""

from __future__ import annotations

import gzip
from importlib import resources

from torch import Tensor

from flambeau.data.datasets import idx


def read(folder: str, name: str) -> Tensor:
    """The array in one of the package's gzipped IDX files, uint8."""
    file = resources.files("flambeau.data.datasets").joinpath("files", folder, f"{name}.gz")
    return idx.parse(gzip.decompress(file.read_bytes()), where=f"{folder}/{name}.gz")
