"""Pairs of sentences: from tables with two columns of text, files whose lines belong together, and lists.

Sentences lose the white space at their ends; nothing else is changed.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flambeau.columns import Dataset, Split
from flambeau.data import tables
from flambeau.data.hashing import dataset_hash
from flambeau.data.prepare import check_skipped
from flambeau.data.splits import with_test_and_validation
from flambeau.errors import BadRows, DataError, FlambeauError

if TYPE_CHECKING:
    from flambeau.recipe import Recipe

FORMS = (
    "a table with two columns of sentences (.csv, .tsv, .jsonl), lines of sentences parted by tabs (.txt), a file "
    "beside its translation (train.en, train.de), or a folder of either"
)

SPLITS = {"train": ("train",), "val": ("val", "valid", "validation", "dev"), "test": ("test",)}
"""What the files of each split are called."""

SOURCES, TARGETS = ("source", "src", "from", "input"), ("target", "tgt", "to", "output", "translation")
"""The usual names of the two columns."""

_LANGUAGES = """
af ar az be bg bn bs ca cs cy da de el en eo es et eu fa fi fr ga gl gu he hi hr hu hy id is it ja ka kk km kn ko la lb
lt lv mk ml mn mr ms mt my ne nl no pa pl ps pt ro ru si sk sl so sq sr sv sw ta te th tl tr uk ur uz vi yo zh zu
ara ces deu ell eng fra heb hin ita jpn kor nld pol por ron rus spa swe tur ukr zho
english french german spanish italian portuguese dutch russian chinese japanese
"""
LANGUAGES = frozenset(_LANGUAGES.split())
"""Names by which a column or a file's ending is known to be of a language: ISO 639 and the larger ones written out."""

_LINES_LOOKED_AT = 20
_MARKS = (" ", ".", "!", "?", "。", "？", "！")

Sentences = tuple[list[str], list[str]]


def claims_pairs(path: Path) -> bool:
    """Whether a file or folder looks like pairs of sentences; reads the beginning of a file at most."""
    if path.is_dir():
        return bool(_aligned(path)) or any(claims_pairs(table) for table in _tables(path).values())
    if tables.is_table(path):
        names = [name.strip().casefold() for name in tables.first_row(path)]
        both = any(name in SOURCES for name in names) and any(name in TARGETS for name in names)
        return both or sum(name in LANGUAGES - {"id", "no"} for name in names) == 2  # those two are often numbers
    if path.name.endswith((".txt", ".txt.gz")):
        return _parted_by_tabs(path)
    return _language(path) in LANGUAGES and len(_siblings(path)) > 0


def open_pairs(path: Path, recipe: Recipe) -> Dataset:
    """The pairs in a file or folder, in the splits that it comes with: columns ``source`` and ``target``, texts.

    ``data.columns`` says which is which where that is not clear: ``source`` and ``target`` name columns of a table, or
    the endings of files.

    Raises:
        DataError: There are no pairs, it is not clear what is translated into what, or files do not fit together.
        BadRows: Rows without a source or a target, unless ``data.on_bad`` is ``skip``.
    """
    if path.is_dir():
        found, files = _tables(path), _aligned(path)
        if found and not files:
            return _from_tables(found, path, recipe)
        return _from_aligned(path, files, recipe)
    if tables.is_table(path) or path.name.endswith((".txt", ".txt.gz")):
        return _from_tables({"train": path}, path, recipe)
    return _from_file(path, recipe)


def pairs_of_python(value: Any, name: str | None, origin: str | None, recipe: Recipe) -> Dataset:
    """The pairs in objects of Python: a list of (source, target), two lists, or either by split.

    Raises:
        DataError: It is none of these, or a sentence is not a text.

    Example:
        >>> from flambeau.recipe import Recipe
        >>> data = pairs_of_python([("a cat", "eine Katze"), ("a dog", "ein Hund")], None, None, Recipe())
        >>> data.splits["train"]["target"]
        ['eine Katze', 'ein Hund']
    """
    parts = value if isinstance(value, Mapping) and "train" in value else {"train": value}
    unknown = sorted(set(map(str, parts)) - set(SPLITS))
    if unknown:
        raise DataError("These are not the names of splits.", expected="train, val, test", received=unknown)
    sides = {split: _sides(part, split) for split, part in parts.items()}
    return made(sides, name or "pairs", origin or "objects in memory", recipe)


