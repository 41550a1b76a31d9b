"""Tables whose rows name files with their labels, and perhaps their splits and groups; or hold the files themselves."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flambeau.data.splits import SPLIT_NAMES
from flambeau.data.tables import (
    VALUE,
    Table,
    beginning,
    check_classes,
    choose_column,
    filled,
    first_row,
    is_table,
    optional_column,
    read_table,
)
from flambeau.errors import DataError, FlambeauError, did_you_mean

if TYPE_CHECKING:
    from flambeau.recipe import Data

LABELS = ("label", "class", "category", "target", "species", "y", "labels", "class_name", "label_name")
SPLITS = ("split", "subset", "partition", "set", "part")
GROUPS = ("group", "group_id", "patient", "patient_id", "subject", "subject_id")
"""What columns are usually called, the likeliest first."""


T = TypeVar("T")

Inner = list[Any] | dict[str, Any]
"""A label that is not one text: a list of labels, or an object that has a number for each."""

_KINDS: dict[type | None, str] = {
    list: 'a text, or a list of labels, as in ["car", "tree"]',
    dict: 'a class, or an object with a share for each, as in {"cat": 0.7, "dog": 0.3}',
    None: "a text or number",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of such a table.

    Attributes:
        file: The path, or the bytes.
        name: What the file is called there.
        label: As the table has it.
        where: The table and the line, for errors.
        group: What it shares with the rows that are to stay on its side of every split, or None.
        values: The cells of further columns that were asked for.
        inner: The label where it is a list or an object, else None.
    """

    file: Path | bytes
    name: str
    label: str
    where: str
    group: str | None = None
    values: tuple[str, ...] = ()
    inner: Inner | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What one or several such tables say.

    Attributes:
        rows: By split.
        bad: The errors of the rows that cannot be used, by table and line.
        notes: Which column was taken for what.
        columns: The same by role, of the last table; a file without a heading has columns 1, 2, ...
    """

    rows: dict[str, list[Row]] = field(default_factory=dict)
    bad: dict[str, FlambeauError] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)


def lists_files(path: Path, endings: Iterable[str]) -> bool:
    """Whether a table begins with a row in which a file with one of these endings is named, or held."""
    if not is_table(path):
        return False
    cells = [cell for row in beginning(path) for cell in row]
    ends = tuple(endings)
    return any(isinstance(cell, bytes) or (isinstance(cell, str) and cell.lower().endswith(ends)) for cell in cells)


def tables_of(
    folder: Path,
    data: Data,
    *,
    role: str,
    usual: Sequence[str],
    endings: Iterable[str],
    labels: Iterable[str] = LABELS,
) -> dict[str, Path]:
    """The tables at the top of a folder that list its files: by split where they are called so, else one as ``train``.

    A table counts when its heading names a column of files and one of labels; another one, such as a list of
    predictions, is no reason to read the folder otherwise than by its class folders. ``labels`` are the names of that
    column, of which one is enough; without any the column of files is.

    Raises:
        DataError: There are several, and it is not clear which one is meant.
    """
    ends = tuple(endings)
    columns = [{*usual, data.columns.get(role, "")}]
    if wanted := {*labels}:
        columns.append({*wanted, data.columns.get("label", "")})
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and lists_files(path, ends) and all(_heading(path) & names for names in columns)
    ]
    named: dict[str, Path] = {}
    for path in found:
        split = SPLIT_NAMES.get(path.name.lower().partition(".")[0])
        if split is not None and split in named:
            raise DataError(f"Two tables are for the same split: {named[split].name} and {path.name}.", where=folder)
        if split is not None:
            named[split] = path
    if "train" in named:
        return named
    if len(found) > 1:
        raise DataError(
            "Several tables in the folder list its files.",
            where=folder,
            received=", ".join(path.name for path in found[:20]),
            expected="one, or train.csv and the like",
            remedy="Name the table that is meant instead of the folder.",
        )
    return {"train": found[0]} if found else {}


def usable(listing: Listing, encode: Callable[[Row], T]) -> dict[str, list[T]]:
    """What the rows of a listing are encoded as, by split; those that cannot be leave it, with their errors."""
    made: dict[str, list[T]] = {}
    for split, rows in listing.rows.items():
        kept: list[Row] = []
        made[split] = []
        for row in rows:
            try:
                made[split].append(encode(row))
                kept.append(row)
            except DataError as error:
                listing.bad[row.where] = error
        listing.rows[split] = kept
    return made


def _heading(path: Path) -> set[str]:
    cells = {cell.strip() for cell in first_row(path) if cell.strip()}
    return cells | {cell.casefold() for cell in cells}


def read_tables(tables: Mapping[str, Path], endings: Iterable[str]) -> dict[str, Table]:
    """The tables that list files, by split; a first row that names a file with one of these endings is no heading.

    Raises:
        DataError: A table cannot be read.
    """
    ends = tuple(endings)
    return {
        split: read_table(path, header=not any(cell.lower().endswith(ends) for cell in first_row(path)), nested=True)
        for split, path in tables.items()
    }


def listed(
    tables: Mapping[str, Table],
    data: Data,
    *,
    role: str,
    usual: Sequence[str],
    endings: Iterable[str],
    classes: bool = True,
    values: Sequence[str] = (),
    inner: type[Inner] | None = None,
) -> Listing:
    """The rows of a table, or of one for each split.

    Args:
        tables: By split, as :func:`read_tables` reads them. The only one may have a column of splits.
        data: ``columns`` names columns by their role: ``role``, ``label``, ``split``, ``group``; ``group`` the last of
            these, too. ``follow_links`` says whether paths may lead out of the table's folder.
        role: What the column of files is called among the roles.
        usual: What that column is usually called.
        endings: Of the files' names, by which the column is known where there is no heading.
        classes: Whether the labels are classes; otherwise they may be any text, and empty.
        values: Names of further columns that are read, in place of the labels.
        inner: Whether a label may be a list or an object too; labels among which there are some are not checked.

    Raises:
        DataError: It is not clear which column holds what, the labels are no classes, or a split has other labels than
            the training split. Rows that cannot be used are in :attr:`Listing.bad`.
    """
    found, ends = Listing(), tuple(endings)
    optional = ("group",) if classes else ("group", "label", *values)
    for split, table in tables.items():
        columns = _columns(table, data, role, usual, ends, values, alone=len(tables) == 1)
        found.columns.update(columns)
        if table.header:
            told = ", ".join(f"{name} from {column!r}" for name, column in columns.items())
            found.notes.append(f"Read from {table.path.name}: {told}.")
        found.notes.extend(_unused_splits(table, columns))
        whole = filled(table, columns, "skip", optional=optional)
        _add(found, whole, role, values, split, data.follow_links, inner)
    nested = any(row.inner is not None for rows in found.rows.values() for row in rows)
    _check_labels(found, next(iter(tables.values())).path, classes=classes and not nested)
    return found


def _columns(
    table: Table,
    data: Data,
    role: str,
    usual: Sequence[str],
    endings: tuple[str, ...],
    values: Sequence[str],
    *,
    alone: bool,
) -> dict[str, str]:
    """The columns by their roles."""
    wishes = {**data.columns} if data.group is None else {**data.columns, "group": data.group}
    if not table.header:
        # Without a heading the cells say which one holds the files; of two columns the other one is the label.
        firsts = {name: column[0] for name, column in table.columns.items() if column}
        files = [name for name, cell in firsts.items() if cell.lower().endswith(endings)]
        wishes = {role: files[0], **wishes} if len(files) == 1 else wishes
        others = [name for name in table.columns if name != wishes.get(role)]
        wishes = {"label": others[0], **wishes} if len(others) == 1 else wishes
    columns = {
        role: choose_column(table, role, wishes.get(role), usual),
        **{name: choose_column(table, VALUE, name, ()) for name in values},
    }
    if not values:
        # One column that nothing else explains is what is to be learnt, whatever it is called.
        rest = [n for n in table.columns if n != columns[role] and n.casefold() not in {*SPLITS, *GROUPS}]
        usual_label = any(name.casefold() in LABELS for name in rest)
        alone_left = rest[0] if len(rest) == 1 and not usual_label else None
        columns["label"] = choose_column(table, "label", wishes.get("label", alone_left), LABELS)
    for name, names in (("split", SPLITS), ("group", GROUPS)):
        column = optional_column(table, name, wishes.get(name), names)
        if column is None or (name == "split" and not alone):
            continue
        # A column that happens to be called "set" and holds no split is something else.
        if name in wishes or name == "group" or any(_split_of(cell) for cell in table.columns[column]):
            columns[name] = column
    return columns


def _unused_splits(table: Table, columns: Mapping[str, str]) -> list[str]:
    """A sentence about a column that is called after splits, holds none and so was left alone."""
    ignored = [name for name in table.columns if name.casefold() == SPLITS[0] and name not in columns.values()]
    if "split" in columns or not ignored:
        return []
    held = list(dict.fromkeys(cell.strip() for cell in table.columns[ignored[0]]))
    return [
        f"The column {ignored[0]!r} was not used, for it holds no names of splits: it has {', '.join(held[:4])}"
        f"{' and others' if len(held) > 4 else ''}, and they are called train, val and test."
    ]


def _split_of(cell: str) -> str | None:
    return SPLIT_NAMES.get(cell.strip().lower())


def _add(
    found: Listing,
    table: Table,
    role: str,
    values: Sequence[str],
    split: str,
    follow_links: bool,
    inner: type[Inner] | None,
) -> None:
    """Adds the rows of a table whose columns have the names of their roles."""
    bad: dict[int, FlambeauError] = dict(table.bad)
    seen: dict[str, tuple[int, str]] = {}
    columns, held, nested = table.columns, table.files.get(role), table.nested.get("label")
    root = Path(os.path.realpath(table.path.parent))
    for place, line in enumerate(table.lines):
        where = f"{table.path}:{line}"
        name = columns[role][place].strip()
        label = columns["label"][place].strip() if "label" in columns else ""
        home: str | None = split
        content = held[place] if held else None
        within = nested[place] if nested else None
        try:
            _require_kind(within, inner, where)
            if "split" in columns:
                home = _split_of(columns["split"][place])
            if home is None:
                raise _no_split(columns["split"][place], where)
            file = content if content is not None else _file(name, root, table.path.parent, where, follow_links)
            if content is None:
                _check_repeated(name, label, line, where, seen)
        except DataError as error:
            bad[line] = error
            continue
        group = columns["group"][place].strip() if "group" in columns else ""
        cells = tuple(columns[value][place].strip() for value in values)
        row = Row(file, name.replace("\\", "/"), label, where, group or None, cells, within)
        found.rows.setdefault(home, []).append(row)
    found.bad.update({f"{table.path}:{line}": bad[line] for line in sorted(bad)})


def _require_kind(label: Inner | None, wanted: type[Inner] | None, where: str) -> None:
    if label is None or (wanted is not None and isinstance(label, wanted)):
        return
    what = "a list" if isinstance(label, list) else "an object"
    raise DataError(
        f"The label is {what}.",
        where=where,
        expected=_KINDS[wanted],
        received=str(label)[:80],
        remedy="Several labels for each picture: --task image-multilabel" if wanted is dict else None,
    )


def _no_split(cell: str, where: str) -> DataError:
    return DataError(
        f"{cell.strip()!r} is not the name of a split. {did_you_mean(cell.strip(), SPLIT_NAMES)}",
        where=where,
        expected="train, val or test",
        remedy="Correct it, or name another column: --set data.columns.split=NAME",
    )


def _file(name: str, root: Path, folder: Path, where: str, follow_links: bool) -> Path:
    """The file that a cell names, from the table's folder."""
    path = folder / name
    if "\\" in name and not _is_file(path):
        path = folder / name.replace("\\", "/")  # a table that was written on Windows
    if not _is_file(path):
        raise DataError(
            f"There is no file {name[:200]}.",
            where=where,
            expected=f"a path from {folder}",
            remedy="Correct the path, which begins at the table's folder, or put the file there.",
        )
    if not follow_links and not Path(os.path.realpath(path)).is_relative_to(root):
        raise DataError(
            f"The path leads out of the table's folder: {name}",
            where=where,
            expected=f"a file in {root}",
            remedy="Move the table beside its files, or allow such paths with --set data.follow_links=true.",
        )
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False


