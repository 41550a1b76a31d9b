"""``trec``: 5,952 English questions by what is asked for, in six classes (Li and Roth, "Learning Question
Classifiers", COLING 2002)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flambeau.columns import Dataset
from flambeau.data.datasets import locate, textfiles

LAYOUT = locate.Layout(
    "trec",
    {"TREC.train": "073462e3fcefaae31e00edb1f18d2d02", "TREC.test": "323a3554401d86e650717e2d2f942589"},
    ("trec", "TREC", "text-classification", "sent-conv-torch/data/raw", ""),
    download=359_212,
)

URLS = {name: f"{textfiles.SENT_CONV}raw/{name}" for name in LAYOUT.sums}

CLASSES = {
    "ABBR": "abbreviation",
    "DESC": "description",
    "ENTY": "entity",
    "HUM": "human",
    "LOC": "location",
    "NUM": "number",
}

INFO = {
    "classes": list(CLASSES.values()),
    "licence": "not stated; X. Li and D. Roth",
    "homepage": "https://cogcomp.seas.upenn.edu/Data/QA/QC/",
}


def load(root: Sequence[Path] = (), *, urls: Mapping[str, str] = URLS) -> Dataset:
    """The data set, with splits ``train`` (5,452) and ``test`` (500).

    Columns: ``text``, a list; ``label``, int64 ``(N,)``. The fine classes of the files are left out.

    Args:
        root: Folders to look in before the usual places.
        urls: Where each file is downloaded from when it is nowhere.

    Raises:
        DataError: The files are damaged, or are nowhere and cannot be downloaded.
    """
    content, source = textfiles.obtain([LAYOUT], root, textfiles.fetcher(LAYOUT, urls))
    splits = {}
    for split, raw in zip(("train", "test"), content, strict=True):
        texts, labels = textfiles.parted(textfiles.lines(raw, "latin-1"), " ", source)
        splits[split] = texts, [label.partition(":")[0] for label in labels]
    return textfiles.assemble("trec", splits, CLASSES, INFO, source)
