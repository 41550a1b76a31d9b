"""Labelled recordings as data: a folder of .wav files, a table of their names, or arrays in memory."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flambeau.columns import Column, Dataset, Split
from flambeau.data.arrays import encode_labels
from flambeau.data.hashing import row_hashes
from flambeau.data.listings import LABELS, listed, read_tables
from flambeau.data.pictures import holds
from flambeau.data.prepare import check_skipped
from flambeau.data.splits import GROUP, SPLIT_FOLDERS, leak_note, leaks, together
from flambeau.data.tables import first_row, is_table
from flambeau.data.waves import ENDINGS, decode, probe, read_sound
from flambeau.errors import BadRows, DataError, FlambeauError

if TYPE_CHECKING:
    from flambeau.recipe import Recipe

FORMS = "a folder of .wav files (class/... or train|val|test/class/...), or a table of their paths and labels"

PATHS = ("path", "file", "filename", "file_name", "filepath", "sound", "audio", "wav")
"""Names by which the column of recordings is known."""

_LISTED = 20


def claims_sounds(path: Path) -> bool:
    """Whether a folder holds .wav files, or a table has a column of paths to sounds."""
    if path.is_dir():
        return holds(path, ENDINGS)
    if not path.is_file() or not is_table(path):
        return False
    cells = {cell.strip().casefold() for cell in first_row(path)}
    return bool(cells & set(PATHS)) and bool(cells & set(LABELS)) and "text" not in cells


def open_sounds(path: Path, recipe: Recipe) -> Dataset:
    """The data set in a folder or a table.

    Raises:
        DataError: It cannot be understood, and why.
        BadRows: Some files are no recordings, and ``data.on_bad`` is ``fail``.
    """
    if path.is_dir():
        return _from_folder(path, recipe.data.follow_links, recipe.data.on_bad)
    if path.is_file() and is_table(path):
        return _from_table(path, recipe)
    raise DataError(
        "This is neither a folder nor a table." if path.exists() else "There is no such folder or file.",
        where=path,
        expected=FORMS,
    )


def _from_folder(root: Path, follow_links: bool, on_bad: Literal["fail", "skip"]) -> Dataset:
    names = _folders(root)
    parts = {name: SPLIT_FOLDERS[name.lower()] for name in names if name.lower() in SPLIT_FOLDERS}
    if parts and len(parts) < len(names):
        raise DataError(
            "Folders of splits and other folders lie side by side, so it is not clear which are the classes.",
            where=root,
            received=f"{', '.join(sorted(parts))} beside {', '.join(sorted(set(names) - set(parts))[:_LISTED])}",
        )
    if parts and sorted(set(parts.values())) != sorted(parts.values()):
        raise DataError("Several folders mean the same split.", where=root, received=", ".join(sorted(parts)))
    homes = {split: root / name for name, split in parts.items()} or {"train": root}
    if "train" not in homes:
        raise DataError("There is no train folder.", where=root, received=", ".join(sorted(parts)))
    found: dict[str, tuple[list[Any], list[Any]]] = {}
    other: Counter[str] = Counter()
    for split, home in homes.items():
        pairs = [
            (path, name) for name in _folders(home) for path in _recordings(home / name, root, follow_links, other)
        ]
        found[split] = ([path for path, _ in pairs], [name for _, name in pairs])
    notes = [f"Left out {count:,} files ending in {ending}." for ending, count in sorted(other.items())]
    return assemble(found, name=root.absolute().name or "sounds", root=root, on_bad=on_bad, notes=notes)


def _folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, those of numbers in the order of the numbers."""
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__"))]
    except OSError as error:
        raise DataError(f"The folder cannot be read: {error.strerror}.", where=folder) from error
    return _ordered(names)


def _ordered(names: Sequence[str]) -> list[str]:
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=(lambda name: (int(name), name)) if numbers else None)


def _recordings(folder: Path, root: Path, follow_links: bool, other: Counter[str]) -> Iterator[Path]:
    """The recordings in a class folder and all folders below it, in the order of their names.

    Raises:
        DataError: A link leads out of the data.
    """
    inside = Path(os.path.realpath(root))
    for here, folders, files in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(files):
            path = Path(here, name)
            if name.startswith("."):
                continue
            if path.suffix.lower() not in ENDINGS:
                other[path.suffix.lower() or "nothing"] += 1
                continue
            if not follow_links and path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
                raise DataError(
                    "The link leads out of the folder.",
                    where=path,
                    received=f"a link to {os.path.realpath(path)}",
                    remedy="Remove it, or allow such links with --set data.follow_links=true.",
                )
            yield path


