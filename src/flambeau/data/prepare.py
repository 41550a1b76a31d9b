"""From a data set as its source gives it to one that a network can be trained on: split, read, measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flambeau.columns import Dataset, Split, joined
from flambeau.core import Facts
from flambeau.data.splits import TOGETHER
from flambeau.errors import BadRows, DataError, FlambeauError
from flambeau.task import Task

if TYPE_CHECKING:
    from flambeau.recipe import Recipe

TOLERATED = 0.01
"""The part of the rows that ``on_bad = skip`` may leave out."""

_CHUNK = 1024

Progress = Callable[[int, int], None]
"""Is told how many rows of how many have been read."""


def prepare(dataset: Dataset, task: Task, recipe: Recipe, *, progress: Progress | None = None) -> tuple[Facts, Dataset]:
    """The facts about a data set, and the data set with its splits made and every row read.

    Args:
        dataset: As its source gives it.
        task: Says what is to be known and how a row is read.
        recipe: Its ``data`` part says how to split and what to do about rows that cannot be read.
        progress: Told after every thousand rows or so.

    Returns:
        The facts that are stored with the model, and the data set of example columns; its ``info`` has further notes
        and ``skipped``, the names of what was left out.

    Raises:
        BadRows: Rows cannot be read, and ``data.on_bad`` is ``fail``.
        DataError: More than 1 % of the rows cannot be read, or the data cannot be divided.
    """
    _require_groups(dataset, recipe)
    dataset = task.intake.divide(dataset, recipe)
    facts = task.facts(dataset.splits["train"], dataset.info, recipe)
    distinct = {id(split): (name, split) for name, split in reversed(list(dataset.splits.items()))}
    total = sum(len(split) for _, split in distinct.values())
    done = 0
    bad: dict[int, FlambeauError] = {}
    results: dict[int, Split] = {}
    for identity, (name, split) in distinct.items():
        results[identity], failed = _read(
            name, split, task, facts, lambda rows: progress and progress(rows, total), done
        )
        bad |= {done + row: error for row, error in failed.items()}
        done += len(split)
    info = {**dataset.info}
    skipped = list(info.get("skipped", ()))
    if bad:
        if recipe.data.on_bad == "fail":
            raise BadRows(bad)
        skipped += [str(error.where) for error in bad.values()]
        check_skipped(len(skipped), total + len(info.get("skipped", ())), next(iter(bad.values())))
        note = f"{len(bad):,} of {total:,} rows could not be read and were left out: {_listed(list(bad.values()))}."
        info = {**info, "skipped": skipped, "notes": [*info.get("notes", ()), note]}
    arranged = {identity: task.arrange(split, facts) for identity, split in results.items()}
    splits = {name: arranged[id(split)] for name, split in dataset.splits.items()}
    return task.measure(splits["train"], facts, recipe), Dataset(dataset.name, splits, info, dataset.hash)


def _require_groups(dataset: Dataset, recipe: Recipe) -> None:
    """Refuses a wish for groups that the source has taken no notice of."""
    if recipe.data.group is not None and not any(TOGETHER in split.columns for split in dataset.splits.values()):
        raise DataError(
            "Groups are asked for, and the data comes without any.",
            where="data.group",
            expected="a table with such a column, or a folder of pictures in whose paths the expression is found",
            received=recipe.data.group,
            remedy="Leave data.group out, or name another column or expression.",
        )


def read_split(split: Split, task: Task, facts: Facts, name: str) -> Split:
    """One split as the task reads it, with facts that are known already.

    Raises:
        BadRows: Rows cannot be read.
    """
    read, bad = _read(name, split, task, facts, lambda rows: None, 0)
    if bad:
        raise BadRows(bad)
    return task.arrange(read, facts)


def check_skipped(skipped: int, total: int, example: FlambeauError) -> None:
    """Refuses to go on when too much was left out.

    Raises:
        DataError: More than 1 % of the rows.
    """
    if skipped > TOLERATED * total:
        raise DataError(
            f"{skipped:,} of {total:,} rows cannot be read, which is more than 1 %; something is wrong with the data. "
            f"One of them is {example.where}: {example.problem}",
            expected=f"at most {int(TOLERATED * total):,} rows left out",
            remedy="Repair or remove the files; --on-bad fail lists them.",
        )


def _listed(errors: list[FlambeauError]) -> str:
    told = "; ".join(f"{error.where} ({error.problem.rstrip('.')})" for error in errors[:20])
    return told if len(errors) <= 20 else f"{told}; and {len(errors) - 20} more"


def _read(
    name: str, split: Split, task: Task, facts: Facts, tell: Callable[[int], object], before: int
) -> tuple[Split, dict[int, FlambeauError]]:
    """The split as the task reads it, without its bad rows, and their errors by row."""
    if all(isinstance(column, Tensor) for column in split.columns.values()):
        # Dense columns are read whole: where they fit already, no copy is made.
        read = task.read(split.columns, facts)
        tell(before + len(split))
        return Split(read), {}
    parts: list[Split] = []
    bad: dict[int, FlambeauError] = {}
    for first in range(0, len(split), _CHUNK):
        rows = torch.arange(first, min(first + _CHUNK, len(split)))
        try:
            parts.append(Split(task.read(split.take(rows).columns, facts)))
        except BadRows as error:
            for row, reason in error.rows.items():
                reason.where = _named(split, name, first + row) if reason.where in _NAMELESS else reason.where
                bad[first + row] = reason
            good = torch.tensor([row for row in rows.tolist() if row not in bad], dtype=torch.int64)
            if len(good):
                parts.append(Split(task.read(split.take(good).columns, facts)))
        tell(before + first + len(rows))
    return joined(parts), bad


def _named(split: Split, name: str, row: int) -> str:
    names = split.columns.get("name")
    return str(names[row]) if isinstance(names, list) else f"{name} row {row}"


_NAMELESS = {None, "picture", "sound", "array", "tensor", "the given bytes"}
