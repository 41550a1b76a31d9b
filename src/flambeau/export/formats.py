"""What a format of graphs is: how one is written to a file, and how that file is run to see whether it is right."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from flambeau.core import Batch
from flambeau.engine.quiet import quiet_log
from flambeau.errors import FlambeauError, ModelError
from flambeau.export.recurrence import recurrence
from flambeau.program import Graph, Port

Runner = Callable[[Batch], dict[str, Tensor]]
"""Runs a file: inputs by name to outputs by name, on the CPU."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format that holds a graph.

    Attributes:
        name: As in ``--format``.
        suffix: What its files' names end in.
        strict: Whether files of other names cannot be opened.
        about: What it is and what runs it, in a sentence.
        write: Writes a graph and the card, a JSON text, to a file.
        open: Makes what runs a file; must not need the model.
        require: Raises what says why the format cannot be had here, before any work is done.
        plain: Whether graphs must do without an antialiased resize.
        weights: What ``--weights`` may be, apart from ``int8``.
        quantize: As ``write``, in whole numbers of 8 bits; takes calls as well, from which the ranges of values are
            taken. None where the format cannot.
    """

    name: str
    suffix: str
    about: str
    write: Callable[[Graph, Path, str], None]
    open: Callable[[Path], Runner]
    require: Callable[[], None] = lambda: None
    plain: bool = False
    strict: bool = False
    weights: tuple[str, ...] = ("float32", "float16")
    quantize: Callable[[Graph, Path, str, Sequence[Batch]], None] | None = None


def traced(graph: Graph) -> ExportedProgram:
    """The graph as ``torch.export`` sees it, with the axes that vary.

    Raises:
        ModelError: The module does something that a graph cannot hold.
    """
    shapes: tuple[Any, ...] = tuple(
        {place: _dim(axis, port) for place, axis in enumerate(port.axes) if axis is not None} for port in graph.inputs
    )
    examples = tuple(port.example for port in graph.inputs)
    # Shapes are given by parameter, and a forward(*inputs) has one for all inputs.
    parameters = inspect.signature(graph.module.forward).parameters.values()
    several = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    shapes = (shapes,) if several else shapes
    with refused(graph, "torch.export"), torch.no_grad(), recurrence():
        try:
            return torch.export.export(graph.module, examples, dynamic_shapes=shapes)
        except torch._dynamo.exc.UserError:
            # From lengths of two and more it was concluded that none is 1. Some graphs pass without such conclusions,
            # and others pass only with them.
            with torch.fx.experimental._config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
                return torch.export.export(graph.module, examples, dynamic_shapes=shapes)


def _dim(name: str, port: Port) -> Any:
    bounds = {"min": port.least.get(name), "max": port.most.get(name)}
    return Dim(name, **{bound: value for bound, value in bounds.items() if value is not None})


@contextmanager
def refused(graph: Graph, by: str) -> Iterator[None]:
    """Turns whatever an exporter raises about a graph into an error, and keeps its warnings to itself.

    Raises:
        ModelError: The exporter cannot take the graph.
    """
    try:
        with warnings.catch_warnings(), quiet_log("torch"):
            warnings.simplefilter("ignore")
            yield
    except FlambeauError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"{by} cannot make a graph of this network.",
            where=graph.name,
            received=said[:400],
            remedy="Nothing was written. Try another --format; --debug shows the whole message.",
        ) from error


def in_order(names: list[str], inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """Inputs in the order of their names."""
    return tuple(inputs[name].contiguous() for name in names)
