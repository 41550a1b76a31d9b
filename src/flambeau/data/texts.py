"""Labelled texts from tables, from folders of text files, and from Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from flambeau.columns import Columns, Dataset, Split
from flambeau.data import huggingface
from flambeau.data.arrays import as_labels, encode_labels
from flambeau.data.hashing import dataset_hash
from flambeau.data.inputs import text_problem
from flambeau.data.prepare import check_skipped
from flambeau.data.splits import SPLIT_NAMES, leak_note, leaks, with_groups
from flambeau.data.tables import (
    CSV,
    JSON,
    PARQUET,
    check_classes,
    choose_column,
    filled,
    first_row,
    is_table,
    read_table,
    read_text,
)
from flambeau.errors import BadRows, DataError, FlambeauError

if TYPE_CHECKING:
    from flambeau.recipe import Data

TEXT_NAMES = (
    "text", "sentence", "review", "message", "content", "comment", "tweet", "question", "document", "body", "sms",
    "post", "utterance", "headline", "description", "title",
)  # fmt: skip
LABEL_NAMES = ("label", "class", "category", "sentiment", "target", "y", "intent", "topic", "labels", "emotion", "tag")
"""What columns are usually called, the likeliest first."""

FORMS = (
    "a table (.csv, .tsv, .jsonl, .parquet) with a text and a label in each row, or a folder of .txt files (class/...)"
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts with their labels, and what each is called."""

    texts: Sequence[str]
    labels: Sequence[Any]
    names: Sequence[str]


def looks_like_texts(path: Path) -> bool:
    """Whether a file is a table with a column for texts or labels, or a folder has text files in class folders."""
    if path.is_dir() and huggingface.is_saved(path):
        return "Image" not in huggingface.kinds_saved(path)
    if path.is_dir():
        parts = _split_files(path)
        if parts:
            return _has_known_column(parts["train"])
        inner = next((folder for folder in _folders(path) if SPLIT_NAMES.get(folder.name.lower()) == "train"), path)
        filled_folders = [folder for folder in _folders(inner) if next(folder.glob("*.txt"), None) is not None]
        return len(filled_folders) > 1
    return is_table(path) and _has_known_column(path)


def _has_known_column(path: Path) -> bool:
    return bool({name.strip().casefold() for name in first_row(path)} & {*TEXT_NAMES, *LABEL_NAMES})


def open_texts(path: Path, data: Data) -> Dataset:
    """The data set in a table, in a folder with tables ``train.csv`` and so on, or in a folder of text files.

    Args:
        path: The file or folder. A folder has a folder for each class, or ``train``, ``val`` and ``test`` folders that
            do; or a table for each split.
        data: ``columns`` may name the columns ``text`` and ``label``; ``on_bad``, ``follow_links``.

    Returns:
        Splits of the raw columns ``text`` (a list), ``label`` (int64) and ``name`` (where the row comes from).

    Raises:
        DataError: The data cannot be understood, and why.
        BadRows: Some rows cannot be used, and ``on_bad`` is ``fail``.

    Example:
        >>> open_texts(Path("reviews.csv"), Data()).info["classes"]  # doctest: +SKIP
        ['neg', 'pos']
    """
    bad: dict[str, FlambeauError] = {}
    if path.is_dir():
        tables = _split_files(path)
        rows = (
            {split: _from_table(file, data, bad) for split, file in tables.items()}
            if tables
            else _from_folders(path, data, bad)
        )
    else:
        rows = {"train": _from_table(path, data, bad)}
    if bad and data.on_bad == "fail":
        raise BadRows(dict(enumerate(bad.values())))
    notes = []
    if bad:
        check_skipped(len(bad), len(bad) + sum(len(part.texts) for part in rows.values()), next(iter(bad.values())))
        notes.append(f"{len(bad):,} rows cannot be used and were left out: {', '.join(list(bad)[:20])}.")
    name = path.absolute().name.removesuffix(".gz").partition(".")[0] or "texts"
    made = assemble(rows, name=name, source=str(path.absolute()), notes=notes)
    return Dataset(made.name, made.splits, {**made.info, "skipped": list(bad)}, made.hash) if bad else made


