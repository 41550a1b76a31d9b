"""``citeseer``: 3,327 papers on computer science, 4,552 citations between them, 6 subjects; 120 labels to learn from.

The Planetoid split (Yang, Cohen and Salakhutdinov, ICML 2016) as plain arrays in ``citeseer.npz``. Features are the
words of 3,703 that occur in a paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flambeau.columns import Dataset
from flambeau.data.datasets import cora, locate

INFO = {
    # Planetoid numbers the classes only; these counts of each (264 with 15 papers that have no label, 590, 668, 701,
    # 596, 508) are those that the data's authors (Giles et al., 1998; Sen et al., 2008) give for these names.
    "classes": [
        "artificial intelligence",
        "machine learning",
        "information retrieval",
        "databases",
        "agents",
        "human-computer interaction",
    ],
    "licence": "not stated for the data; the Planetoid repository is MIT, Copyright (c) 2016 Zhilin Yang",
    "homepage": "https://github.com/kimiyoung/planetoid",
}

LAYOUT = locate.Layout(
    "citeseer", {"citeseer.npz": "c6c576d9526d80eecf5708cfa675c1a3"}, ("citeseer", "Citeseer", *cora.FOLDERS)
)

SHAPE = {"nodes": 3327, "edges": 4552, "features": 3703, "entries": 105_165}


def load(root: Sequence[Path] = ()) -> Dataset:
    """The data set, with splits ``train`` (120 nodes), ``val`` (500) and ``test`` (1,000), and ``graph``.

    Columns: ``node`` int64 ``(N,)``, ``label`` int64 ``(N,)``.

    Args:
        root: Folders to look in before the usual places.

    Raises:
        DataError: ``citeseer.npz`` is nowhere, is damaged, or holds another graph.
    """
    return cora.found(LAYOUT, INFO, SHAPE, root)
