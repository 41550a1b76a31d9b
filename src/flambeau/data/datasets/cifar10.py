"""``cifar10``: 60,000 colour pictures of ten kinds of things, 32x32 (Krizhevsky, "Learning Multiple Layers of Features
from Tiny Images", 2009)."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flambeau.columns import Dataset, Split
from flambeau.data.datasets import download, locate
from flambeau.data.hashing import dataset_hash
from flambeau.errors import DataError

SUMS = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}

LAYOUT = locate.Layout(
    "cifar10",
    SUMS,
    (
        "cifar-10-batches-py",
        "",
        *(f"{name}{below}" for name in ("cifar10", "cifar-10", "CIFAR10") for below in ("", "/cifar-10-batches-py")),
    ),
    archive="cifar-10-python.tar.gz",
    download=170_498_071,
)

INFO = {
    "classes": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "short_classes": ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "licence": "not stated; A. Krizhevsky, V. Nair and G. Hinton",
    "homepage": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "mirror": True,
}


def load(root: Sequence[Path] = (), *, url: str | None = None) -> Dataset:
    """The data set, with splits ``train`` (50,000) and ``test`` (10,000).

    Columns: ``image`` uint8 ``(N, 3, 32, 32)``, ``label`` int64 ``(N,)``.

    Args:
        root: Folders to look in before the usual places.
        url: The address of ``cifar-10-python.tar.gz`` to use in place of torchvision's.

    Raises:
        DataError: The files are damaged, or are nowhere and cannot be downloaded.
    """
    content, source = locate.obtain(LAYOUT, root, download.cifar("CIFAR10", url=url))
    splits = {name: Split(made) for name, made in columns(content.__getitem__, where=source).items()}
    return Dataset("cifar10", splits, {**INFO, "source": str(source.absolute()), "notes": []}, dataset_hash(splits))


def columns(content: Callable[[str], bytes], *, where: Path | None = None) -> dict[str, dict[str, Tensor]]:
    """Pictures uint8 ``(N, 3, 32, 32)`` and labels int64 ``(N,)`` of both splits, from the six files.

    Args:
        content: Gives the content of a file by its name.
        where: The folder, for errors.
    """
    made = {}
    for split, names in (("train", [f"data_batch_{number}" for number in range(1, 6)]), ("test", ["test_batch"])):
        made[split] = joined([unpickle(content(name), where=where and where / name) for name in names], "labels")
    return made


def joined(batches: Sequence[Mapping[str, Any]], key: str) -> dict[str, Tensor]:
    """The rows of several unpickled batches, with the labels that they have under a key."""
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = [label for batch in batches for label in batch[key]]
    return {"image": torch.from_numpy(images), "label": torch.tensor(labels, dtype=torch.int64)}


def unpickle(content: bytes, *, where: object = None) -> Any:
    """What a pickled CIFAR batch holds; nothing but dictionaries, lists, text, numbers and NumPy arrays is made.

    Raises:
        DataError: The pickle asks for anything else, or is damaged.
    """
    try:
        return restored(content)
    except DataError as error:
        error.where = None if where is None else str(where)
        raise
    except Exception as error:
        raise DataError(
            "The pickled batch is damaged.", where=where, received=error, remedy="Fetch it again."
        ) from error


def restored(content: bytes) -> Any:
    """What a pickled batch holds, by an unpickler that makes nothing but data."""
    return _Restricted(io.BytesIO(content), encoding="latin1").load()


class _Restricted(pickle.Unpickler):
    """Makes nothing but data: what a batch is made of besides texts and numbers, and nothing else, has a name here."""

    def find_class(self, module: str, name: str) -> Any:
        # What NumPy makes an array with moved between its modules; an array says itself what it is.
        allowed = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.empty(0).__reduce__()[0]}
        if name not in allowed or module.partition(".")[0] != "numpy":
            raise DataError(
                f"The pickled batch asks for {module}.{name}, which a picture set has no use for; it was not loaded.",
                expected="NumPy arrays, lists, dictionaries, text and numbers",
                remedy="Fetch the file again from its publisher.",
            )
        return allowed[name]
