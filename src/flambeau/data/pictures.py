"""Labelled pictures as data: the folder, arrays and torch data sets that every picture task takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from flambeau.columns import Dataset, Split
from flambeau.data import huggingface, shares
from flambeau.data.arrays import as_labels, classes_of, encode_labels, from_arrays, from_torch, may_mirror, pair_of
from flambeau.data.examine import Listed, as_split, content_hash, examine, frames_note, skip_note
from flambeau.data.folders import scan
from flambeau.data.listings import LABELS, Listing, listed, lists_files, read_tables, tables_of
from flambeau.data.opening import EXTENSIONS, PictureRules
from flambeau.data.prepare import check_skipped
from flambeau.data.splits import leak_note, leaks
from flambeau.data.tables import Table, is_table
from flambeau.errors import BadRows, DataError

if TYPE_CHECKING:
    from flambeau.recipe import Data, Recipe

FORMS = (
    "a folder of pictures (class/... or train|val|test/class/...), or a table (.csv, .tsv, .jsonl, .parquet) of their "
    "paths and labels (a class, or a number for each class)"
)

IMAGES = (
    "image", "file", "file_name", "filename", "path", "filepath", "file_path", "image_path", "image_file", "img",
    "picture", "photo",
)  # fmt: skip
"""What the column of pictures is usually called, the likeliest first."""

ROLES = ("image", "label", "split", "group")
"""What the columns of a table of pictures may be."""


def open_pictures(path: Path, recipe: Recipe, classes: Sequence[str] = ()) -> Dataset:
    """The data set in a folder of class folders, in a table of pictures, or in a folder with such tables.

    Args:
        path: Of either.
        recipe: Names columns, and says what to do about bad rows.
        classes: The columns of tables that hold a number for each class, in place of the label.

    Raises:
        DataError: It is another file, or the folder or table cannot be used.
        BadRows: Some rows or files cannot be used, and ``data.on_bad`` is ``fail``.
    """
    rules = PictureRules.of(recipe.images)
    if path.is_file() and is_table(path):
        return _from_tables({"train": path}, path.name, path, recipe, classes)
    if not path.is_dir():
        raise DataError(
            "This is a file, not a folder or table of pictures.",
            where=path,
            expected=f"a built-in name, {FORMS}, or FILE.py:CLASS",
            remedy="Give the folder that holds the class folders.",
        )
    labels = classes or LABELS
    tables = tables_of(path, recipe.data, role="image", usual=IMAGES, endings=EXTENSIONS, labels=labels)
    if tables:
        return _from_tables(tables, path.absolute().name, path, recipe, classes)
    data = recipe.data
    return scan(path, follow_links=data.follow_links, on_bad=data.on_bad, rules=rules, group=data.group)


def _from_tables(
    tables: Mapping[str, Path], title: str, source: Path, recipe: Recipe, classes: Sequence[str]
) -> Dataset:
    listing = _listed(read_tables(tables, EXTENSIONS), recipe.data, classes)
    name = title.partition(".")[0] or "pictures"
    return from_listing(listing, name, str(source.absolute()), recipe, _encode(classes))


def _listed(tables: Mapping[str, Table], data: Data, classes: Sequence[str]) -> Listing:
    """The rows with a class each, or with a number for each class."""
    return listed(
        tables,
        data,
        role="image",
        usual=IMAGES,
        endings=EXTENSIONS,
        classes=not classes,
        values=classes,
        inner=dict,
    )


def _encode(classes: Sequence[str]) -> Callable[[Listing, list[str]], Targets]:
    """Makes classes of a listing's labels, or distributions where columns or objects hold these."""

    def encode(listing: Listing, notes: list[str]) -> Targets:
        if not classes and all(row.inner is None for rows in listing.rows.values() for row in rows):
            return _as_classes(listing, notes)
        names, rows = shares.of_columns(listing, classes) if classes else shares.of_objects(listing)
        notes += shares.notes_on(names, rows.get("train", []))
        info = {"classes": names, "mirror": may_mirror(names)}
        return Targets(rows, info, "target", torch.float32, shares.with_likeliest)

    return encode


class Targets(NamedTuple):
    """What the rows of tables are to be learnt as.

    Attributes:
        rows: For each row of the listing its target, by split.
        info: What the data set says of them, such as ``classes``; ``mirror``, whether a mirrored picture keeps its.
        column: What their column is called.
        dtype: Its type.
        finish: Adds columns that follow from it.
    """

    rows: Mapping[str, Sequence[Any]]
    info: Mapping[str, Any]
    column: str = "label"
    dtype: torch.dtype = torch.int64
    finish: Callable[[Split], Split] = lambda split: split


def _as_classes(listing: Listing, notes: list[str]) -> Targets:
    labels = as_labels({split: [row.label for row in rows] for split, rows in listing.rows.items()})
    classes, numbers = encode_labels(labels, None, notes)
    rows = {split: column.tolist() for split, column in numbers.items()}
    return Targets(rows, {"classes": classes, "mirror": may_mirror(classes)})


