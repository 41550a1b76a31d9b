"""``flambeau eject``."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from typing import Annotated

import typer

from flambeau.cli.output import Debug, Json, Quiet, output


def eject(
    run: Annotated[Path, typer.Argument(help="A run folder.", metavar="RUN")],
    out: Annotated[Path, typer.Option(help="The script to write.", metavar="FILE")] = Path("train.py"),
    numpy: Annotated[bool, typer.Option("--numpy", help="Use nothing but NumPy (for mlp and lenet).")] = False,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Write a run as one script of plain PyTorch that reproduces it without Flambeau."""
    with output(json, debug, quiet) as to:
        from flambeau.run import Run

        home, name = _WRITERS[numpy]
        result = getattr(importlib.import_module(home), name)(Run(run), out)
        to.text(f"{result['out']}: {result['lines']} lines")
        if len(result["files"]) > 1:
            to.text(f"beside it: {', '.join(str(file) for file in result['files'][1:])}")
        for sentence in result.get("left_out", ()):
            to.text(sentence)
        to.text(f"run it: python {shlex.quote(str(result['out']))}")
        to.result(result)


_WRITERS = {False: ("flambeau.eject.writing", "eject_run"), True: ("flambeau.eject.plain_numpy", "eject_numpy")}
"""What writes the script, with and without ``--numpy``; imported when it is wanted."""
