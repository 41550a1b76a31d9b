"""``flambeau export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flambeau.cli.output import Debug, Json, Network, Quiet, TrustCode, output


def export(
    model: Annotated[Path, typer.Argument(help="A run folder or a model file.", metavar="RUN|MODEL")],
    out: Annotated[Path, typer.Option(help="The file to write.", metavar="FILE")],
    format: Annotated[str, typer.Option(help="What to write: state-dict.")] = "state-dict",  # noqa: A002 - the option's name
    network: Network = None,
    trust_code: TrustCode = False,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Write a model in a form that other programs read."""
    with output(json, debug, quiet) as to:
        from flambeau import catalog
        from flambeau.model import load
        from flambeau.userfile import load_object

        write = catalog.find("formats", format)
        made_by = load_object(network) if network else None
        result = write(load(model, network=made_by, trust_code=trust_code), out)
        to.text(f"{result['out']}: {result['tensors']} tensors")
        if not quiet:
            to.text(f"input: {result['preprocessing']}")
        to.result(result)
