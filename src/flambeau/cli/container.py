"""``flambeau container``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flambeau.cli.output import Debug, Json, Network, Quiet, TrustCode, output, own_network
from flambeau.cli.serve import Engine


def container(
    models: Annotated[
        list[str],
        typer.Argument(help="Runs, model files or ONNX files, each with a name if wanted.", metavar="[NAME=]MODEL..."),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write, empty or not there yet.", metavar="FOLDER")],
    engine: Annotated[Engine, typer.Option(help="What computes: onnx without PyTorch, or torch.")] = Engine.ONNX,
    network: Network = None,
    trust_code: TrustCode = False,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Write a folder that a container with a server is built from, with all that it needs but the packages."""
    with output(json, debug, quiet) as to:
        from flambeau.container.writing import write_container

        result = write_container(
            models,
            out,
            engine=str(engine),
            network=own_network(network),
            trust_code=trust_code,
            tell=(lambda sentence: None) if quiet else to.note,
        )
        for name, size in result["files"].items():
            to.text(f"{out / name}: {size:,} bytes")
        if not quiet:
            to.text(f"installs {len(result['requirements'])} packages into Python {result['python']}; see README.md")
        to.result(result)
