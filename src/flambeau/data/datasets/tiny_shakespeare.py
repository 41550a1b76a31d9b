"""``tiny-shakespeare``: 40,000 lines of Shakespeare's plays in one file (Karpathy, ``char-rnn``, 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flambeau.columns import Dataset, Split
from flambeau.data.datasets import locate
from flambeau.data.hashing import dataset_hash
from flambeau.data.plain import decoded

URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/"
    "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt"
)
NAME = "input.txt"

LAYOUT = locate.Layout(
    "tiny-shakespeare",
    {NAME: "6fb458f1232090904fb40fe944165e91"},
    ("tiny-shakespeare", "tinyshakespeare", "tiny_shakespeare", "shakespeare", "shakespeare_char", ""),
    download=1_115_394,
)

INFO = {
    "licence": "public domain (the text); MIT (the repository it comes from)",
    "homepage": "https://github.com/karpathy/char-rnn",
}


def load(root: Sequence[Path] = (), *, url: str | None = None) -> Dataset:
    """The text as one document of 1,115,394 characters, all of it in the split ``train``: it comes without parts.

    Column: ``text``, a list of one ``str``.

    Args:
        root: Folders to look in before the usual places.
        url: The address of ``input.txt`` to use in place of the publisher's.

    Raises:
        DataError: The file is damaged, or is nowhere and cannot be downloaded.
    """

    def fetch(folder: Path) -> None:
        from torchvision.datasets.utils import download_url

        download_url(url or URL, folder / LAYOUT.folders[0], NAME, LAYOUT.sums[NAME])

    content, source = locate.obtain(LAYOUT, root, fetch)
    splits = {"train": Split({"text": [decoded(content[NAME], source / NAME)]})}
    info = {**INFO, "source": str(source.absolute()), "notes": []}
    return Dataset(LAYOUT.name, splits, info, dataset_hash(splits))