def divide_pairs(dataset: Dataset, recipe: Recipe) -> Dataset:
    """The data set turned around where the recipe asks for that, with its test and validation splits made.

    All translations of a sentence stay in one split.
    """
    return with_test_and_validation(directed(dataset, bool(recipe.options.get("reverse"))), recipe.data, noun="sources")


def directed(dataset: Dataset, reverse: bool) -> Dataset:
    """The data set in the direction it comes in, or turned around; ``info["reversed"]`` says which."""
    if bool(dataset.info.get("reversed")) == reverse:
        return dataset
    splits = {name: turned(split) for name, split in dataset.splits.items()}
    info = {**dataset.info, "languages": dataset.info.get("languages", [])[::-1], "reversed": reverse}
    return Dataset(dataset.name, splits, info, dataset.hash)


def turned(split: Split) -> Split:
    """A split with its source and target exchanged."""
    rest = split.without("source", "target").columns
    return Split({"source": split["target"], "target": split["source"], **rest})


def made(
    sides: Mapping[str, Sentences],
    name: str,
    origin: str,
    recipe: Recipe,
    *,
    languages: Sequence[str] = (),
    notes: Sequence[str] = (),
    bad: Mapping[str, FlambeauError] | None = None,
) -> Dataset:
    """A data set from the sentences of each split; pairs that lack a side are bad rows.

    Args:
        sides: Sources and targets by split.
        name: What it is called.
        origin: Where it comes from.
        recipe: ``data.on_bad`` says what to do about bad rows.
        languages: Of source and target, where they are known.
        notes: Sentences for the report.
        bad: Errors of rows that are not in ``sides``, by their place.
    """
    failed, splits, total = dict(bad or {}), {}, len(bad or {})
    for split, (sources, targets) in sides.items():
        stripped = [(a.strip(), b.strip()) for a, b in zip(sources, targets, strict=True)]
        total += len(stripped)
        for row, (a, b) in enumerate(stripped, 1):
            if not a or not b:
                side = "target" if a else "source"
                failed[f"{split}:{row}"] = DataError(f"The {side} is empty.", where=f"{origin}, {split}, line {row}")
        good = [pair for pair in stripped if all(pair)]
        splits[split] = Split({"source": [a for a, _ in good], "target": [b for _, b in good]})
    if failed and recipe.data.on_bad == "fail":
        raise BadRows(dict(enumerate(failed.values())))
    told = list(notes)
    if failed:
        check_skipped(len(failed), total, next(iter(failed.values())))
        told.append(f"{len(failed):,} of {total:,} pairs were left out, since one side is missing or cannot be read.")
    if not len(splits["train"]):
        raise DataError("There are no pairs of sentences.", where=origin, expected=FORMS)
    skipped = [str(error.where) for error in failed.values()]
    info = {"languages": list(languages), "source": origin, "notes": told, "skipped": skipped, "reversed": False}
    return Dataset(name, splits, info, dataset_hash(splits))


def _sides(part: Any, where: str) -> Sentences:
    if isinstance(part, Mapping) and {"source", "target"} <= set(part):
        part = (part["source"], part["target"])
    if isinstance(part, tuple) and len(part) == 2 and not any(isinstance(side, str) for side in part):
        sources, targets = list(part[0]), list(part[1])
    else:
        rows = [pair if isinstance(pair, list | tuple) else () for pair in part] if isinstance(part, Sequence) else [()]
        if any(len(row) != 2 for row in rows) or isinstance(part, str):
            raise DataError(
                "These are not pairs of sentences.",
                where=where,
                expected="a list of (source, target), or a tuple of two lists",
                received=type(part).__name__,
            )
        sources, targets = [row[0] for row in rows], [row[1] for row in rows]
    if len(sources) != len(targets):
        raise DataError(
            "There are not as many targets as sources.", where=where, expected=len(sources), received=len(targets)
        )
    wrong = next((text for text in [*sources, *targets] if not isinstance(text, str)), None)
    if wrong is not None:
        raise DataError("A sentence is not a text.", where=where, expected="str", received=type(wrong).__name__)
    return sources, targets


