"""TorchScript, which PyTorch has deprecated, for programs that still load it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from flambeau.core import Batch
from flambeau.errors import UsageError
from flambeau.export.formats import Format, Runner, in_order, refused
from flambeau.program import Graph

CARD = "flambeau.json"
"""The extra file within the archive that holds the card."""


def require() -> None:
    """Raises ``UsageError`` where the installed PyTorch no longer has it."""
    if not hasattr(torch.jit, "trace"):
        raise UsageError(
            f"PyTorch {torch.__version__} has no TorchScript any more.",
            where="--format torchscript",
            remedy="Use --format pt2, which took its place.",
        )


def write(graph: Graph, out: Path, card: str) -> None:
    """Traces the graph and writes it.

    Raises:
        ModelError: The tracer cannot take the graph.
    """
    examples = tuple(port.example for port in graph.inputs)
    with refused(graph, "TorchScript"), torch.no_grad():
        script = torch.jit.trace(graph.module, examples, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(script, str(out), _extra_files={CARD: card})


def opened(path: Path) -> Runner:
    """Runs a file."""
    import warnings

    extra = {CARD: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(str(path), _extra_files=extra)  # type: ignore[no-untyped-call]
    card = json.loads(extra[CARD])
    inputs, outputs = list(card["inputs"]), list(card["outputs"])

    def run(batch: Batch) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return dict(zip(outputs, module(*in_order(inputs, batch)), strict=True))

    return run


FORMAT = Format(
    name="torchscript",
    suffix=".pt",
    about="TorchScript, deprecated in PyTorch: for programs that cannot load anything newer.",
    write=write,
    open=opened,
    require=require,
    weights=("float32",),
)
