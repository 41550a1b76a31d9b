"""``cifar100``: 60,000 colour pictures of a hundred kinds of things, 32x32 (Krizhevsky, "Learning Multiple Layers of
Features from Tiny Images", 2009)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from flambeau.columns import Dataset, Split
from flambeau.data.datasets import cifar10, download, locate
from flambeau.data.hashing import dataset_hash

SUMS = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}

LAYOUT = locate.Layout(
    "cifar100",
    SUMS,
    (
        "cifar-100-python",
        "",
        *(f"{name}{below}" for name in ("cifar100", "cifar-100", "CIFAR100") for below in ("", "/cifar-100-python")),
    ),
    archive="cifar-100-python.tar.gz",
    download=169_001_437,
)

INFO = {key: value for key, value in cifar10.INFO.items() if key in ("licence", "homepage", "mirror")}


def load(root: Sequence[Path] = (), *, url: str | None = None) -> Dataset:
    """The data set by its hundred fine classes, with splits ``train`` (50,000) and ``test`` (10,000).

    Columns: ``image`` uint8 ``(N, 3, 32, 32)``, ``label`` int64 ``(N,)``.

    Args:
        root: Folders to look in before the usual places.
        url: The address of ``cifar-100-python.tar.gz`` to use in place of torchvision's.

    Raises:
        DataError: The files are damaged, or are nowhere and cannot be downloaded.
    """
    return assemble(*locate.obtain(LAYOUT, root, download.cifar("CIFAR100", url=url)))


def assemble(content: dict[str, bytes], source: Path) -> Dataset:
    """The data set from its three files."""
    splits = {name: Split(made) for name, made in columns(content.__getitem__, where=source).items()}
    classes = [str(name) for name in cifar10.unpickle(content["meta"], where=source / "meta")["fine_label_names"]]
    info = {**INFO, "classes": classes, "source": str(source.absolute()), "notes": []}
    return Dataset("cifar100", splits, info, dataset_hash(splits))


def columns(content: Callable[[str], bytes], *, where: Path | None = None) -> dict[str, dict[str, Tensor]]:
    """Pictures uint8 ``(N, 3, 32, 32)`` and fine labels int64 ``(N,)`` of both splits; as :func:`cifar10.columns`."""
    return {
        name: cifar10.joined([cifar10.unpickle(content(name), where=where and where / name)], "fine_labels")
        for name in ("train", "test")
    }
