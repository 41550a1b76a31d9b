"""``mnist``: 70,000 grey pictures of handwritten digits, 28x28 (LeCun, Cortes and Burges, 1998)."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from flambeau.columns import Dataset, Split
from flambeau.data.datasets import download, idx, locate
from flambeau.data.hashing import dataset_hash

SUMS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
FASHION_SUMS = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
"""Here too, since the files of Fashion-MNIST have the same names and must be told apart by their content."""

INFO = {
    "classes": [str(digit) for digit in range(10)],
    "licence": "not stated; Y. LeCun, C. Cortes and C. J. C. Burges",
    "homepage": "http://yann.lecun.com/exdb/mnist/",
    "mirror": False,
}


def layout(
    name: str,
    sums: Mapping[str, str],
    folders: tuple[str, ...],
    *,
    others: frozenset[str] = frozenset(),
    download: int = 0,
) -> locate.Layout:
    """The layout of a data set in the four files of MNIST."""
    return locate.Layout(name, sums, folders, others=others, download=download)


LAYOUT = layout(
    "mnist",
    SUMS,
    ("MNIST/raw", "MNIST", "mnist", ""),
    others=frozenset(FASHION_SUMS.values()),
    download=11_594_722,
)


def load(root: Sequence[Path] = (), *, mirrors: Sequence[str] | None = None) -> Dataset:
    """The data set, with splits ``train`` (60,000) and ``test`` (10,000).

    Columns: ``image`` uint8 ``(N, 1, 28, 28)``, ``label`` int64 ``(N,)``.

    Args:
        root: Folders to look in before the usual places.
        mirrors: Addresses to download from in place of torchvision's, each ending in a slash.

    Raises:
        DataError: The files are damaged, or are nowhere and cannot be downloaded.
    """
    return assemble(LAYOUT, INFO, root, download.mnist_like("MNIST", mirrors=mirrors))


def assemble(
    files: locate.Layout, info: Mapping[str, Any], root: Sequence[Path], fetch: Callable[[Path], None]
) -> Dataset:
    """A data set from the four files of MNIST, found or fetched."""
    found, source = locate.obtain(files, root, fetch)
    content = {
        name.removesuffix(".gz"): gzip.decompress(data) if name.endswith(".gz") else data
        for name, data in found.items()
    }
    splits = {name: Split(made) for name, made in columns(content.__getitem__, where=source).items()}
    return Dataset(files.name, splits, {**info, "source": str(source.absolute()), "notes": []}, dataset_hash(splits))


def columns(content: Callable[[str], bytes], *, where: object = None) -> dict[str, dict[str, Tensor]]:
    """Pictures uint8 ``(N, 1, 28, 28)`` and labels int64 ``(N,)`` of both splits, from the four files.

    Args:
        content: Gives the uncompressed content of a file by its name.
        where: Named in errors.
    """
    parts = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    images, labels, test_images, test_labels = [idx.parse(content(f"{part}-ubyte"), where=where) for part in parts]
    return {
        "train": {"image": images.unsqueeze(1), "label": labels.long()},
        "test": {"image": test_images.unsqueeze(1), "label": test_labels.long()},
    }
