"""``torch.export``'s own file: a graph for PyTorch without the code that made it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from flambeau.core import Batch
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


def opened(path: Path) -> Runner:
    """Runs a file with PyTorch."""
    extra = {CARD: ""}
    module = torch.export.load(path, extra_files=extra).module()
    card = json.loads(extra[CARD])
    inputs, outputs = list(card["inputs"]), list(card["outputs"])

    def run(batch: Batch) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return dict(zip(outputs, module(*in_order(inputs, batch)), strict=True))

    return run


FORMAT = Format(
    name="pt2",
    suffix=".pt2",
    about="torch.export's file: PyTorch loads and runs it without the code of the network.",
    write=write,
    open=opened,
)
