"""``cora``: 2,708 papers on machine learning, 5,278 citations between them, 7 subjects; 140 labels to learn from.

The Planetoid split (Yang, Cohen and Salakhutdinov, ICML 2016) as plain arrays in ``cora.npz``. Features are the words
of 1,433 that occur in a paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flambeau.columns import Dataset
from flambeau.data.datasets import locate
from flambeau.data.graphs import read_npz
from flambeau.errors import DataError

INFO = {
    # Planetoid numbers the classes only; these counts of each (351, 217, 418, 818, 426, 298, 180) are those that the
    # data's authors (McCallum et al., 2000; Sen et al., 2008) give for these names.
    "classes": [
        "theory",
        "reinforcement learning",
        "genetic algorithms",
        "neural networks",
        "probabilistic methods",
        "case-based",
        "rule learning",
    ],
    "licence": "not stated for the data; the Planetoid repository is MIT, Copyright (c) 2016 Zhilin Yang",
    "homepage": "https://github.com/kimiyoung/planetoid",
}

FOLDERS = ("planetoid", "Planetoid", "")

LAYOUT = locate.Layout("cora", {"cora.npz": "795e631be9c451b5dd10ed883f27cb04"}, ("cora", "Cora", *FOLDERS))

SHAPE = {"nodes": 2708, "edges": 5278, "features": 1433, "entries": 49_216}


def load(root: Sequence[Path] = ()) -> Dataset:
    """The data set, with splits ``train`` (140 nodes), ``val`` (500) and ``test`` (1,000), and ``graph``.

    Columns: ``node`` int64 ``(N,)``, ``label`` int64 ``(N,)``.

    Args:
        root: Folders to look in before the usual places.

    Raises:
        DataError: ``cora.npz`` is nowhere, is damaged, or holds another graph.
    """
    return found(LAYOUT, INFO, SHAPE, root)


def found(layout: locate.Layout, info: Mapping[str, Any], shape: Mapping[str, int], root: Sequence[Path]) -> Dataset:
    """The graph of this name, from the first folder that has its file.

    The file is judged by what is in it, since a copy that was compressed anew is as good.
    """
    file = next(iter(layout.sums))
    places = locate.roots(root)
    paths = (place / below / file for place in places for below in dict.fromkeys(layout.folders))
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        looked = ", ".join(str(place) for place in places)
        raise DataError(
            f"{layout.name} is not on this machine, and it is not published in a form that is read here: the original "
            "files are pickles, which could run code.",
            where=layout.name,
            expected=f"{file} in one of: {looked} (or in a folder {layout.folders[0]} or planetoid there)",
            remedy=f'Write it once with torch_geometric: `python -c "{conversion(layout.name)}"`; then set '
            f"{locate.VARIABLE} to the folder that it is in. The arrays are described in docs/tasks/"
            "node-classification.md.",
        )
    dataset = read_npz(path, info, name=layout.name)
    about = {key: dataset.info["graph"][key] for key in shape}
    if about != dict(shape) or "test" not in dataset.splits:
        raise DataError(
            f"The file does not hold the graph {layout.name}.",
            where=path,
            expected=", ".join(f"{value:,} {key}" for key, value in shape.items()),
            received=", ".join(f"{value:,} {key}" for key, value in about.items()),
            remedy="Give another graph by its path; under this name only the published one is read.",
        )
    return dataset


def conversion(name: str) -> str:
    """A line of Python that writes the file, for who has torch_geometric and trusts the pickles that it reads."""
    return (
        "import numpy as np; from torch_geometric.datasets import Planetoid; "
        f"g = Planetoid('planetoid', '{name.title()}')[0]; "
        f"np.savez_compressed('{name}.npz', **{{k: v.numpy() for k, v in g.to_dict().items()}})"
    )
