"""A task in one file, which docs/extending.md walks through: from the numbers in a row of a table to one more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.columns import Column, Columns, Dataset, Split
from flambeau.core import Batch, Facts, Loss, Metrics, Phase, Scores
from flambeau.data.hashing import dataset_hash, row_hashes
from flambeau.data.splits import with_test_and_validation
from flambeau.data.tables import is_table, read_table
from flambeau.errors import BadRows, DataError, FlambeauError
from flambeau.recipe import Part, Recipe
from flambeau.task import Intake, Task, View
from flambeau.tasks.common import classless_checks, optimizer_checks, optimizer_of


class Options(Part):
    """The table `[options]` in this task's recipes."""

    target: str | None = None  # the column to predict; the last one when nothing is said


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    """The rows of a CSV file as dictionaries, by file and line."""
    found = read_table(path, header=True)
    if found.bad:
        raise BadRows(found.bad)
    rows = zip(found.lines, *found.columns.values(), strict=True)
    return {f"{path}:{line}": dict(zip(found.columns, cells, strict=True)) for line, *cells in rows}


def dataset_of(named: Mapping[str, Mapping[str, Any]], name: str, source: str | None, recipe: Recipe) -> Dataset:
    """A data set of rows that are still as they were found, with a name for each."""
    columns = list(next(iter(named.values()), {}))
    target = Options.model_validate(recipe.options).target or "".join(columns[-1:])
    if target not in columns:
        raise DataError("There is no such column.", where=source, expected=", ".join(columns), received=target)
    columns.remove(target)
    rows = list(named.values())
    inputs = [json.dumps([str(row.get(column)) for column in columns]) for row in rows]
    hashed = dataset_hash({"train": Split({"input": inputs, "target": [str(row.get(target)) for row in rows]})})
    split = Split({"row": rows, "name": list(named), "group": row_hashes(inputs)})
    info = {"source": source, "hash": hashed, "notes": [], "columns": columns, "target": target}
    return Dataset(name, {"train": split}, info, hashed)


def read(raw: Columns, facts: Facts) -> dict[str, Column]:
    """Numbers, float32 (N, F), and in a data set (where rows have names) the target, float32 (N,)."""
    known = "name" in raw
    columns = [*facts["columns"], facts["target"]] if known else facts["columns"]
    numbers, bad = torch.zeros(len(raw["row"]), len(columns)), dict[int, FlambeauError]()
    for number, (row, name) in enumerate(zip(raw["row"], raw["name"] if known else raw["row"], strict=True)):
        try:
            numbers[number] = torch.tensor([number_in(row, column, name) for column in columns])
        except DataError as error:
            bad[number] = error
    if bad:
        raise BadRows(bad)
    return {"numbers": numbers[:, :-1], "target": numbers[:, -1]} if known else {"numbers": numbers}


def number_in(row: Mapping[str, Any], column: str, name: object) -> float:
    """The finite number in a column of a row."""
    try:
        number = float(row[column])
    except (KeyError, TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise DataError(f"There is no number in the column {column}.", where=name, received=row.get(column, "nothing"))
    return number


def measure(split: Split, facts: Facts, recipe: Recipe) -> Facts:
    """The facts with mean and standard deviation of the columns and of the target."""
    numbers, target = split.tensor("numbers").double(), split.tensor("target").double()
    found = {"mean": numbers.mean(0), "std": numbers.std(0).clamp(min=1e-6)}
    found |= {"target_mean": target.mean(), "target_std": target.std().clamp(min=1e-6)}
    return {**facts, **{name: value.tolist() for name, value in found.items()}}


def mlp(facts: Facts, *, widths: Sequence[int] = (64, 64), dropout: float = 0.0) -> nn.Module:
    """Linear layers with ReLU between them."""
    sides = [len(facts["columns"]), *widths]
    layers = [(nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)) for a, b in pairwise(sides)]
    return nn.Sequential(*chain(*layers), nn.Linear(sides[-1], 1))


class Regressor(nn.Module):
    """A network behind the normalisation of its input, with its output in the unit of the target."""

    scale: Tensor

    def __init__(self, network: nn.Module, facts: Facts) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", torch.tensor([facts["mean"], facts["std"]]))
        self.mean, self.std = float(facts["target_mean"]), float(facts["target_std"])

    def forward(self, numbers: Tensor) -> Tensor:
        outputs: Tensor = self.network((numbers - self.scale[0]) / self.scale[1]).squeeze(1)
        return self.mean + self.std * outputs