def _from_tables(found: Mapping[str, Path], origin: Path, recipe: Recipe) -> Dataset:
    if "train" not in found:
        raise DataError("There is no table for training.", where=origin, expected="train.csv, train.tsv or train.jsonl")
    sides: dict[str, Sentences] = {}
    bad: dict[str, FlambeauError] = {}
    languages: list[str] = []
    notes: list[str] = []
    for split, path in found.items():
        table = _read(path)
        source, target = _columns(table, recipe.data.columns, notes)
        sides[split] = (table.columns[source], table.columns[target])
        bad |= {f"{split}:{line}": error for line, error in table.bad.items()}
        if split == "train":
            languages = [source, target] if {source.casefold(), target.casefold()} <= LANGUAGES else []
    name = origin.name.removesuffix(".gz").rsplit(".", 1)[0] if origin.is_file() else origin.name
    return made(sides, name, str(origin), recipe, languages=languages, notes=list(dict.fromkeys(notes)), bad=bad)


def _read(path: Path) -> tables.Table:
    if tables.is_table(path):
        return tables.read_table(path, known=[*SOURCES, *TARGETS, *LANGUAGES])
    # Lines of a .txt file are parted by tabs alone: a quotation mark or a comma in them is part of a sentence.
    rows = [(line, row.split("\t")) for line, row in enumerate(tables.lines_of(path), 1) if row.strip()]
    width = len(rows[0][1]) if rows else 0
    bad: dict[int, FlambeauError] = {
        line: DataError(
            "The line has too few fields.",
            where=f"{path}:{line}",
            expected=f"{width} fields parted by tabs",
            received=len(row),
        )
        for line, row in rows
        if len(row) != width
    }
    rows = [(line, row) for line, row in rows if line not in bad]
    columns = {str(place + 1): [row[place] for _, row in rows] for place in range(width)}
    return tables.Table(path, columns, [line for line, _ in rows], False, bad)


def _columns(table: tables.Table, wishes: Mapping[str, str], notes: list[str]) -> tuple[str, str]:
    """The names of the columns of source and target."""
    names = list(table.columns)
    spoken = [name for name in names if name.casefold() in LANGUAGES]
    usual = [name for role in (SOURCES, TARGETS) for name in names if name.casefold() in role]
    if wishes:
        source = tables.choose_column(table, "source", wishes.get("source"), SOURCES)
        return source, tables.choose_column(table, "target", wishes.get("target"), TARGETS)
    if len(usual) == 2:
        return usual[0], usual[1]
    if len(spoken) == 2:
        return spoken[0], spoken[1]
    if len(names) < 2:
        raise DataError(
            "There must be two columns of sentences.",
            where=table.path,
            expected="source and target, or two languages such as en and de",
            received=f"one column: {', '.join(names)}",
        )
    if len(names) > 2 and table.header:
        tables.choose_column(table, "source", None, SOURCES)  # says what to do when the columns are not known
        tables.choose_column(table, "target", None, TARGETS)
    notes.append(f"The first column ({names[0]}) is translated into the second ({names[1]}).")
    return names[0], names[1]


def _from_file(path: Path, recipe: Recipe) -> Dataset:
    """From one of two files whose lines belong together; what is given is the source."""
    others = _siblings(path)
    wish = recipe.data.columns.get("target")
    chosen = [other for other in others if wish is None or _language(other) == wish]
    if len(chosen) != 1:
        raise DataError(
            "There is no file beside it with the translations." if not chosen else "There are several translations.",
            where=path,
            expected=f"one file {_stem(path)}.LANGUAGE" if not chosen else "one of them",
            received=", ".join(other.name for other in others) or None,
            remedy="Say which one it is: --set data.columns.target=de" if chosen else "Put it there.",
        )
    source, target = _language(path), _language(chosen[0])
    files = {split: pair for split, pair in _aligned(path.parent).items() if {source, target} <= set(pair)}
    if _stem(path) != "train":
        files = {"train": {source: path, target: chosen[0]}}
    return _from_aligned(path, files, recipe, (source, target))


