"""From a data set as its source gives it to one that a network can be trained on: split, read, measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flambeau import __version__
from flambeau.columns import Dataset, Split, joined
from flambeau.core import Facts
from flambeau.data.mapped import Spot, allowed, gathered
from flambeau.data.splits import TOGETHER
from flambeau.errors import BadRows, DataError, FlambeauError
from flambeau.files import sha256
from flambeau.task import Task
from flambeau.userfile import in_file

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
    if dataset.info.get("fold") != recipe.data.fold:
        raise DataError(f"The data of {task.name} is not divided into folds.", where="data.fold")
    facts = task.facts(dataset.splits["train"], dataset.info, recipe)
    distinct = {id(split): (name, split) for name, split in reversed(list(dataset.splits.items()))}
    total = sum(len(split) for _, split in distinct.values())
    budget = allowed(recipe.data.memory)
    done = 0
    bad: dict[int, FlambeauError] = {}
    results: dict[int, Split] = {}
    outside: list[Path] = []
    for identity, (name, split) in distinct.items():
        failed: dict[int, FlambeauError] = {}
        chunks = _chunks(name, split, task, facts, failed, lambda rows: progress and progress(rows, total), done)
        if _dense(split):
            results[identity] = next(chunks)
        else:
            key = _key(dataset, name, split, task, facts, recipe)
            results[identity], path = gathered(chunks, failed, Spot(key, total, budget, recipe.data.on_bad))
            outside += [path] if path else []
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
    if outside:
        note = f"What is read takes more memory than data.memory allows ({budget / 1e6:,.0f} MB), so it is read from "
        info = {**info, "notes": [*info.get("notes", ()), note + f"{outside[0].parent}, in the cache."]}
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
    bad: dict[int, FlambeauError] = {}
    parts = list(_chunks(name, split, task, facts, bad, lambda rows: None, 0))
    if bad:
        raise BadRows(bad)
    return task.arrange(parts[0] if len(parts) == 1 else joined(parts), facts)


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


def _dense(split: Split) -> bool:
    return all(isinstance(column, Tensor) for column in split.columns.values())


def _chunks(
    name: str,
    split: Split,
    task: Task,
    facts: Facts,
    bad: dict[int, FlambeauError],
    tell: Callable[[int], object],
    before: int,
) -> Iterator[Split]:
    """The rows as the task reads them, some at a time, without the bad ones, whose errors are put into ``bad``."""
    if _dense(split):
        # Dense columns are read whole: where they fit already, no copy is made.
        yield Split(task.read(split.columns, facts))
        tell(before + len(split))
        return
    for first in range(0, len(split), _CHUNK):
        rows = torch.arange(first, min(first + _CHUNK, len(split)))
        try:
            yield Split(task.read(split.take(rows).columns, facts))
        except BadRows as error:
            for row, reason in error.rows.items():
                reason.where = _named(split, name, first + row) if reason.where in _NAMELESS else reason.where
                bad[first + row] = reason
            good = torch.tensor([row for row in rows.tolist() if row not in bad], dtype=torch.int64)
            if len(good):
                yield Split(task.read(split.take(good).columns, facts))
        tell(before + first + len(rows))


def _key(dataset: Dataset, name: str, split: Split, task: Task, facts: Facts, recipe: Recipe) -> str:
    """What the rows of a split, as they are read, depend on: content, division, facts and the code that reads."""
    code = sha256(Path(recipe.task.rpartition(":")[0])) if in_file(recipe.task) else ""
    division = recipe.data.model_dump(mode="json", exclude={"source", "root", "memory", "shuffle"})
    versions = [__version__, torch.__version__, metadata.version("pillow")]
    parts = [dataset.hash, name, len(split), task.name, code, division, facts, versions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _named(split: Split, name: str, row: int) -> str:
    names = split.columns.get("name")
    return str(names[row]) if isinstance(names, list) else f"{name} row {row}"


_NAMELESS = {None, "picture", "sound", "array", "tensor", "the given bytes"}
