"""The page that ``inspect --html`` writes about a network, a run or a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from flambeau.core import Batch, Facts, device_of
from flambeau.errors import FlambeauError, UsageError
from flambeau.models.activations import Activation, activations, as_pictures, first_filters
from flambeau.models.fit import dry_run
from flambeau.models.graph import graph
from flambeau.report.network import render_network, spread
from flambeau.task import Task


def network_page(
    name: str, found: Mapping[str, Any], model: nn.Module, task: Task, facts: Facts, example: str | None = None
) -> str:
    """The page as HTML text.

    Args:
        name: What it is about.
        found: ``layers``, ``input``, ``parameters`` and ``multiply_adds``, as an inspection has them.
        model: Of the task.
        task: Knows how an example is read and sent through.
        facts: The task's.
        example: What to show the activations of, as ``predict`` takes it; None shows none.

    Raises:
        UsageError: The example stands for several inputs.
        BadRows: It cannot be read.
    """
    network = getattr(model, "network", model)
    device = device_of(model)
    batch = task.example(facts) if example is None else _read(task, facts, example)
    batch = {key: value.to(device) for key, value in batch.items()}

    def send() -> object:
        return (task.trace or task.predict)(model, batch)

    seen = [] if example is None else activations(network, send)
    return render_network(
        name,
        f"{found['parameters']:,} parameters, {found['multiply_adds']:,} multiply-adds for one example.",
        nodes=_graph(network, send),
        layers=found["layers"],
        filters=_filters(network, found["input"]),
        example=None if example is None else _thumbnail(task, facts, example),
        maps=[(one.name or one.kind, _about(one), _maps(one.values)) for one in spread(seen) if one.values.numel()],
        answer="" if example is None else _answer(task, facts, model, batch),
    )


def _read(task: Task, facts: Facts, example: str) -> Batch:
    inputs = task.view.inputs([example])
    if len(inputs) != 1:
        raise UsageError("Activations are shown of one input.", where=example, received=f"{len(inputs)} inputs")
    return task.collate(task.read({task.input: [inputs[0][1]]}, facts))


def _graph(network: nn.Module, send: Callable[[], object]) -> list[Any]:
    try:
        return graph(network, send)
    except FlambeauError:
        raise
    except Exception:  # a network of the user's own may do what cannot be followed; the rest can still be seen
        return []


def _filters(network: nn.Module, shape: list[int]) -> tuple[str, Tensor] | None:
    found = first_filters(network, shape)
    return None if found is None else (found[0], as_pictures(found[1]))


def _about(activation: Activation) -> str:
    shape = "×".join(map(str, activation.values.shape))
    return f"{activation.kind}, {shape}"


def _maps(values: Tensor) -> Tensor:
    """Maps as pictures: ``(C, H, W)`` is C of them, ``(L, D)`` one, ``(D,)`` one row."""
    if values.dim() == 1:
        values = values.view(1, 1, -1)
    elif values.dim() == 2:
        values = values.unsqueeze(0)
    return as_pictures(values.flatten(0, -3).unsqueeze(1))


def _thumbnail(task: Task, facts: Facts, example: str) -> Tensor | None:
    return task.view.thumbnail(task.view.inputs([example])[0][1], facts)


def _answer(task: Task, facts: Facts, model: nn.Module, batch: Batch) -> str:
    with dry_run(model):
        row = task.decode(task.predict(model, batch), facts)[0]
    return task.view.line(row, 3)
