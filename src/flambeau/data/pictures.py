"""Labelled pictures as data: the folder, arrays and torch data sets that every picture task takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flambeau.columns import Dataset
from flambeau.data.arrays import classes_of, from_arrays, from_torch, pair_of
from flambeau.data.folders import scan
from flambeau.data.opening import EXTENSIONS, PictureRules
from flambeau.errors import DataError

if TYPE_CHECKING:
    from flambeau.recipe import Recipe

FORMS = "a folder of pictures (class/... or train|val|test/class/...)"


def open_pictures(path: Path, recipe: Recipe) -> Dataset:
    """The data set in a folder of class folders.

    Raises:
        DataError: It is a file, or the folder cannot be used.
    """
    if not path.is_dir():
        raise DataError(
            "This is a file, not a folder of pictures.",
            where=path,
            expected=f"a built-in name, {FORMS}, or FILE.py:CLASS",
            remedy="Give the folder that holds the class folders.",
        )
    rules = PictureRules.of(recipe.images)
    return scan(path, follow_links=recipe.data.follow_links, on_bad=recipe.data.on_bad, rules=rules)


def claims_pictures(path: Path) -> bool:
    """Whether there is a picture in a folder, at most three levels down."""
    return path.is_dir() and holds(path, EXTENSIONS)


def holds(folder: Path, endings: frozenset[str], *, levels: int = 3) -> bool:
    """Whether a file with one of these endings is in a folder, at most so many levels down."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return False
    if any(entry.suffix.lower() in endings and not entry.is_dir() for entry in entries):
        return True
    return levels > 1 and any(entry.is_dir() and holds(entry, endings, levels=levels - 1) for entry in entries)


def pictures_of_python(source: Any, name: str | None, origin: str | None, recipe: Recipe) -> Dataset:
    """The data set that an object stands for: pictures and labels as a pair, pairs by split, or a torch data set.

    Raises:
        DataError: It is none of these.
    """
    if isinstance(source, Mapping):
        notes: list[str] = []
        pairs = {str(split): _pair(part, notes) for split, part in source.items()}
        classes = next((found for part in source.values() if (found := classes_of(part))), None)
        return from_arrays(
            pairs, name=name or "arrays", classes=classes, source=origin or "objects in memory", notes=notes
        )
    if isinstance(source, tuple) and len(source) == 2:
        return from_arrays({"train": source}, name=name or "arrays", source=origin or "arrays in memory")
    if (hasattr(source, "__getitem__") and hasattr(source, "__len__")) or hasattr(source, "__iter__"):
        return from_torch(source, name=name, source=origin)
    raise DataError(
        "This cannot serve as data.",
        expected="a name, a path, (pictures, labels), a dictionary of splits, or a torch data set",
        received=type(source).__name__,
    )


def _pair(part: Any, notes: list[str]) -> tuple[Any, Any]:
    return (part[0], part[1]) if isinstance(part, tuple) and len(part) == 2 else pair_of(part, notes)


def picture_inputs(arguments: Sequence[str]) -> list[tuple[str, Any]]:
    """The pictures that arguments of ``predict`` name: files, and folders with every picture in them.

    Raises:
        DataError: There is no picture in a folder.
    """
    files: list[Path] = []
    for path in map(Path, arguments):
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(entry for entry in path.rglob("*") if entry.suffix.lower() in EXTENSIONS)
        if not inside:
            raise DataError(
                "There is no picture in the folder.",
                where=path,
                expected=f"files ending in {', '.join(sorted(EXTENSIONS))}",
            )
        files += inside
    return [(str(path), path) for path in files]
