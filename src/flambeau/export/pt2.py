"""``torch.export``'s own file: a graph for PyTorch without the code that made it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from flambeau.core import Batch
from flambeau.engine.quiet import quiet_log
from flambeau.errors import MissingExtra
from flambeau.export.formats import Format, Runner, in_order, refused, traced
from flambeau.program import Graph

CARD = "flambeau.json"
"""The extra file within the archive that holds the card."""


def write(graph: Graph, out: Path, card: str) -> None:
    """Writes the graph.

    Raises:
        ModelError: The exporter cannot take the graph.
    """
    program = traced(graph)
    with refused(graph, "torch.export"):
        torch.export.save(program, out, extra_files={CARD: card})


def quantize(graph: Graph, out: Path, card: str, calls: Sequence[Batch]) -> None:
    """Writes the graph with its convolutions and matrix products in 8 bits, by torchao's static quantisation.

    PyTorch computes such a graph step by step in float32, rounding as the 8 bits do; it becomes fast where a compiler
    or a board takes the file.

    Raises:
        ModelError: The exporter or the quantiser cannot take the graph.
        MissingExtra: torchao is not installed.
    """
    try:
        from torchao.quantization.pt2e import quantize_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
    except ImportError as error:
        raise MissingExtra("torchao", "torchao", "8-bit weights in .pt2 files") from error
    program = traced(graph)
    inputs = [port.name for port in graph.inputs]
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    with refused(graph, "torchao"), torch.no_grad():
        prepared = quantize_pt2e.prepare_pt2e(program.module(), quantizer)
        for call in calls:
            prepared(*in_order(inputs, call))
        made = quantize_pt2e.convert_pt2e(prepared)
    written = traced(replace(graph, module=made))
    with refused(graph, "torch.export"):
        torch.export.save(written, out, extra_files={CARD: card})


def opened(path: Path) -> Runner:
    """Runs a file with PyTorch."""
    extra = {CARD: ""}
    try:
        with quiet_log("torch.export"):
            program = torch.export.load(path, extra_files=extra)
    except RuntimeError:
        # Steps in 8 bits are torchao's operators, which are there once it is imported.
        if not _with_torchao():
            raise
        program = torch.export.load(path, extra_files=extra)
    module, card = program.module(), json.loads(extra[CARD])
    inputs, outputs = list(card["inputs"]), list(card["outputs"])

    def run(batch: Batch) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return dict(zip(outputs, module(*in_order(inputs, batch)), strict=True))

    return run


def _with_torchao() -> bool:
    """Brings torchao's operators in; whether it is installed."""
    try:
        import torchao.quantization.pt2e  # noqa: F401
    except ImportError:
        return False
    return True


FORMAT = Format(
    name="pt2",
    suffix=".pt2",
    about="torch.export's file: PyTorch loads and runs it without the code of the network.",
    write=write,
    open=opened,
    quantize=quantize,
)
