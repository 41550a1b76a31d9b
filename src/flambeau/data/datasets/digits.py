"""``digits``: 1,797 handwritten digits of 8x8 pixels, in the package; the set that scikit-learn's examples use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flambeau.columns import Dataset, Split
from flambeau.data.datasets import embedded
from flambeau.data.hashing import dataset_hash

INFO = {
    "classes": [str(digit) for digit in range(10)],
    "licence": "CC BY 4.0, E. Alpaydin and C. Kaynak",
    "homepage": "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    "mirror": False,
    "source": "flambeau (in the package)",
}


def load(root: Sequence[Path] = ()) -> Dataset:
    """The data set, with the one split ``train`` (1,797 pictures).

    Columns: ``image`` uint8 ``(N, 1, 8, 8)``, ``label`` int64 ``(N,)``. The values 0 to 16 of the original are scaled
    to 0 to 255.

    Args:
        root: Not used; the files are in the package.

    Example:
        >>> len(load().splits["train"])
        1797
    """
    columns = {
        "image": embedded.read("digits", "images-idx3-ubyte").unsqueeze(1),
        "label": embedded.read("digits", "labels-idx1-ubyte").long(),
    }
    splits = {"train": Split(columns)}
    info = {
        **INFO,
        "notes": ["The original grey values 0 to 16 are scaled to 0 to 255."],
    }
    return Dataset("digits", splits, info, dataset_hash(splits))
