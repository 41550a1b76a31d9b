"""``flambeau resume``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flambeau.cli.output import Debug, Device, Json, Quiet, output


def resume(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    epochs: Annotated[int | None, typer.Option(help="Train a finished run for so many more epochs.")] = None,
    device: Device = None,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Go on with an interrupted run, to the end it would have had."""
    with output(json, debug, quiet) as to:
        from flambeau.workflow.training import resume as resume_run

        to.result(resume_run(run, epochs=epochs, device=device, console=to.console).summary())
