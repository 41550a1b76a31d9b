"""Runs that several of the contract tests look at: each is made once, and not to be changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from small_data import Case, case
from torch import Tensor

import flambeau
from flambeau import catalog
from flambeau.columns import Column, Dataset, Ragged, Split
from flambeau.core import Facts
from flambeau.data.prepare import prepare
from flambeau.recipe import Recipe
from flambeau.task import Task
from flambeau.workflow.planning import resolve


class StoppedError(Exception):
    """What stands for a kill: whatever is raised while training goes on."""


@cache
def source(task: str, base: Path) -> Path:
    """The case's data, written once."""
    folder = base / "contracts" / task / "data"
    folder.mkdir(parents=True)
    return case(task).write(folder)


def recipe_of(task: str, base: Path, *settings: str) -> Recipe:
    """The recipe that the case's runs have."""
    return resolve(str(source(task, base)), None, task=task, settings=case(task).all_settings(*settings))


@cache
def raw(task: str, base: Path) -> Dataset:
    """The case's data as its source gives it, divided."""
    found, recipe = catalog.task(task), recipe_of(task, base)
    return found.intake.divide(found.intake.open(source(task, base), recipe), recipe)


@cache
def prepared(task: str, base: Path) -> tuple[Facts, Dataset]:
    """The case's data as the task reads it."""
    return prepare(raw(task, base), catalog.task(task), recipe_of(task, base))


@cache
def trained(task: str, base: Path) -> flambeau.Run:
    """A finished run."""
    found = case(task)
    return flambeau.train(
        source(task, base),
        task=task,
        settings=found.all_settings(),
        device="cpu",
        out=base / "contracts" / task / "whole" / "run",
        quiet=True,
    )


def some_rows(split: Split, count: int) -> Split:
    """The first rows of a split."""
    return split.slice(0, min(count, len(split)))


def cut(column: Column, first: int, last: int) -> Column:
    """Neighbouring rows of a column."""
    return column[first:last]


def same_rows(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same bits, where the wider one ends in padding: one value all over."""
    if one.dtype != other.dtype or one.dim() != other.dim() or len(one) != len(other):
        return False
    if one.dim() < 2:
        return _equal(one, other)
    narrow, wide = sorted((one, other), key=lambda tensor: tensor.shape[1])
    width = narrow.shape[1]
    beyond = wide[:, width:]
    return _equal(wide[:, :width], narrow) and (not beyond.numel() or bool((beyond == beyond.flatten()[0]).all()))


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(torch.equal(one, other) or ((one == other) | (one != one)).all())


def close_rows(one: Tensor, other: Tensor) -> bool:
    """As :func:`same_rows`, but for rounding, and whatever the padding holds."""
    if one.dim() >= 2 and other.dim() >= 2:
        width = min(one.shape[1], other.shape[1])
        one, other = one[:, :width], other[:, :width]
    return torch.allclose(one.double(), other.double(), rtol=1e-3, atol=1e-4, equal_nan=True)


def close(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal but for rounding."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(close(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(close(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-4) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def as_rows(column: Column) -> list[Any]:
    """A column as plain lists."""
    if isinstance(column, Ragged | Tensor):
        return [row.tolist() for row in column]
    return column


def inputs(task: Task, found: Case, base: Path) -> list[Any]:
    """The raw inputs that the case asks about."""
    return [value for _, value in task.view.inputs(found.asks(source(task.name, base)))]
