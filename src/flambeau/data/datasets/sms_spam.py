"""``sms-spam``: 5,574 text messages, wanted or not (Almeida, Gómez Hidalgo and Yamakami, "Contributions to the Study of
SMS Spam Filtering", DocEng 2011)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flambeau.columns import Dataset
from flambeau.data.datasets import locate, textfiles

NAME = "SMSSpamCollection"

LAYOUT = locate.Layout(
    "sms-spam",
    {NAME: "1949b64a224790d01335c2bf8a0e48b2"},
    ("sms-spam", "sms_spam", "smsspamcollection", "text-classification", ""),
    download=477_917,
)

URLS = {
    NAME: "https://raw.githubusercontent.com/hamzaaacodes/sms-spam-collection/f3e73e1e74e6330b62d1ee1983bba2a063184c26/"
    + NAME
}

HEADING = b"Label\tSMS\n"
"""The copy that is downloaded has this line more than the published file."""

HEADED_SUMS = {NAME: "018ac4933126a636a22c93ddc172f27d"}

CLASSES = {"ham": "ham", "spam": "spam"}

INFO = {
    "classes": list(CLASSES),
    "licence": "not stated; T. A. Almeida and J. M. Gómez Hidalgo",
    "homepage": "https://archive.ics.uci.edu/dataset/228/sms+spam+collection",
}


def load(
    root: Sequence[Path] = (), *, urls: Mapping[str, str] = URLS, sums: Mapping[str, str] = HEADED_SUMS
) -> Dataset:
    """The data set, all of it in ``train`` (5,574: 4,827 ham, 747 spam): it has no splits of its own.

    Columns: ``text``, a list; ``label``, int64 ``(N,)``. Some 400 messages occur several times.

    Args:
        root: Folders to look in before the usual places.
        urls: Where the file is downloaded from when it is nowhere.
        sums: MD5 of what is there.

    Raises:
        DataError: The file is damaged, or is nowhere and cannot be downloaded.
    """
    fetch = textfiles.fetcher(LAYOUT, urls, sums=sums, repair=lambda raw: raw.removeprefix(HEADING))
    content, source = textfiles.obtain([LAYOUT], root, fetch)
    rows = textfiles.parted(textfiles.lines(content[0], "utf-8"), "\t", source)
    return textfiles.assemble("sms-spam", {"train": rows}, CLASSES, INFO, source)
