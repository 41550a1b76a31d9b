"""Tables as people have them: delimiters, encodings, headings, quotes, and loud errors with line numbers."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flambeau.data.tables import choose_column, filled, first_row, is_table, parse_table, read_table
from flambeau.errors import BadRows, DataError

ROWS = [("Good, really; very | good.", "pos"), ('He said "no"\nand left.', "neg"), ("Fine.", "pos")]


def written(delimiter: str = ",", rows: list[tuple[str, str]] = ROWS) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows([("text", "label"), *rows])
    return buffer.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_and_encodings(tmp_path: Path, delimiter: str, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(written(delimiter).encode(encoding))
    table = read_table(path)
    assert list(zip(table.columns["text"], table.columns["label"], strict=True)) == ROWS
    assert table.lines == [2, 3, 5]
    assert first_row(path) == ["text", "label"]


def test_packed_tables_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.CSV.gz"
    path.write_bytes(gzip.compress(written().encode()))
    assert is_table(path)
    assert len(read_table(path)) == 3
    path.write_bytes(gzip.compress(written().encode())[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        read_table(path)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=8))
def test_what_the_csv_module_writes_comes_back(rows: list[tuple[str, str]]) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    table = parse_table(buffer.getvalue(), Path("a.csv"))
    assert list(zip(table.columns["text"], table.columns["label"], strict=True)) == rows


def test_tabs_need_no_quotes(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('ham\the said "ok, then\nspam\tWIN 5" now\n')
    table = read_table(path, known=["text", "label"])
    assert not table.header
    assert table.columns == {"1": ["ham", "spam"], "2": ['he said "ok, then', 'WIN 5" now']}


def test_long_fields_and_unix_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\r\n" + b"x" * 200_000 + b",a\r\n\r\ny,b\n")
    table = read_table(path)
    assert [len(text) for text in table.columns["text"]] == [200_000, 1]
    assert table.lines == [2, 4]


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": "a\u2028b", "label": 1}, {"label": True, "text": "c", "extra": None}]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n", encoding="utf-8")
    table = read_table(path)
    assert table.columns == {"text": ["a\u2028b", "c"], "label": ["1", "true"], "extra": ["", ""]}
    assert first_row(path) == ["text", "label"]
    listed = tmp_path / "a.json"
    listed.write_text(json.dumps(rows))
    assert read_table(listed).columns == table.columns


def test_bad_json_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": \n[1]\n{"text": {"b": 1}}\n')
    assert set(read_table(path).bad) == {2, 3, 4}


def test_rows_of_another_length_and_empty_cells_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,x\nb,y,z\n ,x\nc,\nd,y\n")
    table = read_table(path)
    with pytest.raises(BadRows) as caught:
        filled(table, {"text": "text", "label": "label"}, "fail")
    assert list(caught.value.rows) == [3, 4, 5]
    for part in (f"{path}:3", "another number of fields", f"{path}:4", "The text is empty", "The label is empty"):
        assert part in str(caught.value)
    kept = filled(table, {"text": "text", "label": "label"}, "skip")
    assert kept.columns == {"text": ["a", "d"], "label": ["x", "y"]}
    assert kept.lines == [2, 6]


def test_another_encoding_is_said_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\ncaf\xe9,x\n")
    with pytest.raises(DataError, match=r"byte 14 \(line 2\) is 0xe9") as caught:
        read_table(path)
    assert "iconv" in str(caught.value.remedy)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_table(tmp_path: Path, content: str) -> None:
    for name in ("a.csv", "a.jsonl"):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match="empty"):
            read_table(tmp_path / name)


def test_columns_are_chosen_by_wish_then_by_usual_names(tmp_path: Path) -> None:
    table = parse_table("Id,Review,Sentiment\n1,a,b\n", tmp_path / "a.csv")
    assert choose_column(table, "text", None, ["text", "review"]) == "Review"
    assert choose_column(table, "text", "id", ["text"]) == "Id"
    with pytest.raises(DataError, match="Did you mean Sentiment") as caught:
        choose_column(table, "label", "sentimnt", ["label"])
    assert "data.columns.label" in str(caught.value)
    with pytest.raises(DataError, match="not clear which column holds the label") as caught:
        choose_column(table, "label", None, ["label"])
    assert "Id, Review, Sentiment" in str(caught.value)


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="called text"):
        parse_table("text,text\na,b\n", Path("a.csv"))