def phases(recipe: Recipe, facts: Facts) -> tuple[Phase, ...]:
    """The squared error, in units of the target's variance."""

    def loss(model: nn.Module, batch: Batch) -> Loss:
        return Loss(F.mse_loss(model(batch["numbers"]), batch["target"], reduction="sum") / facts["target_std"] ** 2)

    return (Phase("loss", loss, lambda batch: len(batch["target"]), optimizer_of(recipe)),)


def metrics(recipe: Recipe, facts: Facts) -> Metrics:
    """Root mean squared error and mean absolute error, in the target's unit, and R squared."""
    names = ("n", "squares", "sizes", "sum", "spread")

    def add(sums: dict[str, Tensor], outputs: Batch, batch: Batch) -> None:
        target = batch["target"].to(sums["n"].dtype)
        error, centred = outputs["value"] - target, target - facts["target_mean"]
        added = (torch.ones_like(error), error**2, error.abs(), centred, centred**2)
        for name, values in zip(names, added, strict=True):
            sums[name] += values.sum()

    def result(sums: Mapping[str, Tensor]) -> Scores:
        n, squares, sizes, total, spread = (float(sums[name]) for name in names)
        return {"rmse": (squares / n) ** 0.5, "mae": sizes / n, "r2": 1 - squares / max(spread - total**2 / n, 1e-12)}

    def start(device: torch.device) -> dict[str, Tensor]:
        real = torch.float32 if device.type == "mps" else torch.float64
        return {name: torch.zeros((), dtype=real, device=device) for name in names}

    return Metrics(start, add, result, select="rmse", mode="min", columns=(("rmse", ".5g"), ("r2", ".4f")))


def inputs(arguments: Sequence[str]) -> list[tuple[str, Any]]:
    """`area=82,rooms=3` is a row, and the name of a CSV file stands for all of its rows."""
    found: list[tuple[str, Any]] = []
    for text in arguments:
        row = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
        found += rows_of(Path(text)).items() if is_table(Path(text)) else [(text, row)]
    return found


INTAKE = Intake(
    forms="a CSV file of numbers with a heading",
    claims=is_table,
    open=lambda path, recipe: dataset_of(rows_of(path), path.stem, str(path), recipe),
    of_python=lambda rows, name, origin, recipe: dataset_of(
        {f"row {n}": row for n, row in enumerate(rows)}, name or "table", origin, recipe
    ),
    divide=lambda dataset, recipe: with_test_and_validation(dataset, recipe.data, noun="rows"),
    describe=lambda data: {**data.info, "name": data.name, "rows": {k: len(v) for k, v in data.splits.items()}},
)

VIEW = View(
    asks="COLUMN=NUMBER,...",
    inputs=inputs,
    line=lambda row, top: f"{row['target']} {row['value']:.5g}",
    cells=lambda row, top: {row["target"]: f"{row['value']:.6g}"},
    report=lambda outcome: ([(k, f"{v:.5g}", "") for k, v in outcome.evaluation.scores.items()], []),
    tell=lambda outcome, recipe: ["test " + ", ".join(f"{k} {v:.5g}" for k, v in outcome.evaluation.scores.items())],
    about=lambda known: {"columns": ", ".join(known["columns"]), "target": known["target"]},
    samples=lambda dataset, count: [json.dumps(row) for row in dataset.splits["train"]["row"][:count]],
)

TASK = Task(
    name="table-regression",
    about="A number for each row of a table.",
    family="tables",
    recipe={"name": "table", "model": {"name": "mlp"}, "optimizer": {"lr": 0.003}, "train": {"epochs": 12}},
    input="row",
    intake=INTAKE,
    view=VIEW,
    facts=lambda split, info, recipe: {"columns": info["columns"], "target": info["target"]},
    read=read,
    measure=measure,
    collate=lambda examples: {name: column for name, column in examples.items() if isinstance(column, Tensor)},
    transform=lambda recipe, facts: None,
    build=lambda recipe, facts, builder: Regressor(builder(facts, **recipe.model.arguments()), facts),
    phases=phases,
    metrics=metrics,
    predict=lambda model, batch: {"value": model(batch["numbers"])},
    decode=lambda outputs, facts: [{"target": facts["target"], "value": value} for value in outputs["value"].tolist()],
    example=lambda facts: {"numbers": torch.tensor([facts["mean"]])},
    toy={"columns": ["x"], "target": "y", "mean": [0.0], "std": [1.0], "target_mean": 0.0, "target_std": 1.0},
    networks={"mlp": mlp},
    options=Options,
    checks=lambda recipe: classless_checks(recipe) + optimizer_checks(recipe),
    keep=("value", "target"),
)