def _from_huggingface(source: Any, name: str, origin: str, recipe: Recipe, classes: Sequence[str]) -> Dataset:
    notes: list[str] = []
    tables = huggingface.tables_of(source, name, notes, nested=True)
    # The files that such a table names lie where Hugging Face has put them.
    data = recipe.data.model_copy(update={"follow_links": True})
    listing = _listed(tables, data, classes)
    listing = Listing(listing.rows, listing.bad, [*notes, *listing.notes])
    return from_listing(listing, name, origin, recipe, _encode(classes))


def from_listing(
    listing: Listing,
    name: str,
    source: str,
    recipe: Recipe,
    encode: Callable[[Listing, list[str]], Targets] = _as_classes,
) -> Dataset:
    """The data set of the pictures that tables list.

    Args:
        listing: What the tables say.
        name: What the data set is called.
        source: Where it comes from.
        recipe: Its rules.
        encode: Makes targets of the rows, and may add to the notes; may take rows out of the listing.

    Raises:
        BadRows: Some rows or pictures cannot be used, and ``data.on_bad`` is ``fail``.
        DataError: There are too few classes, or too many bad rows.
    """
    total = len(listing.bad) + sum(map(len, listing.rows.values()))
    _require_rows(listing, recipe)
    notes = [*listing.notes]
    targets = encode(listing, notes)
    _require_rows(listing, recipe)
    rows_of = {
        split: [
            Listed(row.file, row.name, label, row.group) for row, label in zip(rows, targets.rows[split], strict=True)
        ]
        for split, rows in listing.rows.items()
    }
    files, found = examine(rows_of, PictureRules.of(recipe.images))
    if found and recipe.data.on_bad == "fail":
        raise BadRows(found)
    errors = [*listing.bad.values(), *found.values()]
    if errors:
        check_skipped(len(errors), total, errors[0])
    splits = {split: targets.finish(as_split(part, targets.column, targets.dtype)) for split, part in files.items()}
    duplicates = leaks(splits)
    info = {
        **targets.info,
        "source": source,
        "notes": [*notes, *frames_note(files), *skip_note(errors), *([leak_note(splits)] if duplicates else [])],
        "duplicates": duplicates,
        "skipped": [str(error.where) for error in errors],
    }
    return Dataset(name, splits, info, content_hash(files))


def _require_rows(listing: Listing, recipe: Recipe) -> None:
    if listing.bad and (recipe.data.on_bad == "fail" or not listing.rows.get("train")):
        raise BadRows(dict(enumerate(listing.bad.values())))


def claims_pictures(path: Path) -> bool:
    """Whether there is a picture in a folder, at most three levels down, or a table lists or holds some."""
    if path.is_dir() and huggingface.is_saved(path):
        return "Image" in huggingface.kinds_saved(path)
    return holds(path, EXTENSIONS) if path.is_dir() else path.is_file() and lists_files(path, EXTENSIONS)


def holds(folder: Path, endings: frozenset[str], *, levels: int = 3) -> bool:
    """Whether a file with one of these endings is in a folder, at most so many levels down."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return False
    if any(entry.suffix.lower() in endings and not entry.is_dir() for entry in entries):
        return True
    return levels > 1 and any(entry.is_dir() and holds(entry, endings, levels=levels - 1) for entry in entries)


def pictures_of_python(
    source: Any, name: str | None, origin: str | None, recipe: Recipe, classes: Sequence[str] = ()
) -> Dataset:
    """The data set that an object stands for: pictures and labels as a pair, pairs by split, or a torch data set.

    Args:
        source: The object.
        name: What it is called.
        origin: Where it comes from.
        recipe: Names columns, and says what to do about bad rows.
        classes: As for :func:`open_pictures`; of arrays with a number for each class, what these are called.

    Raises:
        DataError: It is none of these.
    """
    if huggingface.is_object(source):
        return _from_huggingface(source, name or "dataset", origin or "a data set in memory", recipe, classes)
    if isinstance(source, Mapping):
        notes: list[str] = []
        pairs = {str(split): _pair(part, notes) for split, part in source.items()}
        stated = next((found for part in source.values() if (found := classes_of(part))), None)
        return from_arrays(
            pairs, name=name or "arrays", classes=classes or stated, source=origin or "objects in memory", notes=notes
        )
    if isinstance(source, tuple) and len(source) == 2:
        return from_arrays(
            {"train": source}, name=name or "arrays", classes=classes or None, source=origin or "arrays in memory"
        )
    if (hasattr(source, "__getitem__") and hasattr(source, "__len__")) or hasattr(source, "__iter__"):
        return from_torch(source, name=name, source=origin)
    raise DataError(
        "This cannot serve as data.",
        expected="a name, a path, (pictures, labels), a dictionary of splits, or a torch data set",
        received=type(source).__name__,
    )


def _pair(part: Any, notes: list[str]) -> tuple[Any, Any]:
    return (part[0], part[1]) if isinstance(part, tuple) and len(part) == 2 else pair_of(part, notes)
