"""ONNX: a graph for ONNX Runtime and the many programs that read it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flambeau.core import Batch
from flambeau.engine.quiet import quiet_log
from flambeau.errors import MissingExtra
from flambeau.export.formats import Format, Runner, refused, traced
from flambeau.export.portable.card import KEY
from flambeau.export.portable.running import onnx_session, run_session
from flambeau.program import Graph


def require() -> None:
    """Raises ``MissingExtra`` where the packages are not installed."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ImportError as error:
            raise MissingExtra(name, "onnx", "writing ONNX files") from error


def write(graph: Graph, out: Path, card: str) -> None:
    """Writes the graph, checked by ONNX's own checker.

    Raises:
        ModelError: The exporter cannot take the graph.
    """
    import onnx

    program = traced(graph)
    names = [port.name for port in graph.inputs]
    # The exporter prints its progress.
    with refused(graph, "The ONNX exporter"), quiet_log("onnx_ir"), contextlib.redirect_stdout(io.StringIO()):
        made = torch.onnx.export(
            program, dynamo=True, input_names=names, output_names=list(graph.outputs), verbose=False
        )
        assert made is not None
        model = made.model_proto
    _name_axes(model, graph)
    model.metadata_props.add(key=KEY, value=card)
    with refused(graph, "The ONNX checker"):
        onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(out))


def _name_axes(model: Any, graph: Graph) -> None:
    """Calls the axes that vary as the graph does; the exporter numbers them."""
    given: dict[str, str] = {}
    for value, port in zip(model.graph.input, graph.inputs, strict=True):
        for axis, name in zip(value.type.tensor_type.shape.dim, port.axes, strict=True):
            if axis.dim_param and name is not None:
                given[axis.dim_param] = name
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in given:
                axis.dim_param = given[axis.dim_param]


_IN_8_BITS = ["Conv", "Gemm", "MatMul", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool"]
"""What is computed, and what may stand between two of these without a way back to float32. Sums are not among them:
rounding pixels after the resize is one."""


def quantize(graph: Graph, out: Path, card: str, calls: Sequence[Batch]) -> None:
    """Writes the graph with its convolutions and matrix products in 8 bits, by ONNX Runtime's static quantisation.

    Weights are scaled channel by channel and keep to 7 bits, since processors without instructions for 8-bit products
    add two of them in 16 bits, where larger ones overflow; activations are scaled by the ranges they take in the calls.
    They are unsigned, since x86-64 multiplies unsigned numbers by signed ones: with both signed, a graph was slower
    than in float32.

    Raises:
        ModelError: The exporter or the quantiser cannot take the graph.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._calls = iter(calls)

        def get_next(self) -> dict[str, Any] | None:
            inputs = next(self._calls, None)
            return None if inputs is None else _arrays(inputs)

    whole = out.with_name(f"{out.name}.float32")
    write(graph, whole, card)
    with refused(graph, "ONNX Runtime's quantiser"), quiet_log("root"):
        quant_pre_process(str(whole), str(whole), skip_symbolic_shape=True)
        quantize_static(
            str(whole),
            str(out),
            Reader(),
            op_types_to_quantize=_IN_8_BITS,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    whole.unlink()


def _arrays(inputs: Batch) -> dict[str, Any]:
    return {name: np.ascontiguousarray(value.numpy()) for name, value in inputs.items()}


def opened(path: Path) -> Runner:
    """Runs a file with ONNX Runtime."""
    session = onnx_session(path)

    def run(inputs: Batch) -> dict[str, torch.Tensor]:
        arrays = {name: np.ascontiguousarray(value.numpy()) for name, value in inputs.items()}
        return {name: torch.from_numpy(value) for name, value in run_session(session, arrays).items()}

    return run


FORMAT = Format(
    name="onnx",
    suffix=".onnx",
    about="ONNX, for ONNX Runtime and whatever else reads it; no PyTorch is needed to run it.",
    write=write,
    open=opened,
    require=require,
    quantize=quantize,
)
