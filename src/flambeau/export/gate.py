"""The parity gate: an exported file is kept only when it answers as the model does."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flambeau.columns import Columns, Split
from flambeau.core import Batch, Metrics
from flambeau.errors import ModelError
from flambeau.model import Model
from flambeau.program import Call, Compared, Program, eager
from flambeau.recipe import parse
from flambeau.workflow.rows import Rows, read_rows

EXAMPLES = 256
"""Test examples that are always compared, where there are so many."""

BATCH = 32

SECONDS = 60.0
"""After the first examples the scores go on being measured until this much time has passed."""


@dataclass(slots=True)
class Verdict:
    """What the gate saw.

    Attributes:
        examples: Test examples that were compared.
        of: How many there are.
        strangers: Made-up inputs that were compared besides.
        differences: The largest difference of each output.
        before: The model's scores on these examples.
        after: The file's.
    """

    examples: int = 0
    of: int = 0
    strangers: int = 0
    differences: dict[str, float] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)


def pass_through(model: Model, program: Program, call: Call, rows: Rows | None, *, exact: bool) -> Verdict:
    """Compares a file with its model, on test examples and on strangers.

    Args:
        model: The model, on the CPU.
        program: How rows become calls.
        call: Runs the file.
        rows: The test examples, or None.
        exact: Whether outputs must agree; else it is enough that the selecting score does within ``program.point``.

    Raises:
        ModelError: The file does not answer as the model does.
    """
    verdict = Verdict()
    _try_graphs(program, call, verdict, exact)
    foreign = program.strangers()
    if foreign is not None:
        raw = Split(foreign)
        # The first by itself as well: a graph may have taken the number of rows for a constant.
        for part in (raw, raw.slice(0, 1)):
            _compare(model, program, call, part.columns, read_rows(model, part), verdict, exact)
        verdict.strangers += len(raw)
    if rows is not None and len(rows.read):
        _score(model, program, call, rows, verdict, exact)
    return verdict


def _try_graphs(program: Program, call: Call, verdict: Verdict, exact: bool) -> None:
    """Compares the file with the modules that it was made from, on inputs that no examples become."""
    own, known = eager(program), {output.name: output for output in program.compared}
    for name, inputs in program.trials():
        wanted, found = own(name, inputs), call(name, inputs)
        for key, value in wanted.items():
            _hold(known.get(key, Compared(key)), value, found[key], verdict, exact)
        verdict.strangers += 1


def _score(model: Model, program: Program, call: Call, rows: Rows, verdict: Verdict, exact: bool) -> None:
    metrics = model.task.metrics(parse(model.description.recipe), model.facts)
    sums = [metrics.start(torch.device("cpu")) for _ in range(2)]
    order = rows.spread()
    begun = time.monotonic()
    verdict.of = len(order)
    for raw, read in rows.parts(order):
        if verdict.examples >= EXAMPLES and time.monotonic() - begun > SECONDS:
            break
        batch, *outputs = _compare(model, program, call, raw, read, verdict, exact)
        for each, made in zip(sums, outputs, strict=True):
            metrics.add(each, made, batch)
        verdict.examples += len(read)
    verdict.before, verdict.after = (metrics.result(each) for each in sums)
    if not exact:
        _require_score(metrics, program.point, verdict)


def _compare(
    model: Model, program: Program, call: Call, raw: Columns | None, read: Split, verdict: Verdict, exact: bool
) -> tuple[Batch, dict[str, Tensor], dict[str, Tensor]]:
    batch = model.task.collate(read.columns)
    wanted = model.outputs(batch)
    found = program.predict(call, raw, batch)
    for output in program.compared:
        if output.name in wanted:
            _hold(output, wanted[output.name], found[output.name], verdict, exact)
    return batch, wanted, found


def _hold(output: Compared, wanted: Tensor, found: Tensor, verdict: Verdict, exact: bool) -> None:
    difference = _difference(output, wanted, found)
    verdict.differences[output.name] = max(difference, verdict.differences.get(output.name, 0.0))
    if exact:
        _require_equal(output, wanted, found, difference)


def _difference(output: Compared, wanted: Tensor, found: Tensor) -> float:
    if wanted.shape != found.shape:
        raise ModelError(
            f"The exported file's {output.name} have another shape than the model's; it was not kept.",
            expected=tuple(wanted.shape),
            received=tuple(found.shape),
        )
    apart = (wanted.double() - found.double()).abs()
    # NaN on one side compares as equal to nothing, and must not pass for small.
    return float(apart.nan_to_num(nan=torch.inf).max()) if apart.numel() else 0.0


def _require_equal(output: Compared, wanted: Tensor, found: Tensor, difference: float) -> None:
    if difference > output.within:
        raise ModelError(
            f"The exported file does not answer as the model does; it was not kept. Its {output.name} differ.",
            expected=f"by at most {output.within:g}",
            received=f"{difference:.3g}",
            remedy="Try another --format, and please report the network: the difference is not of your making.",
        )
    if output.ranked and wanted.shape[1] > 1:
        best = wanted.topk(2, 1).values
        close = best[:, 0] - best[:, 1] <= 2 * output.within
        if bool(((wanted.argmax(1) != found.argmax(1)) & ~close).any()):
            raise ModelError(
                f"The exported file does not answer as the model does; it was not kept. Its {output.name} have "
                "another largest one."
            )


def _require_score(metrics: Metrics, point: float, verdict: Verdict) -> None:
    name = metrics.select
    before, after = verdict.before[name], verdict.after[name]
    lost = before - after if metrics.mode == "max" else after - before
    if not lost <= point:
        raise ModelError(
            f"The file of less precision loses too much; it was not kept. Its {name} is {after:.4f} on "
            f"{verdict.examples:,} test examples, and the model's {before:.4f}.",
            expected=f"at most {point:g} less" if metrics.mode == "max" else f"at most {point:g} more",
            remedy="Keep the weights in full precision (--weights float32).",
        )
