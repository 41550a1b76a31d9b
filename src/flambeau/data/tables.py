"""Tables in files: CSV and TSV with or without a heading, JSON lines, and Parquet (by an extra)."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from flambeau.errors import BadRows, DataError, FlambeauError, did_you_mean

CSV, JSON = (".csv", ".tsv", ".tab"), (".jsonl", ".ndjson", ".json")
"""Endings of the names of tables; each may be followed by ``.gz``."""

PARQUET = ".parquet"

LARGEST = 2 << 30
"""Bytes of a table, unpacked, beyond which it is not read into memory."""

VALUE = "value"
"""The role of columns that a task's options name, not ``data.columns``."""

MOST_CLASSES = 1000
"""Classes beyond which a column holds something else, unless each has many rows."""

DELIMITERS = ",;\t|"
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_LOOKED_AT = 1 << 16
_SNIFFED = 50


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of text by name.

    Attributes:
        path: The file.
        columns: Values in the order of the rows; what a JSON row does not have is empty. Of a column that holds files
            themselves, what each row says the file is called.
        lines: The line, from 1, that each row begins in; in a Parquet file the row.
        header: Whether the names were in the file; otherwise the columns are called 1, 2, ...
        bad: The error of each row that cannot be read, by its line; these rows are not in ``columns``.
        files: For a column that holds files themselves, as Parquet can, their bytes (or None, where a row has none).
        nested: For a column in which JSON has lists or objects, these (or None, where a row has none); their cells are
            the JSON text. Only where they are asked for.
    """

    path: Path
    columns: Mapping[str, list[str]]
    lines: list[int]
    header: bool = True
    bad: Mapping[int, FlambeauError] = field(default_factory=dict)
    files: Mapping[str, list[bytes | None]] = field(default_factory=dict)
    nested: Mapping[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)


def is_table(path: Path) -> bool:
    """Whether a file's name ends as those of tables do."""
    name = path.name.lower()
    return name.endswith(PARQUET) or name.removesuffix(".gz").endswith((*CSV, *JSON))


def read_table(path: Path, *, header: bool | None = None, known: Collection[str] = (), nested: bool = False) -> Table:
    """A table from a file, UTF-8 (or UTF-16 with a byte order mark).

    ``.csv`` may be parted by commas, semicolons, tabs or bars, whichever gives the most even rows; ``.tsv`` by tabs.
    A quoted field may hold delimiters and line ends. ``.jsonl`` has an object a line, ``.json`` a list of objects.
    ``.parquet`` is read by pyarrow.

    Args:
        path: The file; ``.gz`` is unpacked.
        header: Whether the first row names the columns; None finds out: it does when one of the names is in ``known``.
        known: Names that a heading may have; upper and lower case are the same.
        nested: Takes lists and objects into :attr:`Table.nested`. Otherwise a row of JSON that has one is bad, and such
            columns of Parquet are left out.

    Raises:
        DataError: The file cannot be read at all. Rows that cannot be read are in :attr:`Table.bad`.
        MissingExtra: It is a Parquet file, and pyarrow is not installed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "reviews.csv"
        >>> _ = path.write_text('text,label\\n"Good, really.",pos\\nBad.,neg\\n')
        >>> read_table(path).columns
        {'text': ['Good, really.', 'Bad.'], 'label': ['pos', 'neg']}
    """
    if _is_parquet(path):
        from flambeau.data.parquet import read_parquet

        return read_parquet(path, nested=nested)
    return parse_table(read_text(path), path, header=header, known=known, nested=nested)


def first_row(path: Path) -> list[str]:
    """The cells of a table's first row, or the names of its columns; nothing when it cannot be read as one."""
    return beginning(path)[0]


def beginning(path: Path) -> tuple[list[str], list[Any]]:
    """The cells of a table's first row (or the names of its columns), and those of the row below it.

    Reads the beginning of the file only. Both are empty when it cannot be read as a table; a cell that holds a file
    is its bytes.
    """
    try:
        if _is_parquet(path):
            from flambeau.data.parquet import first_cells

            return first_cells(path)
        with _opened(path) as file:
            start = _decoded(file.read(_LOOKED_AT), path, cut=True)
        if _is_json(path):
            row, _ = json.JSONDecoder().raw_decode(start, start.index("{"))
            return ([str(key) for key in row], list(row.values())) if isinstance(row, dict) else ([], [])
        records = iter(_records(start, delimiter_of(start, path)))
        return next(records, []), next(records, [])
    except (FlambeauError, OSError, EOFError, zlib.error, ValueError, csv.Error):
        return [], []


def read_text(path: Path) -> str:
    """The text of a file, line ends as they are.

    Raises:
        DataError: It is missing, damaged, too large, or not UTF-8; the error says where the first wrong byte is.
    """
    try:
        with _opened(path) as file:
            content = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("The file cannot be read.", where=path, received=f"{type(error).__name__}: {error}") from error
    if len(content) > LARGEST:
        raise DataError(
            "The file is too large to be read into memory.",
            where=path,
            expected=f"at most {LARGEST >> 30} GiB",
            remedy="Take a part of it.",
        )
    return _decoded(content, path)


