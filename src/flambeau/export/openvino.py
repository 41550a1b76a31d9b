"""OpenVINO, Intel's runtime: converted from the ONNX graph."""

from __future__ import annotations

from pathlib import Path

import torch

from flambeau.core import Batch
from flambeau.errors import MissingExtra
from flambeau.export import onnx
from flambeau.export.formats import Format, Runner, refused
from flambeau.export.portable.card import KEY
from flambeau.export.portable.running import openvino_run
from flambeau.program import Graph


def require() -> None:
    """Raises ``MissingExtra`` where the packages are not installed."""
    onnx.require()
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        raise MissingExtra("openvino", "openvino", "writing OpenVINO files") from error


def write(graph: Graph, out: Path, card: str) -> None:
    """Writes the graph as ``.xml`` and its weights as ``.bin`` beside it.

    Raises:
        ModelError: The converter cannot take the graph.
    """
    import openvino

    between = out.with_suffix(".onnx")
    onnx.write(graph, between, card)
    with refused(graph, "OpenVINO"):
        model = openvino.convert_model(str(between))
        model.set_rt_info(card, KEY)
        openvino.save_model(model, str(out), compress_to_fp16=False)
    between.unlink()


def opened(path: Path) -> Runner:
    """Runs a file on the CPU, in float32."""
    made = openvino_run(path)

    def run(inputs: Batch) -> dict[str, torch.Tensor]:
        found = made({name: value.numpy() for name, value in inputs.items()})
        return {name: torch.from_numpy(value) for name, value in found.items()}

    return run


FORMAT = Format(
    name="openvino",
    suffix=".xml",
    about="OpenVINO's intermediate representation, for Intel's processors and graphics.",
    write=write,
    open=opened,
    require=require,
    plain=True,
    strict=True,
    weights=("float32",),
)