def _from_table(path: Path, recipe: Recipe) -> Dataset:
    listing = listed(read_tables({"train": path}, ENDINGS), recipe.data, role="path", usual=PATHS, endings=ENDINGS)
    if listing.bad and (recipe.data.on_bad == "fail" or "train" not in listing.rows):
        raise BadRows(dict(enumerate(listing.bad.values())))
    found = {split: ([row.file for row in rows], [row.label for row in rows]) for split, rows in listing.rows.items()}
    groups = {split: [row.group for row in rows] for split, rows in listing.rows.items()}
    return assemble(
        found,
        name=path.stem,
        root=path.parent,
        on_bad=recipe.data.on_bad,
        notes=listing.notes,
        source=path.absolute(),
        groups=groups,
        bad=listing.bad.values(),
    )


def assemble(
    found: Mapping[str, tuple[Sequence[Any], Sequence[Any]]],
    *,
    name: str,
    root: Path | None = None,
    on_bad: Literal["fail", "skip"] = "fail",
    notes: Sequence[str] = (),
    source: object = None,
    rate: int | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    groups: Mapping[str, Sequence[str | None]] | None = None,
    bad: Iterable[FlambeauError] = (),
) -> Dataset:
    """A data set from sounds and labels by split.

    Args:
        found: Sounds (in any form that ``waves.decode`` takes) and their labels.
        name: What the data set is called.
        root: The folder that paths are named from.
        on_bad: Whether a sound that cannot be read is an error or is left out (up to 1 % of them).
        notes: Sentences for the report.
        source: Where it comes from; ``root`` otherwise.
        rate: Of samples that come without one.
        names: What the rows are called, by split.
        groups: What each sound shares with those that are to stay on its side of every split, or None, by split.
        bad: Errors of rows that were left out before.

    Returns:
        Splits of the raw columns ``sound``, ``name``, ``label`` (int64), ``group`` (int64, equal for equal content)
        and, where there are groups, ``together`` (int64).

    Raises:
        DataError: There are fewer than two classes, or labels that the training split does not have.
        BadRows: Sounds cannot be read.
    """
    told = list(notes)
    good, errors = _sifted(found, rate, bad)
    if errors and on_bad == "fail":
        raise BadRows(errors)
    if errors:
        check_skipped(len(errors), len(errors) + sum(map(len, good.values())), next(iter(errors.values())))
        which = ", ".join(str(error.where) for error in list(errors.values())[:_LISTED])
        told.append(f"{len(errors):,} files cannot be read and were left out: {which}.")
    labels = {split: [given[row] for row in good[split]] for split, (_, given) in found.items()}
    texts = all(isinstance(label, str) for label in labels["train"])
    classes, encoded = encode_labels(labels, _ordered(sorted(set(labels["train"]))) if texts else None, told)
    splits = {}
    for split, (sounds, _) in found.items():
        column = [sounds[row] for row in good[split]]
        columns: dict[str, Column] = {"sound": column, "label": encoded[split]}
        if names is not None:
            columns["name"] = [names[split][row] for row in good[split]]
        elif root is not None:
            columns["name"] = [_name(sounds[row], root) for row in good[split]]
        content = columns[GROUP] = _groups(column)
        if groups is not None:
            columns |= together([groups[split][row] for row in good[split]], content.tolist())
        splits[split] = Split(columns)
    duplicates = leaks(splits)
    origin = source or (root.absolute() if root is not None else "arrays in memory")
    info = {
        "classes": classes,
        "source": str(origin),
        "notes": told + ([leak_note(splits, "recordings")] if duplicates else []),
        "duplicates": duplicates,
        "skipped": [str(error.where) for error in errors.values()],
    }
    return Dataset(name, splits, info, _hash(splits))


def _sifted(
    found: Mapping[str, tuple[Sequence[Any], Sequence[Any]]], rate: int | None, bad: Iterable[FlambeauError]
) -> tuple[dict[str, list[int]], dict[int, FlambeauError]]:
    """The rows of each split that can be read, and the errors of the others, after those that are known already."""
    good: dict[str, list[int]] = {}
    errors = list(bad)
    for split, (sounds, _) in found.items():
        looked = _looked_at(sounds, rate)
        errors += [error for error in looked if error is not None]
        good[split] = [row for row, error in enumerate(looked) if error is None]
    return good, dict(enumerate(errors))


def _name(path: Any, root: Path) -> str:
    inside = Path(path).is_relative_to(root)
    return Path(path).relative_to(root).as_posix() if inside else str(path)


def _looked_at(sounds: Sequence[Any], rate: int | None) -> list[DataError | None]:
    """The error of each sound whose header cannot be read, else None."""

    def look(raw: Any) -> DataError | None:
        try:
            probe(raw, rate)
        except DataError as error:
            return error
        return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(look, sounds))


def _groups(column: Sequence[Any]) -> Tensor:
    """A hash of the content of each sound, ``(N,)`` int64; the rate of a pair is left out of it."""
    return row_hashes([raw[0] if isinstance(raw, tuple) else raw for raw in column])


