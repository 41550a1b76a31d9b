"""``fashion-mnist-mini``: the first 5,000 training and 1,000 test pictures of Fashion-MNIST, inside the package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flambeau.columns import Dataset, Split
from flambeau.data.datasets import embedded, fashion_mnist
from flambeau.data.hashing import dataset_hash

INFO = {**fashion_mnist.INFO, "source": "flambeau (in the package)"}


def load(root: Sequence[Path] = ()) -> Dataset:
    """The data set, with splits ``train`` (5,000) and ``test`` (1,000).

    Columns: ``image`` uint8 ``(N, 1, 28, 28)``, ``label`` int64 ``(N,)``.

    Args:
        root: Not used; the files are in the package.

    Example:
        >>> data = load()
        >>> data.info["classes"][int(data.splits["test"]["label"][0])]
        'Ankle boot'
    """
    splits = {
        split: Split(
            {
                "image": embedded.read("fashion-mnist-mini", f"{part}-images-idx3-ubyte").unsqueeze(1),
                "label": embedded.read("fashion-mnist-mini", f"{part}-labels-idx1-ubyte").long(),
            }
        )
        for split, part in (("train", "train"), ("test", "t10k"))
    }
    info = {
        **INFO,
        "notes": ["These are the first 5,000 training and the first 1,000 test pictures of Fashion-MNIST."],
    }
    return Dataset("fashion-mnist-mini", splits, info, dataset_hash(splits))