def _check_repeated(name: str, label: str, line: int, where: str, seen: dict[str, tuple[int, str]]) -> None:
    key = os.path.normpath(name)
    first, former = seen.setdefault(key, (line, label))
    if first != line:
        contradiction = "" if former == label else f" and is {former!r} there"
        raise DataError(
            f"The file {name} is in line {first} already{contradiction}.", where=where, remedy="Keep one of the rows."
        )


def _check_labels(found: Listing, path: Path, *, classes: bool) -> None:
    """Refuses a table without rows to learn from, and labels that cannot be meant as classes."""
    if not found.rows.get("train"):
        if found.bad:
            return  # the rows' own errors say more
        raise DataError(
            "The table has no rows of a training split.",
            where=path,
            expected="rows of train",
            received=f"rows of {', '.join(found.rows)}" if found.rows else "no rows",
            remedy="Add such rows, or leave out the column of splits, and they are set aside by themselves.",
        )
    if not classes:
        return
    labels = [row.label for row in found.rows["train"]]
    try:
        check_classes(labels)
    except DataError as error:
        error.where = str(path)
        raise
    same: dict[str, str] = {}
    for label in labels:
        other = same.setdefault(unicodedata.normalize("NFC", label).casefold(), label)
        if other != label:
            raise DataError(
                "Labels differ only in case or in their Unicode form, so they seem to be meant as one.",
                where=path,
                received=f"{other!r} and {label!r}",
                remedy="Write them alike.",
            )
    known = set(labels)
    for split, rows in found.rows.items():
        strange = [row for row in rows if row.label not in known]
        if strange:
            raise DataError(
                f"The split {split} has labels that the training split does not have: "
                f"{', '.join(sorted({row.label for row in strange})[:20])}.",
                where=strange[0].where,
                remedy="Correct the labels, or add rows of these classes to the training split.",
            )
