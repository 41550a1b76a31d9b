"""``flambeau compare``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flambeau.cli.output import Debug, Json, Output, Quiet, output

if TYPE_CHECKING:
    from flambeau.workflow.comparing import Comparison


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.", metavar="RUN...")],
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Put runs beside each other: what differs between their recipes, and their scores."""
    with output(json, debug, quiet) as to:
        from flambeau.workflow.comparing import compare as put_beside

        found = put_beside(runs)
        _print(to, found)
        for note in found.notes:
            to.note(note)
        to.result(asdict(found))


def _print(to: Output, found: Comparison) -> None:
    names = [Path(run["run"]).name for run in found.runs]
    rows = [["", *names]]
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
    to.table(rows)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _score(value: float | None, best: bool) -> str:
    return "" if value is None else f"{value:.4f}{' *' if best else ''}"