def from_python(source: Any, name: str | None = None, origin: str | None = None) -> Dataset:
    """The data set in ``(texts, labels)``, in such pairs by split, or in a sequence of pairs of a text and its label.

    Labels are texts or whole numbers.

    Raises:
        DataError: It has another form, or rows cannot be used.

    Example:
        >>> data = from_python((["good", "bad", "fine"], ["pos", "neg", "pos"]))
        >>> data.info["classes"], data.splits["train"]["label"].tolist()
        (['neg', 'pos'], [1, 0, 1])
    """
    if isinstance(source, Dataset):
        return source
    if huggingface.is_object(source):
        return _from_huggingface(source, name or "texts", origin or "a data set in memory")
    splits = source if isinstance(source, Mapping) else {"train": source}
    unknown = sorted(str(split) for split in set(splits) - {"train", "val", "test"})
    if unknown or "train" not in splits:
        raise DataError(
            "These are not the names of splits.", expected="train, and if you like val and test", received=list(splits)
        )
    rows = {split: _from_pair(part, split) for split, part in splits.items()}
    return assemble(rows, name=name or "texts", source=origin or "objects in memory")


def _from_huggingface(source: Any, name: str, origin: str) -> Dataset:
    notes: list[str] = []
    rows = {}
    for split, table in huggingface.tables_of(source, name, notes).items():
        text, label = choose_column(table, "text", None, TEXT_NAMES), choose_column(table, "label", None, LABEL_NAMES)
        names = [f"{table.path}:{line}" for line in table.lines]
        rows[split] = Rows(table.columns[text], table.columns[label], names)
    return assemble(rows, name=name, source=origin, notes=notes)


def _from_pair(part: Any, split: str) -> Rows:
    if isinstance(part, str) or not hasattr(part, "__iter__"):
        raise DataError(
            "This cannot serve as labelled texts.",
            where=split,
            expected="(texts, labels), such pairs by split, or pairs of a text and its label",
            received=type(part).__name__,
        )
    if not (isinstance(part, tuple) and len(part) == 2 and not isinstance(part[0], str)):
        pairs = list(part)
        wrong = next((row for row, pair in enumerate(pairs) if isinstance(pair, str) or len(pair) != 2), None)
        if wrong is not None:
            raise DataError("The row is not a pair of a text and its label.", where=f"{split} row {wrong}")
        part = ([text for text, _ in pairs], [label for _, label in pairs])
    texts, labels = list(part[0]), part[1]
    labels = labels.tolist() if isinstance(labels, np.ndarray | Tensor) else list(labels)
    if len(texts) != len(labels):
        raise DataError(
            "There is not one label for each text.",
            where=split,
            expected=f"{len(texts)} labels for {len(texts)} texts",
            received=f"{len(labels)} labels",
        )
    return Rows([str(text) if isinstance(text, np.str_) else text for text in texts], labels, [])


def describe(dataset: Dataset) -> dict[str, Any]:
    """A data set of labelled texts in JSON values.

    Returns:
        ``name``, ``source``, ``hash``, ``classes``, ``counts`` (by split, then by class), ``rows`` (by split),
        ``words`` (parted by spaces: ``least``, ``median``, ``most`` of a text, ``different`` of the training split),
        ``notes``, ``duplicates``, ``licence`` and ``homepage`` if stated.
    """
    classes = [str(name) for name in dataset.info["classes"]]
    notes, duplicates = list(dataset.info.get("notes", ())), dataset.info.get("duplicates")
    if duplicates is None:
        grouped = {name: with_groups(split) for name, split in dataset.splits.items()}
        duplicates = leaks(grouped)
        notes += [leak_note(grouped, "texts")] if duplicates else []
    words = [len(text.split()) for split in dataset.splits.values() for text in texts_of(split.columns)]
    counts = {
        name: torch.bincount(split.tensor("label"), minlength=len(classes)) for name, split in dataset.splits.items()
    }
    return {
        "name": dataset.name,
        "source": dataset.info.get("source"),
        "hash": dataset.hash,
        **{key: dataset.info[key] for key in ("licence", "homepage") if key in dataset.info},
        "classes": classes,
        "rows": {name: len(split) for name, split in dataset.splits.items()},
        "counts": {name: dict(zip(classes, found.tolist(), strict=True)) for name, found in counts.items()},
        "words": {
            "least": min(words, default=0),
            "median": int(np.median(words)) if words else 0,
            "most": max(words, default=0),
            "different": len({word for text in texts_of(dataset.splits["train"].columns) for word in text.split()}),
        },
        "duplicates": duplicates,
        "notes": notes,
    }


def texts_of(columns: Columns) -> list[str]:
    """The column of texts.

    Raises:
        DataError: It is no list.
    """
    column = columns["text"]
    if not isinstance(column, list):
        raise DataError("The texts must be a list of str.", where="text", received=type(column).__name__)
    return column


