"""Several runs beside each other: what differs between their recipes, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flambeau.errors import UsageError
from flambeau.run import Run

UNSAID = ("name", "description")
"""What recipes may differ in without it meaning anything."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found.

    Attributes:
        runs: For each run ``run`` (its folder), ``status``, ``task``, ``model``, ``data``, ``epochs``, ``seconds`` and
            ``scores``.
        differences: Keys of the recipe whose values are not the same in all runs, each with the value of every run;
            None where a recipe does not have the key.
        best: For each score of the test split the numbers of the runs that reached the best value, where it is known
            which way is better.
        notes: Sentences about what makes the scores hard to compare.
    """

    runs: list[dict[str, Any]]
    differences: dict[str, list[Any]]
    best: dict[str, list[int]]
    notes: list[str]


def compare(runs: Sequence[str | Path | Run]) -> Comparison:
    """Puts runs beside each other; they need not be finished.

    Args:
        runs: Two or more runs, or their folders.

    Raises:
        UsageError: There are fewer than two.
        RunError: One is not a run folder.
    """
    opened = [run if isinstance(run, Run) else Run(run) for run in runs]
    if len(opened) < 2:
        raise UsageError("A comparison needs at least two runs.", received=len(opened))
    flat = [_flat(run.recipe.to_dict()) for run in opened]
    keys = sorted({key for recipe in flat for key in recipe} - set(UNSAID))
    values = {key: [recipe.get(key) for recipe in flat] for key in keys}
    differences = {key: row for key, row in values.items() if any(value != row[0] for value in row)}
    return Comparison([_about(run) for run in opened], differences, _best(opened), _notes(opened))


def rows_of(found: Comparison) -> list[list[str]]:
    """The comparison as a table of text: a column for each run, the names in the first row."""
    rows = [["", *(Path(run["run"]).name for run in found.runs)]]
    rows += [[key, *(_cell(run[key]) for run in found.runs)] for key in ("task", "model", "data", "epochs")]
    rows.append(["time", *("" if run["seconds"] is None else f"{run['seconds']:.0f} s" for run in found.runs)])
    told = {"task", "model.name", "data.source"}
    rows += [[key, *map(_cell, values)] for key, values in found.differences.items() if key not in told]
    scores = dict.fromkeys(
        name for run in found.runs for name in run["scores"] if name.startswith(("test/", "baseline/"))
    )
    for name in scores:
        best = found.best.get(name, [])
        cells = [_score(run["scores"].get(name), number in best) for number, run in enumerate(found.runs)]
        rows.append([name, *cells])
    return rows


def comparison_page(found: Comparison) -> str:
    """The comparison with the runs' curves, as one HTML text that needs nothing outside itself."""
    from flambeau.report.comparison import render_comparison

    rows = rows_of(found)
    return render_comparison(rows[0][1:], rows, [list(Run(run["run"]).metrics()) for run in found.runs], found.notes)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _score(value: float | None, best: bool) -> str:
    return "" if value is None else f"{value:.4f}{' *' if best else ''}"


def _about(run: Run) -> dict[str, Any]:
    return {
        "run": str(run.path),
        "status": run.info["status"],
        "task": run.recipe.task,
        "model": run.recipe.model.name,
        "data": run.info["data"]["name"],
        "epochs": run.info.get("epochs"),
        "seconds": run.info.get("seconds", {}).get("total"),
        "scores": run.scores,
    }


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _best(runs: list[Run]) -> dict[str, list[int]]:
    """For the selecting score of the runs' task, and for the loss, who is best; nobody where data or tasks differ."""
    if len({(run.recipe.task, run.info["data"]["hash"]) for run in runs}) > 1:
        return {}
    # As the run itself noted it: a task of the user's own need not be executed for a comparison.
    scoring = runs[0].info.get("scoring")
    modes = {"loss": min} | ({scoring["select"]: max if scoring["mode"] == "max" else min} if scoring else {})
    found = {}
    for name, pick in modes.items():
        reached = {n: run.scores[f"test/{name}"] for n, run in enumerate(runs) if f"test/{name}" in run.scores}
        if len(reached) > 1:
            top = pick(reached.values())
            found[f"test/{name}"] = [number for number, score in reached.items() if score == top]
    return found


def _notes(runs: list[Run]) -> list[str]:
    notes = []
    if len({run.recipe.task for run in runs}) > 1:
        notes.append("The runs are for different tasks, so scores of the same name may mean different things.")
    if len({run.info["data"]["hash"] for run in runs}) > 1:
        notes.append("The runs were trained and scored on different data, so their scores cannot be set side by side.")
    elif len({_division(run) for run in runs}) > 1:
        notes.append("The runs divide the same data differently, so they were scored on different examples.")
    unfinished = [str(run.path) for run in runs if not run.finished]
    if unfinished:
        notes.append(f"Not finished, so without scores: {', '.join(unfinished)}.")
    if any(run.recipe.data.validation == "test" for run in runs):
        notes.append("At least one run used the test split for validation as well, which flatters its test scores.")
    return notes


def _division(run: Run) -> tuple[Any, ...]:
    data = run.recipe.data
    examples = run.info["data"].get("examples", {})
    return (data.test, data.split_seed, data.fold, data.group, tuple(sorted(examples.items())))