def _opened(path: Path) -> Any:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(PARQUET)


def _is_json(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(JSON)


def _decoded(content: bytes, path: Path, *, cut: bool = False) -> str:
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        return codecs.getincrementaldecoder(encoding)().decode(content, final=not cut)
    except UnicodeDecodeError as error:
        raise DataError(
            f"The file is not UTF-8: byte {error.start} (line {content.count(10, 0, error.start) + 1}) is "
            f"0x{content[error.start]:02x}.",
            where=path,
            expected="UTF-8, or UTF-16 with a byte order mark",
            remedy=f"Save it as UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > new-{path.name}",
        ) from error


def parse_table(
    text: str, path: Path, *, header: bool | None = None, known: Collection[str] = (), nested: bool = False
) -> Table:
    """As :func:`read_table`, from text that has been read; the path names it in errors and says the form."""
    if _is_json(path):
        return _from_json(text, path, nested)
    records: list[tuple[int, list[str]]] = []
    reader = _records(text, delimiter_of(text[:_LOOKED_AT], path))
    before = csv.field_size_limit(LARGEST)  # the module's own limit is 131,072 characters, which articles exceed
    try:
        first = 1
        for row in reader:
            if row:
                records.append((first, row))
            first = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"This is not a table: {error}.", where=f"{path}:{reader.line_num}") from error
    finally:
        csv.field_size_limit(before)
    if not records:
        raise DataError("The table is empty.", where=path, expected="a heading and rows")
    names = records[0][1]
    if header is None:
        header = bool({name.strip().casefold() for name in names} & {name.casefold() for name in known} or not known)
    return _assemble(path, records[1:] if header else records, _names(names, path) if header else len(names))


def _names(cells: Sequence[str], path: Path) -> list[str]:
    names = [cell.strip() or str(number) for number, cell in enumerate(cells, 1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"Several columns are called {', '.join(twice)}.", where=f"{path}:1", remedy="Rename them.")
    return names


def _assemble(path: Path, records: Iterable[tuple[int, list[str]]], names: list[str] | int) -> Table:
    titles = [str(number) for number in range(1, names + 1)] if isinstance(names, int) else names
    rows, lines, bad = [], [], {}
    for line, row in records:
        if len(row) == len(titles):
            rows.append(row)
            lines.append(line)
        else:
            bad[line] = DataError(
                "The row has another number of fields than the first one.",
                where=f"{path}:{line}",
                expected=f"{len(titles)} fields",
                received=f"{len(row)}: {', '.join(row)[:80]!r}",
                remedy="Put fields that hold the delimiter into double quotes.",
            )
    columns = {title: [row[place] for row in rows] for place, title in enumerate(titles)}
    return Table(path, columns, lines, not isinstance(names, int), bad)


def delimiter_of(beginning: str, path: Path) -> str:
    """The delimiter that parts the first rows into the most even number of fields; a comma when none does."""
    if path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab")):
        return "\t"

    def evenness(delimiter: str) -> tuple[float, int]:
        counts = []
        try:
            for row in _records(beginning, delimiter):
                counts += [len(row)] if row else []
                if len(counts) == _SNIFFED:
                    break
        except csv.Error:
            pass
        if not counts or counts[0] < 2:
            return (0.0, 0)
        return (sum(count == counts[0] for count in counts) / len(counts), counts[0])

    return max(DELIMITERS, key=evenness)


def _records(text: str, delimiter: str) -> Any:
    # Tabs part fields without quotes in most of the world's files; a quotation mark is then one like any other.
    quoted = delimiter != "\t" or (_QUOTED.search(text) and not _QUOTE.search(_QUOTED.sub("", text)))
    return csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    )


_QUOTE = re.compile(r'(?:^|[\t\n])"')
_QUOTED = re.compile(r'(?:^|(?<=[\t\n]))"(?:[^"]|"")*"(?=[\t\r\n]|$)')
"""A field of a table parted by tabs that begins with a quotation mark, and one that is in quotes from end to end."""


def _from_json(text: str, path: Path, nested: bool) -> Table:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    bad: dict[int, FlambeauError] = {}
    for line, value in _json_values(text, path, bad):
        if not isinstance(value, dict):
            bad[line] = _bad_json(path, line, "The row is no JSON object.", type(value).__name__)
            continue
        wrong = next((key for key, cell in value.items() if isinstance(cell, dict | list)), None)
        if wrong is not None and not nested:
            bad[line] = _bad_json(
                path, line, f"The value of {wrong!r} is not a text or number.", str(value[wrong])[:80]
            )
            continue
        rows.append(value)
        lines.append(line)
    names = list(dict.fromkeys(key for row in rows for key in row))
    if not names and not bad:
        raise DataError("The table is empty.", where=path, expected='a JSON object a line, as in {"text": "..."}')
    given = {name: [row.get(name) for row in rows] for name in names}
    columns = {name: [cell_text(cell) for cell in cells] for name, cells in given.items()}
    return Table(path, columns, lines, True, bad, nested=nested_cells(given))


