"""AOTInductor: the graph compiled ahead of time to a library for this kind of machine."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from flambeau.core import Batch
from flambeau.engine.compiling import require_compiler
from flambeau.errors import UsageError
from flambeau.export.formats import Format, Runner, in_order, refused, traced
from flambeau.program import Graph

CARD = "flambeau"
"""The key of the package's metadata that the card stands under."""


def require() -> None:
    """Raises ``UsageError`` where nothing can be compiled."""
    try:
        require_compiler(torch.device("cpu"))
    except UsageError as error:
        raise UsageError(
            error.problem,
            where="--format aoti",
            received=error.received,
            remedy="Install a C++ compiler (g++, clang or MSVC) and Python's headers, or use --format pt2.",
        ) from error


def write(graph: Graph, out: Path, card: str) -> None:
    """Compiles the graph and writes the package; takes a minute or so.

    Raises:
        ModelError: The compiler cannot take the graph.
    """
    program = traced(graph)
    with refused(graph, "AOTInductor"):
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(out), inductor_configs={"aot_inductor.metadata": {CARD: card}}
        )


def opened(path: Path) -> Runner:
    """Runs a package."""
    model = torch._inductor.aoti_load_package(str(path))
    card = json.loads(model.get_metadata()[CARD])
    inputs, outputs = list(card["inputs"]), list(card["outputs"])

    def run(batch: Batch) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            made = model(*in_order(inputs, batch))
        return dict(zip(outputs, made if isinstance(made, tuple | list) else [made], strict=True))

    return run


FORMAT = Format(
    name="aoti",
    suffix=".pt2",
    about="An AOTInductor package: compiled for this kind of processor; needs a C++ compiler to write.",
    write=write,
    open=opened,
    require=require,
)
