"""Ragged columns against plain lists, and splits made of columns of every kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flambeau.columns import Ragged, Split, joined

ROWS = st.lists(st.lists(st.integers(-5, 5), max_size=6), max_size=8)


def lists(rows: Ragged) -> list[list[Any]]:
    return [row.tolist() for row in rows]


def padded(rows: list[list[int]], fill: int, width: int) -> list[list[int]]:
    return [(row + [fill] * width)[:width] for row in rows]


@given(ROWS)
def test_rows_come_out_as_they_went_in(rows: list[list[int]]) -> None:
    made = Ragged.of(rows)
    assert lists(made) == rows and len(made) == len(rows)
    assert made.lengths.tolist() == [len(row) for row in rows] and made.lengths.dtype == torch.int64
    assert made.values.dtype == torch.int32 and made.offsets.tolist()[-1] == sum(map(len, rows))
    assert [made.row(number).tolist() for number in range(len(rows))] == rows


@given(ROWS, st.data())
def test_rows_are_taken_in_any_order_and_as_often_as_wanted(rows: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12)) if rows else []
    taken = Ragged.of(rows).take(torch.tensor(chosen, dtype=torch.int64))
    assert lists(taken) == [rows[number] for number in chosen]
    assert int(taken.offsets[0]) == 0 and int(taken.offsets[-1]) == len(taken.values)


@given(ROWS, st.integers(-9, 9), st.integers(-9, 9))
def test_a_slice_is_a_list_s(rows: list[list[int]], first: int, last: int) -> None:
    made = Ragged.of(rows)
    part = made[first:last]
    assert lists(part) == rows[first:last] and int(part.offsets[0]) == 0
    assert len(part.values) == sum(map(len, rows[first:last]))
    assert lists(part[1:]) == rows[first:last][1:]
    if len(part.values):
        assert part.values.untyped_storage().data_ptr() == made.values.untyped_storage().data_ptr()


@given(ROWS, st.integers(-3, 3), st.none() | st.integers(0, 8))
def test_padding_fills_on_the_right_and_cuts_what_is_wider(rows: list[list[int]], fill: int, width: int | None) -> None:
    matrix = Ragged.of(rows).padded(fill, width=width)
    wide = max(map(len, rows), default=0) if width is None else width
    assert matrix.shape == (len(rows), wide) and matrix.dtype == torch.int32
    assert matrix.tolist() == padded(rows, fill, wide)


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_parts_are_joined_as_lists_are(parts: list[list[list[int]]]) -> None:
    assert lists(Ragged.join([Ragged.of(part) for part in parts])) == [row for part in parts for row in part]


@given(ROWS, st.integers(-9, 9), st.integers(-9, 9))
def test_a_slice_pads_and_joins_like_rows_of_its_own(rows: list[list[int]], first: int, last: int) -> None:
    part = Ragged.of(rows)[first:last]
    wanted = rows[first:last]
    assert part.padded().tolist() == padded(wanted, 0, max(map(len, wanted), default=0))
    assert lists(Ragged.join([part, part])) == wanted * 2
    backwards = torch.arange(len(wanted) - 1, -1, -1)
    assert lists(part.take(backwards)) == wanted[::-1]


def test_nothing_at_all() -> None:
    none = Ragged.of([])
    assert len(none) == 0 and lists(none) == [] and none.padded().shape == (0, 0)
    assert lists(none.take(torch.tensor([], dtype=torch.int64))) == [] and lists(none[0:3]) == []
    assert lists(Ragged.join([none, Ragged.of([[1]])])) == [[1]]
    empty = Ragged.of([[], []])
    assert empty.padded().shape == (2, 0) and empty.padded(7, width=2).tolist() == [[7, 7], [7, 7]]
    assert empty.take(torch.tensor([1, 1, 0])).lengths.tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.float32, torch.bool])
def test_the_dtype_stays(dtype: torch.dtype) -> None:
    made = Ragged.of([[1, 0], [1]], dtype)
    for other in (made, made.take(torch.tensor([1])), made[:1], Ragged.join([made, made])):
        assert other.values.dtype == dtype and other.padded().dtype == dtype


def test_a_fill_between_whole_numbers_is_kept_for_fractions() -> None:
    assert Ragged.of([[1.5], []], torch.float32).padded(-0.5).tolist() == [[1.5], [-0.5]]


def test_rows_are_not_skipped_by_a_slice() -> None:
    with pytest.raises(ValueError, match="take"):
        Ragged.of([[1], [2], [3]])[::2]


def test_a_row_beyond_the_end_is_an_error() -> None:
    with pytest.raises(IndexError):
        Ragged.of([[1], [2]]).take(torch.tensor([2]))


def columns() -> Split:
    return Split({"label": torch.tensor([3, 1, 2]), "words": Ragged.of([[5, 6], [], [7]]), "name": ["a", "b", "c"]})


def plain(split: Split) -> dict[str, Any]:
    return {
        name: lists(column)
        if isinstance(column, Ragged)
        else list(column)
        if isinstance(column, list)
        else column.tolist()
        for name, column in split.columns.items()
    }


def test_a_split_takes_and_slices_columns_of_every_kind() -> None:
    taken = columns().take(torch.tensor([2, 0]))
    assert plain(taken) == {"label": [2, 3], "words": [[7], [5, 6]], "name": ["c", "a"]}
    assert plain(columns().slice(1, 3)) == {"label": [1, 2], "words": [[], [7]], "name": ["b", "c"]}
    assert plain(columns().slice(0, 99)) == plain(columns())


def test_splits_are_joined() -> None:
    both = joined([columns(), columns().slice(0, 1)])
    assert plain(both) == {"label": [3, 1, 2, 3], "words": [[5, 6], [], [7], [5, 6]], "name": ["a", "b", "c", "a"]}
    assert len(joined([])) == 0


def test_columns_are_added_replaced_and_left_out() -> None:
    split = columns().with_columns(label=torch.tensor([0, 0, 0]), more=[1, 2, 3]).without("words", "absent")
    assert plain(split) == {"label": [0, 0, 0], "name": ["a", "b", "c"], "more": [1, 2, 3]}
    with pytest.raises(ValueError, match="differ in length"):
        columns().with_columns(short=[1])


def test_a_column_is_asked_for_by_its_kind() -> None:
    split = columns()
    assert split.tensor("label").tolist() == [3, 1, 2] and lists(split.ragged("words")) == [[5, 6], [], [7]]
    for ask, name in ((split.tensor, "words"), (split.tensor, "name"), (split.ragged, "label")):
        with pytest.raises(TypeError, match=name):
            ask(name)
