"""``multi30k``: 31,014 captions of photographs, English and German (Elliott et al., "Multi30K: Multilingual
English-German Image Descriptions", 2016)."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

from flambeau.columns import Dataset, Split
from flambeau.data.datasets import locate, textfiles
from flambeau.data.hashing import dataset_hash

LAYOUT = locate.Layout(
    "multi30k",
    {
        "train.en": "053a34ece7c904dbc8c7361799afbe4c",
        "train.de": "d3b4bc1671cfb805267f97f16884beba",
        "val.en": "2234730e7925354b766681b029b347ec",
        "val.de": "9f139b15d9d11936dea7af2904e57d8c",
        "test_2016_flickr.en": "2022a6c31e2418047a0511333d55ed42",
        "test_2016_flickr.de": "cde61d7401b116652ee84099c7858ca3",
    },
    ("multi30k", "multi30k-en-de", "Multi30k", "multi30k-dataset/data/task1/raw", "data/task1/raw", ""),
    download=1_296_321,
)

PACKED = {
    "train.en": "0065d13af80720a55ca8153d126e6627",
    "train.de": "81ff90b99829c0cd4b1b587d394afd39",
    "val.en": "2b69aa9253948ac9f67e94917272dd40",
    "val.de": "6e0e229eb049e3fc99a1ef02fb2d5f91",
    "test_2016_flickr.en": "ff2c0fcb4893a13bd73414306bc250ae",
    "test_2016_flickr.de": "efd67d314d98489b716b145475101932",
}
"""MD5 of the files as they are downloaded."""

URLS = {
    name: "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
    f"{name}.gz"
    for name in LAYOUT.sums
}

INFO = {
    "languages": ["en", "de"],
    "licence": "not stated; non-commercial research and education (D. Elliott et al., from Flickr30K)",
    "homepage": "https://github.com/multi30k/dataset",
}

SPLITS = {"train": "train", "val": "val", "test": "test_2016_flickr"}


def load(root: Sequence[Path] = (), *, urls: Mapping[str, str] = URLS) -> Dataset:
    """The data set, with splits ``train`` (29,000), ``val`` (1,014) and ``test`` (1,000; test_2016_flickr).

    Columns: ``source`` (English) and ``target`` (German), lists of texts.

    Args:
        root: Folders to look in before the usual places.
        urls: Where each file, packed by gzip, is downloaded from when it is nowhere.

    Raises:
        DataError: The files are damaged, or are nowhere and cannot be downloaded.
    """
    fetch = textfiles.fetcher(LAYOUT, urls, sums=PACKED, repair=gzip.decompress)
    content, source = locate.obtain(LAYOUT, root, fetch)
    splits = {
        split: Split(
            {
                "source": textfiles.lines(content[f"{stem}.en"], "utf-8"),
                "target": textfiles.lines(content[f"{stem}.de"], "utf-8"),
            }
        )
        for split, stem in SPLITS.items()
    }
    info = {**INFO, "source": str(source.absolute()), "notes": [], "reversed": False}
    return Dataset("multi30k", splits, info, dataset_hash(splits))
