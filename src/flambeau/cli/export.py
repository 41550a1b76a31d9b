"""``flambeau export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flambeau.cli.output import Debug, Json, Network, Output, Quiet, RunOrModel, TrustCode, output, own_network


def export(
    model: RunOrModel,
    format: Annotated[str, typer.Option(help="What to write: onnx, pt2, state-dict, ...")] = "state-dict",  # noqa: A002 - the option's name
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default one beside the model.", metavar="FILE")
    ] = None,
    static: Annotated[
        bool, typer.Option("--static", help="One shape and no resize inside, for compilers of small devices.")
    ] = False,
    size: Annotated[
        int | None, typer.Option(min=1, help="The side of the pictures that the graph works at.", metavar="N")
    ] = None,
    weights: Annotated[str, typer.Option(help="float32, float16 for half the size, or int8.")] = "float32",
    network: Network = None,
    trust_code: TrustCode = False,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Write a model in a form that other programs run or read, kept only when it answers as the model does."""
    with output(json, debug, quiet) as to:
        from flambeau.export.writing import export_model

        result = export_model(
            model,
            out,
            format,
            static=static,
            size=size,
            weights=weights,
            network=own_network(network),
            trust_code=trust_code,
            tell=(lambda sentence: None) if quiet else to.note,
        )
        if "differences" in result:
            _print_graphs(to, result, quiet)
        else:
            _print_weights(to, result, quiet)
        to.result(result)


def _print_graphs(to: Output, result: dict[str, Any], quiet: bool) -> None:
    """The files, what goes in and comes out, what was compared."""
    for path in result["files"]:
        to.text(f"{path}: {Path(path).stat().st_size:,} bytes")
    if quiet:
        return
    for kind in ("inputs", "outputs"):
        label = kind.removesuffix("s")
        for name, told in result[kind].items():
            name = name.removeprefix("model.")
            shape = "" if isinstance(told, str) else f"{told['dtype']} {' x '.join(map(str, told['shape']))}"
            to.text(f"{label:<9}{name}: {shape or told}{'' if isinstance(told, str) else ', ' + told['about']}")
    apart = ", ".join(f"{name} differ by at most {value:.1e}" for name, value in result["differences"].items())
    to.text(f"compared {_compared(result)}: {apart or 'nothing'}")
    if result["scores"]:
        told = [
            f"{name} {result['scores'][name]:.4f} (the model's: {result['model_scores'][name]:.4f})"
            for name in dict.fromkeys([result["select"], "loss"])
            if name in result["scores"]
        ]
        to.text(f"scores   {', '.join(told)}")
    if result["milliseconds"]:
        whole, small = result["milliseconds"]["float32"], result["milliseconds"]["int8"]
        to.text(f"speed    {small:.2f} ms a call; {whole:.2f} ms in float32, {whole / small:.2f} times as long")


def _compared(result: dict[str, Any]) -> str:
    """How many of what were compared."""
    tested, of, strangers = result["examples"], result["of"], result["strangers"]
    parts = []
    if tested:
        parts.append(f"{tested:,} test examples" if tested == of else f"{tested:,} of {of:,} test examples")
    if strangers:
        parts.append(f"{strangers} made-up ones of other shapes")
    return " and ".join(parts)


def _print_weights(to: Output, result: dict[str, Any], quiet: bool) -> None:
    counts = [f"{name} {value:,}" for name, value in result.items() if isinstance(value, int)]
    told = f"{result['tensors']} tensors" if "tensors" in result else ", ".join(counts)
    to.text(f"{result['out']}: {told}" if told else str(result["out"]))
    if not quiet:
        _print_preprocessing(to, result.get("preprocessing", {}))


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
