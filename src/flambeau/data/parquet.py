"""Tables in Parquet files, and Arrow tables in general, as Hugging Face's data sets are made of."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flambeau.data.tables import LARGEST, Table, cell_text, nested_cells
from flambeau.errors import DataError, MissingExtra


def read_parquet(path: Path, *, nested: bool = False) -> Table:
    """The table in a Parquet file; lists of texts and structs of numbers, too, where nested columns are asked for.

    Raises:
        DataError: The file cannot be read, is too large to be read into memory, or is empty.
        MissingExtra: pyarrow is not installed.
    """
    _, parquet = _pyarrow()
    if path.stat().st_size > LARGEST:
        raise DataError(
            "The file is too large to be read into memory.",
            where=path,
            expected=f"at most {LARGEST >> 30} GiB",
            remedy="Take a part of it, or keep the files outside the table, which then names them.",
        )
    with _said(path):
        table = parquet.ParquetFile(path).read()
    return from_arrow(table, path, nested=nested)


def first_cells(path: Path) -> tuple[list[str], list[Any]]:
    """The names of the columns, and the cells of the first row; a cell that holds a file is its bytes."""
    arrow, parquet = _pyarrow()
    with _said(path):
        batch = next(parquet.ParquetFile(path).iter_batches(batch_size=1), None)
    if batch is None:
        return [], []
    table = from_arrow(arrow.Table.from_batches([batch]), path)
    return list(table.columns), [table.files.get(name, column)[0] for name, column in table.columns.items()]


def from_arrow(
    table: Any, path: Path, classes: Mapping[str, list[str]] | None = None, *, nested: bool = False
) -> Table:
    """An Arrow table with its cells as texts; columns of lists and the like are left out, unless they are asked for.

    A column of bytes holds files, and so does one of structs ``{bytes, path}``, Hugging Face's form of pictures and
    sounds; its cells are what the files are called. Numbers that Hugging Face's metadata give names to become these.

    Args:
        table: A ``pyarrow.Table``.
        path: What it is called in errors.
        classes: What the numbers in some columns stand for; by default what the table's metadata say.
        nested: Takes lists of texts, or of numbers that stand for classes, and structs and maps of numbers into
            :attr:`~flambeau.data.tables.Table.nested`.

    Raises:
        DataError: It has no rows, or a text in it is damaged.
    """
    from pyarrow import types

    if not table.num_rows:
        raise DataError("The table is empty.", where=path)
    names = _class_names(table.schema.metadata) if classes is None else classes
    columns: dict[str, list[str]] = {}
    files: dict[str, list[bytes | None]] = {}
    inner: dict[str, list[Any]] = {}
    with _said(path):
        for field in table.schema:
            kind, column = field.type, table[field.name]
            if types.is_struct(kind) and {"bytes", "path"} <= {inner.name for inner in kind}:
                rows = [row or {} for row in column.to_pylist()]
                files[field.name] = [row.get("bytes") for row in rows]
                columns[field.name] = [
                    row.get("path") or (f"row {number}" if row.get("bytes") else "")
                    for number, row in enumerate(rows, 1)
                ]
            elif types.is_binary(kind) or types.is_large_binary(kind):
                files[field.name] = column.to_pylist()
                columns[field.name] = [
                    f"row {number}" if row else "" for number, row in enumerate(files[field.name], 1)
                ]
            elif not types.is_nested(kind):
                columns[field.name] = [_named(value, names.get(field.name)) for value in column.to_pylist()]
            elif nested and _is_target(kind, field.name in names):
                inner[field.name] = [_plain(value, names.get(field.name)) for value in column.to_pylist()]
                columns[field.name] = [cell_text(value) for value in inner[field.name]]
    return Table(path, columns, list(range(1, table.num_rows + 1)), files=files, nested=nested_cells(inner))


def _is_target(kind: Any, named: bool) -> bool:
    """Whether a type is that of labels, or of a number for each class; boxes and features are lists of other things."""
    from pyarrow import types

    def numeric(inner: Any) -> bool:
        return bool(types.is_integer(inner) or types.is_floating(inner))

    if types.is_list(kind) or types.is_large_list(kind):
        text = types.is_string(kind.value_type) or types.is_large_string(kind.value_type)
        return bool(text or (named and types.is_integer(kind.value_type)))
    if types.is_map(kind):
        return numeric(kind.item_type)
    return bool(types.is_struct(kind) and kind.num_fields and all(numeric(inner.type) for inner in kind))


def _plain(value: Any, names: list[str] | None) -> Any:
    """A list, struct or map as JSON has it; what a struct says nothing of is left out."""
    if isinstance(value, dict):
        return {name: number for name, number in value.items() if number is not None}
    if value and isinstance(value[0], tuple):
        return dict(value)
    return value if value is None else [_named(cell, names) for cell in value]


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """The names of the classes by column, where ``datasets`` has written them beside the table."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        found = {name: _names_of(feature) for name, feature in features.items()}
        return {name: titles for name, titles in found.items() if titles is not None}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _names_of(feature: Any) -> list[str] | None:
    """The names of a class feature, or of the class features that a list is made of."""
    inner = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
    return list(inner["names"]) if isinstance(inner, dict) and "names" in inner else None


def _named(value: Any, names: list[str] | None) -> str:
    if names is None or not isinstance(value, int):
        return cell_text(value)
    # Hugging Face writes -1 where a label is missing.
    return names[value] if 0 <= value < len(names) else ""


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turns what pyarrow raises about a damaged file into an error that names the file."""
    import pyarrow

    try:
        yield
    except (pyarrow.lib.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError("The file is no Parquet table, or is damaged.", where=path, received=error) from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet", "reading .parquet files") from error
    return pyarrow, pyarrow.parquet