def nested_cells(columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Of the columns in which there are lists or objects these, and None where a cell is none."""
    inner = {name: [cell if isinstance(cell, dict | list) else None for cell in c] for name, c in columns.items()}
    return {name: cells for name, cells in inner.items() if any(cell is not None for cell in cells)}


def _json_values(text: str, path: Path, bad: dict[int, FlambeauError]) -> Iterable[tuple[int, Any]]:
    if text.lstrip().startswith("["):
        try:
            return list(enumerate(json.loads(text), 1))
        except ValueError as error:
            raise DataError(f"This is not valid JSON: {error}.", where=path) from error
    values = []
    for line, row in enumerate(text.split("\n"), 1):
        if row.strip():
            try:
                values.append((line, json.loads(row)))
            except ValueError as error:
                bad[line] = _bad_json(path, line, f"The line is not valid JSON: {error}.", repr(row[:80]))
    return values


def _bad_json(path: Path, line: int, problem: str, received: str) -> DataError:
    return DataError(
        problem, where=f"{path}:{line}", expected='a JSON object, as in {"text": "..."}', received=received
    )


def cell_text(value: Any) -> str:
    """A value as the text of a cell: nothing for what is missing, whole numbers without a point, JSON for the nested.

    Example:
        >>> [cell_text(value) for value in (None, float("nan"), True, 3.0, "cat", ["cat"])]
        ['', '', 'true', '3', 'cat', '["cat"]']
    """
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def choose_column(table: Table, role: str, wish: str | None, usual: Sequence[str]) -> str:
    """The name of the column that has this role: the one wished for, or the first of the usual names that occurs.

    Raises:
        DataError: There is none; the error names the columns and the setting.
        BadRows: No row of the table could be read.
    """
    folded = {name.casefold(): name for name in table.columns}
    for name in [wish] if wish is not None else usual:
        if name in table.columns:
            return name
        if name.casefold() in folded:
            return folded[name.casefold()]
    if table.bad and not table.columns:
        raise BadRows(table.bad)
    missing = f"There is no column called {wish!r}. {did_you_mean(wish, table.columns)}" if wish is not None else (
        f"It is not clear which column holds the {role}."
    )  # fmt: skip
    raise DataError(
        missing,
        where=table.path,
        expected=f"one of {', '.join(usual)}" if wish is None else None,
        received=f"columns {', '.join(table.columns)}" + ("" if table.header else " (the first row is no heading)"),
        remedy="Correct the name." if role == VALUE else f"Say which one it is: --set data.columns.{role}=NAME",
    )


def optional_column(table: Table, role: str, wish: str | None, usual: Sequence[str]) -> str | None:
    """As :func:`choose_column`; None where none was wished for and none has a usual name."""
    if wish is None and not {name.casefold() for name in table.columns} & set(usual):
        return None
    return choose_column(table, role, wish, usual)


def check_classes(labels: Sequence[Any]) -> None:
    """Refuses labels that are no classes, because nearly every row has another.

    Raises:
        DataError: There are more than a thousand, and fewer than ten rows of each.
    """
    distinct = len(set(labels))
    if distinct > MOST_CLASSES and distinct > len(labels) / 10:
        raise DataError(
            f"The labels have {distinct:,} different values in {len(labels):,} rows, so they are no classes.",
            expected=f"at most {MOST_CLASSES:,} classes, or ten rows of each",
            remedy="Name the right column: --set data.columns.label=NAME",
        )


def filled(
    table: Table, columns: Mapping[str, str], on_bad: Literal["fail", "skip"], *, optional: Collection[str] = ()
) -> Table:
    """The table with only these columns, under their roles, and without the rows that cannot be used.

    Args:
        table: As it was read.
        columns: The name of a column by its role (``text``, ``label``); a row where one is empty is bad.
        on_bad: Whether bad rows are an error, or left out (they are then in :attr:`Table.bad`).
        optional: Roles whose cells may be empty.

    Raises:
        BadRows: Rows have another number of fields than the first, or an empty cell; each with its line.
    """
    bad = dict(table.bad)
    for role in columns.keys() - set(optional):
        for line, cell in zip(table.lines, table.columns[columns[role]], strict=True):
            if not cell.strip() and line not in bad:
                bad[line] = DataError(f"The {role} is empty.", where=f"{table.path}:{line}", expected=f"a {role}")
    if bad and on_bad == "fail":
        raise BadRows({line: bad[line] for line in sorted(bad)})
    good = [place for place, line in enumerate(table.lines) if line not in bad]
    kept = {role: [table.columns[name][place] for place in good] for role, name in columns.items()}

    def of(held: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        return {role: [held[name][place] for place in good] for role, name in columns.items() if name in held}

    lines = [table.lines[place] for place in good]
    return replace(table, columns=kept, lines=lines, bad=bad, files=of(table.files), nested=of(table.nested))
