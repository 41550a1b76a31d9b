"""``flambeau export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flambeau.cli.output import Debug, Json, Network, Output, Quiet, RunOrModel, TrustCode, output, own_network


def export(
    model: RunOrModel,
    out: Annotated[Path, typer.Option(help="The file to write.", metavar="FILE")],
    format: Annotated[str, typer.Option(help="What to write: state-dict, word2vec, ...")] = "state-dict",  # noqa: A002 - the option's name
    network: Network = None,
    trust_code: TrustCode = False,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Write a model in a form that other programs read."""
    with output(json, debug, quiet) as to:
        from flambeau.export.writing import export_model

        result = export_model(model, out, format, network=own_network(network), trust_code=trust_code)
        counts = [f"{name} {value:,}" for name, value in result.items() if isinstance(value, int)]
        told = f"{result['tensors']} tensors" if "tensors" in result else ", ".join(counts)
        to.text(f"{result['out']}: {told}" if told else str(result["out"]))
        if not quiet:
            _print_preprocessing(to, result.get("preprocessing", {}))
        to.result(result)


def _print_preprocessing(to: Output, wanted: dict[str, Any]) -> None:
    """What plain PyTorch has to do with an input before it gives it to the network, as far as the format says it."""
    if "channels" in wanted and "size" in wanted:
        size = "x".join(map(str, [wanted["channels"], *wanted["size"]]))
        to.text(f"input    float32 N x {size}, pixels in [0, 1]")
    if wanted.get("mean") is not None and wanted.get("std") is not None:
        mean, std = (", ".join(f"{value:.6f}" for value in _list(wanted[name])) for name in ("mean", "std"))
        to.text(
            f"{'         then' if 'size' in wanted else 'input   '} (x - mean) / std with mean {mean} and std {std}"
        )
    if wanted.get("classes"):
        to.text(f"output   logits in the order {', '.join(wanted['classes'])}")


def _list(value: Any) -> list[float]:
    return value if isinstance(value, list) else [value]
