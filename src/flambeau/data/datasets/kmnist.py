"""``kmnist``: 70,000 grey pictures of ten characters of cursive Japanese, 28x28 (Clanuwat et al., 2018, arXiv
1812.01718)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flambeau.columns import Dataset
from flambeau.data.datasets import download, mnist
from flambeau.data.datasets.mnist import columns

SUMS = {
    "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
    "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
    "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
    "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
}
"""Published for the packed files alone, so these are what is looked for."""

__all__ = ["columns", "load"]

INFO = {
    "classes": ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
    "licence": "CC BY-SA 4.0, ROIS-DS Center for Open Data in the Humanities",
    "homepage": "https://github.com/rois-codh/kmnist",
    "mirror": False,
}

# Not in the root itself: there the files of MNIST would be taken for damaged ones of this set.
LAYOUT = mnist.layout("kmnist", SUMS, ("KMNIST/raw", "KMNIST", "kmnist"), download=21_240_888)


def load(root: Sequence[Path] = (), *, mirrors: Sequence[str] | None = None) -> Dataset:
    """The data set, with splits ``train`` (60,000) and ``test`` (10,000).

    Columns: ``image`` uint8 ``(N, 1, 28, 28)``, ``label`` int64 ``(N,)``.

    Args:
        root: Folders to look in before the usual places.
        mirrors: Addresses to download from in place of torchvision's, each ending in a slash.

    Raises:
        DataError: The files are damaged, or are nowhere and cannot be downloaded.
    """
    return mnist.assemble(LAYOUT, INFO, root, download.mnist_like("KMNIST", mirrors=mirrors))
