"""Running text: a file, a folder of files, or texts of Python; one row a document, cut into parts where the text runs.

A test part that is drawn sentence by sentence would sit between sentences that were trained on. So the parts are
stretches: the last tenth (``data.test``) of all text is for the test, and ten stretches spread over the rest are for
validation. A single one would have the words of one chapter or play, which training would then never see.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flambeau.columns import Dataset, Split
from flambeau.data.hashing import dataset_hash
from flambeau.data.plain import EXTENSIONS, decoded
from flambeau.errors import BadRows, DataError, FlambeauError

if TYPE_CHECKING:
    from flambeau.recipe import Data

FORMS = "a text file, or a folder of text files (.txt, .md, .rst)"

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
"""Parts of a file's name, or folders, that say which split it belongs to."""

VALIDATION = 0.05
MOST_VALIDATION = 500_000
"""An automatic validation part has a twentieth of the training text, and no more than so many characters."""

STRETCHES = 10
"""Validation text is cut out in so many places..."""

SHORTEST = 2_000
"""...or in fewer, so that a stretch has at least so many characters."""

LINE = 400
"""A stretch begins and ends with a line, where a line ends within so many characters."""

_ABOUT = {"readme", "license", "licence", "notice", "copying", "changelog", "authors"}
_SHOWN = 10


def claims(path: Path) -> bool:
    """Whether a path looks like running text: a text file, or a folder with text files directly in it.

    Files that go with data of any kind, such as ``README.md``, say nothing.
    """
    if path.is_file():
        return path.suffix.lower() in EXTENSIONS
    return path.is_dir() and any(
        _is_text(entry) and entry.stem.lower() not in _ABOUT for entry in path.iterdir() if entry.is_file()
    )


def open_corpus(path: Path, data: Data) -> Dataset:
    """The text in a file or folder.

    A folder may say which file is for what: by folders ``train``, ``val`` and ``test``, or by names such as
    ``wiki.train.tokens`` or ``valid.txt``. Otherwise all its files, in the order of their paths, are training text,
    for :func:`divide` to cut.

    Args:
        path: Text in UTF-8 (or UTF-16 with a byte order mark); line ends of any kind are read as a line feed.
        data: ``on_bad`` says whether a file that cannot be read is an error, ``follow_links`` whether links are read.

    Returns:
        Splits of one raw column, ``text``, a document a row.

    Raises:
        DataError: There is no text.
        BadRows: Files cannot be read.
    """
    notes: list[str] = []
    files = [path] if path.is_file() else _files(path, data.follow_links, notes)
    named = {file: _part(file, path) for file in files} if path.is_dir() else {}
    parts = set(named.values())
    divided = "train" in parts and bool(parts & {"val", "test"})
    if divided:
        left_out = [file for file, part in named.items() if part is None]
        if left_out:
            notes.append(f"Belonging to no part and left out: {_listed(left_out, path)}.")
        files = [file for file in files if named[file] is not None]
    texts = _read(files, path, data, notes)
    splits: dict[str, list[str]] = {}
    for file, text in texts.items():
        splits.setdefault((named[file] or "train") if divided else "train", []).append(text)
    if not splits.get("train"):
        raise DataError("There is no text in it.", where=path, expected=FORMS)
    title = path.stem if path.is_file() else path.absolute().name
    return _dataset(title or "text", splits, str(path.absolute()), notes)


def of_python(value: Any, name: str | None, origin: str | None) -> Dataset:
    """The same from Python: a text, a list of texts (documents), or a dictionary of these by split.

    Raises:
        DataError: It is something else, or empty.
    """
    parts = value if isinstance(value, Mapping) else {"train": value}
    splits: dict[str, list[str]] = {}
    for part, given in parts.items():
        texts = [given] if isinstance(given, str) else given
        if part not in ("train", "val", "test") or not isinstance(texts, Sequence):
            raise _unsuitable(part, given)
        wrong = [text for text in texts if not isinstance(text, str)]
        if wrong:
            raise _unsuitable(part, wrong[0])
        splits[part] = [text for text in texts if text]
    if not splits.get("train"):
        raise DataError("There is no training text.", where=name or origin, expected="texts that are not all empty")
    return _dataset(name or "text", splits, origin or "Python", [])


