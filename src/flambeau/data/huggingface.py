"""Data sets of Hugging Face's ``datasets``: by name, from a folder that it saved, and as objects of Python.

Whatever they hold is taken as the Arrow tables that they are, without decoding.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flambeau.data.parquet import from_arrow
from flambeau.data.splits import SPLIT_NAMES
from flambeau.data.tables import Table
from flambeau.errors import DataError, MissingExtra, one_line

PREFIX = "hf:"
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w.-]+)?")
_DICT, _INFO, _STATE = "dataset_dict.json", "dataset_info.json", "state.json"


def is_name(source: Any) -> bool:
    """Whether a source names a data set of the Hub."""
    return isinstance(source, str) and source.startswith(PREFIX)


def is_saved(path: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``."""
    return (path / _DICT).is_file() or ((path / _INFO).is_file() and (path / _STATE).is_file())


def is_object(source: Any) -> bool:
    """Whether an object is a ``datasets.Dataset`` or ``DatasetDict``; nothing is imported to find out."""
    return type(source).__module__.partition(".")[0] == "datasets" and hasattr(source, "with_format")


def kinds_saved(path: Path) -> set[str]:
    """The kinds of features (``Image``, ``Value``, ...) in a saved folder, from its descriptions alone."""
    kinds: set[str] = set()
    for file in [path / _INFO, *path.glob(f"*/{_INFO}")]:
        try:
            features = json.loads(file.read_bytes())["features"]
            kinds |= {str(feature.get("_type")) for feature in features.values()}
        except (OSError, ValueError, KeyError, AttributeError):
            continue
    return kinds


def load_name(source: str) -> Any:
    """The data set of a name ``hf:OWNER/NAME``, or ``hf:OWNER/NAME@CONFIGURATION``, from the Hub or its cache.

    Raises:
        DataError: The name is none, nobody has it, or it cannot be fetched.
        MissingExtra: ``datasets`` is not installed.
    """
    named = source.removeprefix(PREFIX)
    if not _NAME.fullmatch(named):
        expected = "hf:OWNER/NAME[@CONFIGURATION]"
        raise DataError("This is no name of a data set of the Hub.", where=source, expected=expected)
    library = _library()
    name, _, configuration = named.partition("@")
    try:
        return library.load_dataset(name, configuration or None)
    except Exception as error:  # it raises its own errors, those of the Hub, of the network and of Arrow
        raise DataError(
            "The data set could not be loaded from the Hugging Face Hub.",
            where=source,
            received=f"{type(error).__name__}: {one_line(error, 500)}",
            remedy="Check its name at huggingface.co/datasets and the network; sets that were loaded before need none.",
        ) from error


def load_saved(path: Path) -> Any:
    """The data set in a folder that ``save_to_disk`` wrote.

    Raises:
        DataError: The folder is damaged.
        MissingExtra: ``datasets`` is not installed.
    """
    library = _library()
    try:
        return library.load_from_disk(str(path))
    except Exception as error:  # Arrow's errors and those of JSON have no common class
        received = f"{type(error).__name__}: {one_line(error, 500)}"
        raise DataError("The saved data set is damaged.", where=path, received=received) from error


def tables_of(source: Any, name: str, notes: list[str], *, nested: bool = False) -> dict[str, Table]:
    """The tables of an object by split; a single one is the training split, whatever it is called.

    Lists of labels and structs of numbers are in them where nested columns are asked for.

    Raises:
        DataError: Two of its splits mean the same, or none means the training split.
    """
    parts: Mapping[str, Any] = source if isinstance(source, Mapping) else {"train": source}
    named = {title: SPLIT_NAMES.get(str(title).lower()) for title in parts}
    named = dict.fromkeys(parts, "train") if len(parts) == 1 else named
    others = [str(title) for title, split in named.items() if split is None]
    if others:
        notes.append(f"Splits that mean neither train, val nor test are left out: {', '.join(others)}.")
    known = [split for split in named.values() if split is not None]
    if len(set(known)) < len(known) or "train" not in known:
        raise DataError(
            "The splits of the data set are not clear.",
            where=name,
            expected="train, val and test",
            received=", ".join(parts),
        )
    # A name without a folder, for paths in such tables begin at the working folder.
    return {
        split: _table(parts[title], f"{name}-{title}", nested) for title, split in named.items() if split is not None
    }


def _table(part: Any, name: str, nested: bool) -> Table:
    # In this format rows are sliced and taken as they were selected, and nothing is decoded.
    arrow = part.with_format("arrow")[:]
    # Of a list it is what the list is made of that has the names.
    inner = {title: getattr(feature, "feature", feature) for title, feature in part.features.items()}
    classes = {title: list(feature.names) for title, feature in inner.items() if hasattr(feature, "names")}
    return from_arrow(arrow, Path(name), classes, nested=nested)


def _library() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("datasets", "huggingface", "reading data sets of Hugging Face") from error
    return datasets
