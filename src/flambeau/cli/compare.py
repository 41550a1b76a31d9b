"""``flambeau compare``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flambeau.cli.output import Debug, Json, Quiet, output


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.", metavar="RUN...")],
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with the runs' curves over each other.", metavar="FILE")
    ] = None,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Put runs beside each other: what differs between their recipes, and their scores."""
    with output(json, debug, quiet) as to:
        from flambeau import files
        from flambeau.workflow.comparing import compare as put_beside
        from flambeau.workflow.comparing import comparison_page, rows_of

        found = put_beside(runs)
        to.table(rows_of(found))
        for note in found.notes:
            to.note(note)
        if html is not None:
            files.write(html, comparison_page(found).encode())
        to.result({**asdict(found), **({} if html is None else {"html": str(html)})})