def _from_aligned(
    origin: Path, files: Mapping[str, Mapping[str, Path]], recipe: Recipe, direction: tuple[str, str] | None = None
) -> Dataset:
    if "train" not in files:
        raise DataError("There are no pairs of sentences here.", where=origin, expected=FORMS)
    notes = []
    if direction is None:
        direction = _direction(sorted(files["train"]), recipe.data.columns, origin)
        if not recipe.data.columns:
            notes.append(f"Sentences are translated from {direction[0]} to {direction[1]}; options.reverse turns that.")
    source, target = direction
    sides = {}
    for split, pair in files.items():
        if source not in pair or target not in pair:
            notes.append(
                f"The {split} files are not used: there is none for {source if source not in pair else target}."
            )
            continue
        there, back = tables.lines_of(pair[source]), tables.lines_of(pair[target])
        if len(there) != len(back):
            raise DataError(
                "The two files do not have the same number of lines, so they do not belong together line by line.",
                where=pair[target],
                expected=f"{len(there):,} lines, as in {pair[source].name}",
                received=f"{len(back):,}",
            )
        sides[split] = (there, back)
    name = origin.name if origin.is_dir() else _stem(origin)
    return made(sides, name, str(origin), recipe, languages=direction, notes=notes)


def _direction(languages: Sequence[str], wishes: Mapping[str, str], where: Path) -> tuple[str, str]:
    source, target = wishes.get("source"), wishes.get("target")
    for wish in (source, target):
        if wish is not None and wish not in languages:
            raise DataError(f"There is no file ending in .{wish}.", where=where, received=", ".join(languages))
    rest = [language for language in languages if language not in (source, target)]
    if len(rest) != 2 - (source is not None) - (target is not None):
        raise DataError(
            "It is not clear which language is translated into which.",
            where=where,
            received=", ".join(languages),
            remedy="Say it: --set data.columns.source=en --set data.columns.target=de",
        )
    if source is None and target is None and rest[1] == "en":
        rest = rest[::-1]  # from English, unless the recipe says otherwise
    return source or rest.pop(0), target or rest.pop(0)


def _tables(folder: Path) -> dict[str, Path]:
    """The table of each split in a folder."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        stem = file.name.casefold().removesuffix(".gz").rsplit(".", 1)[0]
        split = next((split for split, names in SPLITS.items() if stem in names), None)
        if split is not None and tables.is_table(file) and file.is_file():
            found.setdefault(split, file)
    return {split: found[split] for split in SPLITS if split in found}


def _aligned(folder: Path) -> dict[str, dict[str, Path]]:
    """Files of the same name but for the ending of their language, by split and language.

    Where nothing is called train, a single set of such files is for training.
    """
    stems: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.iterdir()):
        language = _language(file)
        if file.is_file() and language in LANGUAGES:
            stems.setdefault(_stem(file), {}).setdefault(language, file)
    stems = {stem: files for stem, files in stems.items() if len(files) > 1}
    found = {
        split: next(stems[stem] for stem in names if stem in stems)
        for split, names in SPLITS.items()
        if any(stem in stems for stem in names)
    }
    return found or ({"train": next(iter(stems.values()))} if len(stems) == 1 else {})


def _siblings(path: Path) -> list[Path]:
    """Files of the same name in another language."""
    stem, language = _stem(path), _language(path)
    found: dict[str, Path] = {}
    for file in sorted(path.parent.iterdir()):
        other = _language(file)
        if file.is_file() and _stem(file) == stem and other in LANGUAGES and other != language:
            found.setdefault(other, file)
    return list(found.values())


def _language(path: Path) -> str:
    """What a file's name ends in, below ``.gz``."""
    return path.name.removesuffix(".gz").rpartition(".")[2].casefold()


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]


def _parted_by_tabs(path: Path) -> bool:
    """Whether the first lines of a text file all have two or three fields between tabs, and two of sentences.

    A field of labels (ham, spam) has neither spaces nor full stops, so labelled texts are not taken for pairs.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            lines = [file.readline().decode("utf-8", "replace") for _ in range(_LINES_LOOKED_AT)]
    except (OSError, EOFError, zlib.error):
        return False
    rows = [line.strip("\r\n").split("\t") for line in lines if line.strip()]
    if len({len(row) for row in rows}) != 1 or len(rows[0]) not in (2, 3):
        return False
    said = [sum(any(mark in row[place].strip() for mark in _MARKS) for row in rows) for place in (0, 1)]
    return min(said) >= len(rows) / 2
