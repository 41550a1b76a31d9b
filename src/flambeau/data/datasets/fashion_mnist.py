"""``fashion-mnist``: 70,000 grey pictures of clothing, 28x28 (Xiao, Rasul and Vollgraf, 2017, arXiv 1708.07747)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flambeau.columns import Dataset
from flambeau.data.datasets import download, mnist
from flambeau.data.datasets.mnist import columns

__all__ = ["columns", "load"]

INFO = {
    "classes": [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
    "licence": "MIT, Copyright (c) 2017 Zalando SE",
    "homepage": "https://github.com/zalandoresearch/fashion-mnist",
    "mirror": True,
}

LAYOUT = mnist.layout(
    "fashion-mnist",
    mnist.FASHION_SUMS,
    ("FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "fashion_mnist", "fashionmnist", ""),
    others=frozenset(mnist.SUMS.values()),
    download=30_878_645,
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
    return mnist.assemble(LAYOUT, INFO, root, download.mnist_like("FashionMNIST", mirrors=mirrors))
