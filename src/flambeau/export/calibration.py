"""What a graph is called with in real use: for calibration of whole numbers, and for timing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable

from torch import Tensor

from flambeau.core import Batch
from flambeau.errors import ModelError
from flambeau.model import Model
from flambeau.program import Call, Program, eager
from flambeau.workflow.rows import Rows, rows_of

EXAMPLES = 256
"""Training examples that ranges of values are taken from."""

ROUNDS = 30
"""Calls that a latency is the median of."""

Calls = dict[str, list[Batch]]
"""The inputs of each graph, call by call."""


def calibration_calls(model: Model, program: Program) -> Calls:
    """The calls that training examples become.

    Raises:
        ModelError: The training data cannot be had, and ranges of values cannot be guessed.
    """
    rows, reason = rows_of(model, "train")
    if rows is None:
        raise ModelError(
            f"Ranges of values for 8-bit numbers are taken from the training data, and {reason}.",
            remedy="Use --weights float16, or export where the data is.",
        )
    return recorded(model, program, rows, EXAMPLES)


def recorded(model: Model, program: Program, rows: Rows, count: int) -> Calls:
    """The calls that some rows become, evenly spread."""
    calls: Calls = {graph.name: [] for graph in program.graphs}
    answer = eager(program)

    def record(name: str, inputs: Batch) -> dict[str, Tensor]:
        calls[name].append(dict(inputs))
        return answer(name, inputs)

    for raw, read in rows.parts(rows.spread(count)):
        program.predict(record, raw, model.task.collate(read.columns))
    return calls


def latency(call: Call, calls: Calls) -> float:
    """Milliseconds of a call of each graph in turn: the median of :data:`ROUNDS` rounds, after three to warm up."""
    return 1000 * statistics.median(list(_timed(call, calls))[3:])


def _timed(call: Call, calls: Calls) -> Iterable[float]:
    for _ in range(ROUNDS + 3):
        begun = time.perf_counter()
        for name, inputs in calls.items():
            call(name, inputs[0])
        yield time.perf_counter() - begun
