"""``flambeau export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flambeau.cli.output import Debug, Json, Network, Output, Quiet, TrustCode, output


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
        from flambeau.export.writing import export_model
        from flambeau.userfile import load_object

        made_by = load_object(network) if network else None
        result = export_model(model, out, format, network=made_by, trust_code=trust_code)
        to.text(f"{result['out']}: {result['tensors']} tensors")
        if not quiet:
            _print_preprocessing(to, result["preprocessing"])
        to.result(result)


def _print_preprocessing(to: Output, wanted: dict[str, Any]) -> None:
    """What plain PyTorch has to do with a picture before it gives it to the network."""
    size = "x".join(map(str, [wanted["channels"], *wanted["size"]]))
    to.text(f"input    float32 N x {size}, pixels in [0, 1]")
    if wanted.get("mean") is not None:
        mean, std = (", ".join(f"{value:.6f}" for value in wanted[name]) for name in ("mean", "std"))
        to.text(f"         then (x - mean) / std with mean {mean} and std {std}")
    to.text(f"output   logits in the order {', '.join(wanted['classes'])}")
