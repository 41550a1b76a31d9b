"""A trained model as graphs that other programs run: what a task says about its export.

The engine and the tasks know nothing of file formats, and a format knows nothing of tasks. Between the two stands a
:class:`Program`: the graphs, with names and shapes of what goes in and comes out, and how they are called for a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flambeau.columns import Columns
from flambeau.core import Batch, Facts
from flambeau.errors import UsageError

Call = Callable[[str, Batch], dict[str, Tensor]]
"""Runs the graph of this name: inputs by name to outputs by name, on the CPU."""


@dataclass(frozen=True, slots=True)
class Port:
    """One input of a graph.

    Attributes:
        name: As callers give it.
        example: A value of the right dtype, with at least two entries along every axis that varies.
        axes: For each axis the name under which it varies, as in ``("N", "H", "W", None)``; None where it is fixed.
            Axes of one name have one length.
        about: What it is, in a phrase.
        least: The smallest length of a varying axis, by its name, where that is not 1.
        most: The largest length, by its name, where there is one.
    """

    name: str
    example: Tensor
    axes: tuple[str | None, ...]
    about: str
    least: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Graph:
    """One graph: a module whose ``forward`` takes the inputs in order and gives the outputs as a tuple.

    Attributes:
        name: Tells the graphs of a program apart; a program of one graph calls it ``model``.
        module: In evaluation mode.
        inputs: In order.
        outputs: What comes out, each with what it is in a phrase, in order.
    """

    name: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Compared:
    """An output that an exported file must agree in.

    Attributes:
        name: As ``Program.predict`` gives it, rows in front, or as a graph does that is tried by itself. An output
            that some examples lack is compared where it is.
        within: The largest difference that is allowed.
        ranked: Whether the largest of a row must be the same, unless the largest two lie within twice that.
    """

    name: str
    within: float = 1e-4
    ranked: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """A model as graphs.

    Attributes:
        graphs: One or several.
        predict: What ``Task.predict`` gives, found by calling graphs: takes the call, the raw columns of some rows (or
            None where rows are not read one by one) and the batch that the task made of them.
        compared: What an exported file must agree in.
        card: What a user of the file has to know, as JSON values: ``front`` names how an input is made without
            Flambeau, the rest is what that needs.
        strangers: Made-up raw columns with inputs of other shapes than the data has, to be tried as well.
        trials: Made-up inputs of graphs, each with the graph's name, for what no raw columns become: noise, other
            graphs. The file must give what the modules give.
        beside: What a user of the file needs as well, written beside it: bytes by the end of the file's name.
        point: How much of the selecting score a file of less precision may lose.
    """

    graphs: tuple[Graph, ...]
    predict: Callable[[Call, Columns | None, Batch], dict[str, Tensor]]
    compared: tuple[Compared, ...]
    card: Mapping[str, Any]
    strangers: Callable[[], Columns | None] = lambda: None
    trials: Callable[[], Iterable[tuple[str, Batch]]] = tuple
    beside: Mapping[str, bytes] = field(default_factory=dict)
    point: float = 0.01


@dataclass(frozen=True, slots=True)
class Wish:
    """How a program is wanted.

    Attributes:
        static: One shape, one row, and the network alone: what comes before it is left to whoever calls it.
        plain: Sums and products in place of operations that few formats have, such as the antialiased resize.
    """

    static: bool = False
    plain: bool = False


def require_varying(wish: Wish, task: str) -> None:
    """Refuses a fixed shape for a task whose examples have none.

    Raises:
        UsageError: One is wanted.
    """
    if wish.static:
        raise UsageError(
            f"The examples of {task} have no fixed shape, so its graphs have none either.",
            where="--static",
            remedy="Leave --static out.",
        )


Programmer = Callable[[nn.Module, Facts, Wish], Program]
"""Makes the program of a model. Raises ``UsageError`` for a wish that the task has no form for."""


class Predicting(nn.Module):
    """``Task.predict`` as a module: tensors in, some of the outputs out, so that export takes what training measured.

    Args:
        model: The task's.
        predict: The task's.
        inputs: The columns of the batch that ``forward`` takes, in order.
        outputs: The outputs that it gives, in order.

    Example:
        >>> doubled = Predicting(nn.Identity(), lambda model, batch: {"y": 2 * model(batch["x"])}, ["x"], ["y"])
        >>> doubled(torch.ones(2))
        (tensor([2., 2.]),)
    """

    def __init__(
        self,
        model: nn.Module,
        predict: Callable[[nn.Module, Batch], Mapping[str, Tensor]],
        inputs: tuple[str, ...] | list[str],
        outputs: tuple[str, ...] | list[str],
    ) -> None:
        super().__init__()
        self.model = model
        self._predict, self._inputs, self._outputs = predict, tuple(inputs), tuple(outputs)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in order."""
        made = self._predict(self.model, dict(zip(self._inputs, values, strict=True)))
        return tuple(made[name] for name in self._outputs)


def eager(program: Program) -> Call:
    """Calls the modules themselves, without gradients."""
    graphs = {graph.name: graph for graph in program.graphs}

    def call(name: str, inputs: Batch) -> dict[str, Tensor]:
        graph = graphs[name]
        with torch.inference_mode():
            made = graph.module(*(inputs[port.name] for port in graph.inputs))
        return dict(zip(graph.outputs, made, strict=True))

    return call