def _hash(splits: Mapping[str, Split]) -> str:
    digest = hashlib.sha256()
    for name in sorted(splits):
        split = splits[name]
        names = split.columns.get("name", [""] * len(split))
        rows = zip(names, split.tensor("label").tolist(), split.tensor(GROUP).tolist(), strict=True)
        for row, label, group in rows:
            digest.update(f"{name}\0{row}\0{label}\0{group}\n".encode())
    return digest.hexdigest()


def sounds_of_python(source: Any, name: str | None, origin: str | None, recipe: Recipe) -> Dataset:
    """The data set that an object stands for: sounds and labels as a pair, or such pairs by split.

    Sounds are a list of paths, of samples, or of (samples, rate); or an array ``(N, n)``. Samples without a rate have
    that of the recipe's ``audio.rate``.

    Raises:
        DataError: It is none of these.
    """
    pairs = source if isinstance(source, Mapping) else {"train": source}
    wrong = [split for split, pair in pairs.items() if not (isinstance(pair, tuple | list) and len(pair) == 2)]
    unknown = sorted(set(pairs) - {"train", "val", "test"})
    if wrong or unknown or "train" not in pairs:
        raise DataError(
            "This cannot serve as data.",
            expected="(sounds, labels), or such pairs as train, val and test",
            received=type(source).__name__ if not isinstance(source, Mapping) else ", ".join(map(str, source)),
        )
    rate = recipe.audio.rate if isinstance(recipe.audio.rate, int) else None
    found = {}
    for split, (sounds, labels) in pairs.items():
        rows = [Path(raw) if isinstance(raw, str) else raw for raw in sounds]
        plain = labels.tolist() if isinstance(labels, np.ndarray | Tensor) else list(labels)
        if len(rows) != len(plain):
            raise DataError(
                "There is not one label for each sound.",
                where=split,
                received=f"{len(plain)} labels for {len(rows)} sounds",
            )
        found[split] = ([_with_rate(raw, rate) for raw in rows], plain)
    return assemble(found, name=name or "sounds", source=origin, rate=rate)


def _with_rate(raw: Any, rate: int | None) -> Any:
    return (raw, rate) if isinstance(raw, np.ndarray | Tensor) and rate is not None else raw


def read_sounds(column: Column, rate: int, length: int) -> Tensor:
    """Sounds in any form that ``waves.decode`` takes, at one rate and of one length: int16 ``(N, length)``.

    Raises:
        BadRows: Naming every sound that cannot be read.
    """

    def one(raw: Any) -> NDArray[np.int16] | DataError:
        try:
            return read_sound(raw, rate, length)
        except DataError as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        made = list(pool.map(one, column))
    bad: dict[int, FlambeauError] = {row: result for row, result in enumerate(made) if isinstance(result, DataError)}
    if bad:
        raise BadRows(bad)
    read = [result for result in made if not isinstance(result, DataError)]
    return torch.from_numpy(np.stack(read)) if read else torch.zeros(0, length, dtype=torch.int16)


def describe(dataset: Dataset) -> dict[str, Any]:
    """A data set of labelled recordings in JSON values.

    Returns:
        ``name``, ``source``, ``hash``, ``classes``, ``rows`` (by split), ``counts`` (by split, then by class),
        ``rates`` (how many recordings have which), ``seconds`` (shortest, median, 95th percentile, longest, and
        ``total``), ``duplicates``, ``notes``, ``licence`` and ``homepage`` if stated.

    Raises:
        BadRows: Some recordings cannot be read; every one is decoded.
    """
    classes = [str(name) for name in dataset.info.get("classes", ())]
    rates: Counter[int] = Counter()
    seconds: list[float] = []
    bad: dict[int, FlambeauError] = {}
    for split in dataset.splits.values():
        for raw in split["sound"]:
            try:
                samples, rate = decode(raw)
            except DataError as error:
                bad[len(seconds) + len(bad)] = error
                continue
            rates[rate] += 1
            seconds.append(len(samples) / rate)
    if bad:
        raise BadRows(bad)
    lengths = np.percentile(seconds, [0, 50, 95, 100]).tolist() if seconds else [0.0] * 4
    shown = dict(zip(("shortest", "median", "percentile95", "longest"), lengths, strict=True))
    counts = {
        name: dict(zip(classes, torch.bincount(split.tensor("label"), minlength=len(classes)).tolist(), strict=True))
        for name, split in dataset.splits.items()
    }
    return {
        "name": dataset.name,
        "source": dataset.info.get("source"),
        "hash": dataset.hash,
        **{key: dataset.info[key] for key in ("licence", "homepage") if key in dataset.info},
        "classes": classes,
        "rows": {name: len(split) for name, split in dataset.splits.items()},
        "counts": counts,
        "rates": {str(rate): count for rate, count in sorted(rates.items())},
        "seconds": {**{name: round(value, 4) for name, value in shown.items()}, "total": round(sum(seconds), 1)},
        "duplicates": list(dataset.info.get("duplicates", ())),
        "notes": list(dataset.info.get("notes", ())),
    }