def divide(dataset: Dataset, data: Data) -> Dataset:
    """The text with its ``test`` and ``val`` parts, cut off the end of the training text where it has none.

    Over several documents the parts are stretches of all text in its order, so a document can lie in two of them.

    Args:
        dataset: At least a ``train`` split with the column ``text``.
        data: ``test`` (a fraction of the characters) and ``validation``.

    Returns:
        ``info`` has notes that say what was done, and ``validation``, as every divided data set.

    Raises:
        DataError: The text is too short to be cut, or the recipe's wish does not suit it.
    """
    splits = {name: _texts(split) for name, split in dataset.splits.items()}
    notes = list(dataset.info.get("notes", ()))
    if "test" not in splits:
        splits["train"], splits["test"] = cut(splits["train"], data.test, dataset.name)
        notes.append(
            f"The text has no test part: its last {data.test:.0%} ({_count(splits['test']):,} characters) is used."
        )
    origin = _validate(splits, data, dataset, notes)
    made = {name: Split({"text": texts}) for name, texts in splits.items()}
    if data.validation == "test":
        made["val"] = made["test"]
    info = {**dataset.info, "notes": notes, "validation": origin, "duplicates": []}
    return Dataset(dataset.name, made, info, dataset.hash)


def _validate(splits: dict[str, list[str]], data: Data, dataset: Dataset, notes: list[str]) -> str:
    """Makes or drops the validation part, and says where it comes from."""
    own = splits.get("val")
    wish = data.validation
    if wish in ("none", "test"):
        splits.pop("val", None)
        unused = "" if own is None else " The validation part that the text comes with is not used."
        if wish == "none":
            notes.append("There is no validation part, as the recipe asks: the last state is kept." + unused)
        else:
            notes.append("The test part serves for validation too, as the recipe asks: its scores flatter." + unused)
        return wish
    if own is not None:
        if wish != "auto":
            raise DataError(
                "The text has a validation part of its own, and the recipe asks for another.",
                where=dataset.name,
                received=f"data.validation = {wish}",
                remedy="Leave data.validation at auto to use the text's own.",
            )
        notes.append(f"Validation uses the part that the text comes with for it ({_count(own):,} characters).")
        return "source"
    length = _count(splits["train"])
    fraction = min(VALIDATION, MOST_VALIDATION / max(1, length)) if wish == "auto" else float(wish)
    splits["train"], splits["val"] = cut_out(splits["train"], fraction, dataset.name)
    notes.append(
        f"Validation uses {_count(splits['val']):,} characters in stretches spread over the text before that; "
        f"{_count(splits['train']):,} are left for training."
    )
    return "train"


def cut(texts: Sequence[str], fraction: float, name: str = "text") -> tuple[list[str], list[str]]:
    """Documents in two stretches, of which the second has this fraction of all characters.

    Raises:
        DataError: One of the two would be empty.

    Example:
        >>> cut(["abcd", "efghij"], 0.4)
        (['abcd', 'ef'], ['ghij'])
    """
    total = _count(texts)
    place = int(total * (1 - fraction))
    if not 0 < place < total:
        raise _too_short(total, fraction, name)
    return _in_turn(texts, [place])