def assemble(rows: Mapping[str, Rows], *, name: str, source: str, notes: Iterable[str] = ()) -> Dataset:
    """A data set from texts and labels by split; labels that are all whole numbers are ordered as such.

    Raises:
        BadRows: Texts are not texts, empty or much too long.
        DataError: There are too few classes, so many that the labels must be something else, or unknown ones.
    """
    told = list(notes)
    for split, part in rows.items():
        _check_texts(part, split)
    labels = as_labels({split: part.labels for split, part in rows.items()})
    check_classes(labels["train"])
    classes, encoded = encode_labels(labels, None, told)
    splits = {}
    for split, part in rows.items():
        columns: dict[str, Any] = {"text": list(part.texts), "label": encoded[split]}
        splits[split] = Split({**columns, "name": list(part.names)} if part.names else columns)
    info = {"classes": classes, "source": source, "notes": told}
    return Dataset(name, splits, info, dataset_hash({name: split.without("name") for name, split in splits.items()}))


def _check_texts(part: Rows, split: str) -> None:
    bad: dict[int, FlambeauError] = {}
    for row, text in enumerate(part.texts):
        problem = text_problem(text)
        if problem:
            where = part.names[row] if part.names else f"{split} row {row}"
            bad[row] = DataError(problem, where=where, received=None if isinstance(text, str) else repr(text)[:80])
    if bad:
        raise BadRows(bad)


def _from_table(path: Path, data: Data, bad: dict[str, FlambeauError]) -> Rows:
    if not is_table(path):
        raise DataError("This is not a file of labelled texts.", where=path, expected=FORMS)
    known = [*TEXT_NAMES, *LABEL_NAMES, *(name for name in data.columns.values() if not name.isdigit())]
    table = read_table(path, known=known)
    columns = {
        role: choose_column(table, role, data.columns.get(role), usual)
        for role, usual in (("text", TEXT_NAMES), ("label", LABEL_NAMES))
    }
    table = filled(table, columns, "skip")
    bad |= {str(error.where): error for _, error in sorted(table.bad.items())}
    names = [f"{path.name}:{line}" for line in table.lines]
    return Rows(table.columns["text"], table.columns["label"], names)


def _from_folders(root: Path, data: Data, bad: dict[str, FlambeauError]) -> dict[str, Rows]:
    splits = {
        SPLIT_NAMES[folder.name.lower()]: folder for folder in _folders(root) if folder.name.lower() in SPLIT_NAMES
    }
    if splits and "train" not in splits:
        raise DataError("The folder has no training split.", where=root, expected="train", received=", ".join(splits))
    rows = {split: _class_folders(folder, root, data, bad) for split, folder in (splits or {"train": root}).items()}
    classes = sorted(set(rows["train"].labels))
    for split, part in rows.items():
        strange = sorted(set(part.labels) ^ set(classes))
        if strange:
            raise DataError(
                f"The splits train and {split} do not have the same classes: {', '.join(strange[:10])}.",
                where=root,
                remedy="Move folders that are no classes elsewhere, and give each class a folder in every split.",
            )
    return rows


def _class_folders(folder: Path, root: Path, data: Data, bad: dict[str, FlambeauError]) -> Rows:
    texts, labels, names = [], [], []
    for inner in _folders(folder):
        for path in sorted(inner.rglob("*.txt")):
            if path.name.startswith(".") or (not data.follow_links and path.is_symlink()):
                continue
            name = path.relative_to(root).as_posix()
            try:
                text = read_text(path)
                problem = text_problem(text)
                if problem:
                    raise DataError(problem, where=path)
            except DataError as error:
                bad[name] = error
                continue
            texts.append(text)
            labels.append(inner.name)
            names.append(name)
    if not texts and not bad:
        raise DataError("There are no text files in class folders here.", where=folder, expected=FORMS)
    return Rows(texts, labels, names)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _split_files(root: Path) -> dict[str, Path]:
    """The tables of a folder that are called as splits are, when there is one for training."""
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        stem = path.name.lower().partition(".")[0]
        if path.is_file() and is_table(path) and stem in SPLIT_NAMES:
            if SPLIT_NAMES[stem] in found:
                raise DataError(
                    f"Two tables are for the same split: {found[SPLIT_NAMES[stem]].name} and {path.name}.",
                    where=root,
                    expected=f"one of {', '.join((*CSV, *JSON, PARQUET))} for each split",
                )
            found[SPLIT_NAMES[stem]] = path
    return found if "train" in found else {}