def cut_out(texts: Sequence[str], fraction: float, name: str = "text") -> tuple[list[str], list[str]]:
    """Documents without stretches that lie evenly in them, and these stretches: this fraction of all characters.

    What is left of a document stays one document, and so do the stretches that are taken out of it.

    Raises:
        DataError: One of the two would be empty.

    Example:
        >>> cut_out(["one\\ntwo\\nthree\\n", "four\\n"], 0.3)
        (['one\\nthree\\n', 'four\\n'], ['two\\n'])
    """
    total = _count(texts)
    count = min(STRETCHES, max(1, int(total * fraction) // SHORTEST))
    step, half = total / count, total * fraction / count / 2
    # Stretches begin and end at these places in turn.
    edges = [int(step * (number + 0.5) + side * half) for number in range(count) for side in (-1, 1)]
    rest, stretches = _in_turn(texts, edges, _line_end)
    if not (rest and stretches):
        raise _too_short(total, fraction, name)
    return rest, stretches


def _in_turn(
    texts: Sequence[str], edges: Sequence[int], moved: Callable[[str, int], int] = lambda text, place: place
) -> tuple[list[str], list[str]]:
    """Documents cut at places of all text, what lies between two going to the first list and to the second in turn.

    Args:
        texts: What a document gives to a list is one document there.
        edges: Characters from the beginning of all text, rising.
        moved: Where a document is cut instead, from its text and the place in it.
    """
    lists: tuple[list[str], list[str]] = ([], [])
    start = 0
    for text in texts:
        within = [0, *(moved(text, edge - start) for edge in edges if 0 < edge - start < len(text)), len(text)]
        parts = [text[first:last] for first, last in pairwise(within)]
        inside = sum(edge <= start for edge in edges) % 2
        for number, documents in enumerate(lists):
            if document := "".join(parts[(inside + number) % 2 :: 2]):
                documents.append(document)
        start += len(text)
    return lists


def _line_end(text: str, place: int) -> int:
    """The end of the line that a place is in, where it is near."""
    found = text.find("\n", place, place + LINE)
    return place if found < 0 else found + 1


def _too_short(total: int, fraction: float, name: str) -> DataError:
    return DataError(
        f"The text of {total:,} characters is too short to have a part of {fraction:.1%} set aside.",
        where=name,
        remedy="Give more text, or separate files train.txt, valid.txt and test.txt.",
    )


def describe(dataset: Dataset) -> dict[str, Any]:
    """A text in JSON values: documents and characters by split, and how many different characters there are."""
    texts = {name: _texts(split) for name, split in dataset.splits.items()}
    alphabet: set[str] = set()
    for part in texts.values():
        for text in part:
            alphabet.update(text)
    return {
        "name": dataset.name,
        "rows": {name: len(part) for name, part in texts.items()},
        "characters": {name: _count(part) for name, part in texts.items()},
        "alphabet": len(alphabet),
        "source": dataset.info.get("source"),
        "licence": dataset.info.get("licence"),
        "notes": list(dataset.info.get("notes", ())),
        "hash": dataset.hash,
    }


def _files(root: Path, follow_links: bool, notes: list[str]) -> list[Path]:
    """The text files below a folder in the order of their paths; hidden ones and other files are left out."""
    found: list[Path] = []
    other = links = 0
    visited: set[tuple[int, int]] = set()
    for folder, inner, names in os.walk(root, followlinks=follow_links):
        state = Path(folder).stat()
        if (state.st_dev, state.st_ino) in visited:
            inner.clear()
            continue
        visited.add((state.st_dev, state.st_ino))
        inner[:] = [name for name in inner if not name.startswith(".")]
        for file in (Path(folder, name) for name in names if not name.startswith(".")):
            linked = file.is_symlink() and not follow_links
            links += linked
            other += not linked and not _is_text(file)
            if not linked and _is_text(file):
                found.append(file)
    if other:
        notes.append(f"{other:,} files that are not named as text ({', '.join(EXTENSIONS)}) were left out.")
    if links:
        notes.append(f"{links:,} links were not followed; data.follow_links = true reads them.")
    if not found:
        raise DataError("There is no text file in the folder.", where=root, expected=FORMS, received=f"{other} others")
    return sorted(found, key=lambda file: file.relative_to(root).parts)


def _read(files: Sequence[Path], root: Path, data: Data, notes: list[str]) -> dict[Path, str]:
    texts: dict[Path, str] = {}
    bad: dict[int, FlambeauError] = {}
    for number, file in enumerate(files):
        try:
            texts[file] = decoded(file.read_bytes(), file)
        except OSError as error:
            bad[number] = DataError("The file cannot be read.", where=file, received=error.strerror)
        except DataError as error:
            bad[number] = error
    if bad and (data.on_bad == "fail" or not texts):
        raise BadRows(bad)
    if bad:
        notes.append(
            f"{len(bad):,} files could not be read and were left out: {_listed([files[n] for n in bad], root)}."
        )
    empty = [file for file, text in texts.items() if not text.strip()]
    if empty:
        notes.append(f"{len(empty):,} empty files were left out: {_listed(empty, root)}.")
    return {file: text for file, text in texts.items() if file not in empty}


def _part(file: Path, root: Path) -> str | None:
    """The split that a file's folder or name says, or None."""
    *folders, name = file.relative_to(root).parts
    words = [*folders[:1], *re.split(r"[._\-\s]+", name)[:-1]]
    return next((PARTS[word.lower()] for word in words if word.lower() in PARTS), None)


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def _listed(files: Sequence[Path], root: Path) -> str:
    names = [str(file.relative_to(root)) if file != root else file.name for file in files[:_SHOWN]]
    return ", ".join(names) + (f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else "")


def _dataset(name: str, parts: Mapping[str, list[str]], source: str, notes: list[str]) -> Dataset:
    splits = {part: Split({"text": texts}) for part, texts in parts.items() if texts}
    return Dataset(name, splits, {"source": source, "notes": notes}, dataset_hash(splits))


def _texts(split: Split) -> list[str]:
    column = split["text"]
    if not isinstance(column, list):
        raise DataError("The column text must be a list of texts.", received=type(column).__name__)
    return list(column)


def _count(texts: Sequence[str]) -> int:
    return sum(map(len, texts))


def _unsuitable(part: str, value: object) -> DataError:
    return DataError(
        "This cannot be used as running text.",
        where=part,
        expected="a text, a list of texts, or a dictionary of these by train, val and test",
        received=type(value).__name__ if part in ("train", "val", "test") else f"a part called {part!r}",
    )
