"""The sections that every run has, whatever its task: curves, data, recipe, time, machine and history."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flambeau.report import figures
from flambeau.report.elements import bars, callout, duration, escape, fold, number, pairs, plain, records_table, table
from flambeau.report.elements import figures as side_by_side
from flambeau.report.page import Section

POINTS = 300
"""To about how many points a curve over steps is averaged; more would only make the file larger."""

Points = list[tuple[float, float]]


def curves(records: Iterable[Mapping[str, Any]], scores: Sequence[str] = ("loss", "accuracy")) -> Section | None:
    """The learning curves; None when nothing was logged.

    Args:
        records: The lines of ``metrics.jsonl``. Those of kind ``step`` hold ``step``, ``loss`` and ``lr``, those of
            kind ``epoch`` hold ``step``, ``epoch`` and scores such as ``train/loss``, ``val/loss``, ``val/accuracy``.
            Whatever is missing or not finite is left out.
        scores: The validation scores that deserve a picture.
    """
    lines = list(records)
    steps = [line for line in lines if line.get("kind") == "step"]
    epochs = [line for line in lines if line.get("kind") == "epoch"]
    single, means = _thin(points(steps, "loss")), points(epochs, "train/loss")
    validated = points(epochs, "val/loss")
    top = _ceiling(single, [*means, *validated])
    loss = figures.lines(
        [("steps", "soft", single), ("train", "second", means), ("validation", "accent", validated)],
        name="Loss",
        ylabel="loss",
        highest=top,
        faint="steps",
    )
    drawn_scores = [(title_of(name), _score_lines(epochs, name)) for name in scores if name != "loss"]
    rate = figures.lines([("lr", "soft", _thin(points(steps, "lr")))], name="Learning rate", ylabel="learning rate")
    drawn = side_by_side(
        ("Loss; steps above the axis are cut off" if top else "Loss", loss),
        *((f"{title} on the validation split", drawn) for title, drawn in drawn_scores),
        *((f"{title_of(name)}, averaged between logged steps", drawn) for name, drawn in _others(steps)),
        ("Learning rate", rate),
    )
    listed = fold("The numbers, epoch by epoch", records_table([_epoch_row(line) for line in epochs])) if epochs else ""
    return Section("Training", drawn + listed) if drawn or listed else None


STEP_KEYS = ("kind", "step", "epoch", "batch", "loss", "mean_loss", "lr", "gradient_norm")
"""What every logged step holds; whatever else is there is a loss of a further phase, or a part of one."""


def _others(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The losses of further phases and the named parts of losses, a figure for each."""
    names = dict.fromkeys(name for line in steps for name in line if name not in STEP_KEYS)
    return [
        (name, figures.lines([(name, "soft", _thin(points(steps, name)))], name=title_of(name), ylabel=title_of(name)))
        for name in names
    ]


def title_of(name: str) -> str:
    """A score's name as a title."""
    text = name.replace("_", " ").replace("/", ": ")
    return text[:1].upper() + text[1:]


def _score_lines(epochs: Sequence[Mapping[str, Any]], name: str) -> str:
    series = [("train", "second", f"train/{name}"), ("validation", "accent", f"val/{name}")]
    return figures.lines(
        [(title, colour, points(epochs, key)) for title, colour, key in series],
        name=title_of(name),
        ylabel=name.replace("_", " "),
        as_percent=name == "accuracy",
    )


def _epoch_row(line: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in line.items() if name not in ("kind", "time")}
    if isinstance(shown.get("epoch"), int):
        # Epochs are counted from 0 inside and from 1 where people read.
        shown["epoch"] += 1
    return shown


def points(lines: Sequence[Mapping[str, Any]], name: str) -> Points:
    """A value over the steps, from the lines of ``metrics.jsonl`` that have it and in which it is finite."""
    found = ((line.get("step"), line.get(name)) for line in lines)
    return [
        (float(step), float(value))
        for step, value in found
        if isinstance(step, int | float) and isinstance(value, int | float) and math.isfinite(value)
    ]


def _ceiling(single: Points, means: Points) -> float | None:
    """Where the loss axis ends when a few early steps would flatten everything else, else None."""
    if len(single) < 20:
        return None
    losses = sorted(loss for _, loss in single)
    top = 1.1 * max([losses[int(0.97 * len(losses))], *(loss for _, loss in means)])
    return top if top < 0.8 * losses[-1] else None


def _thin(points: Points) -> Points:
    """Points averaged in groups of equal size, so that the shape stays and the file stays small."""
    size = math.ceil(len(points) / POINTS)
    if size <= 1:
        return points
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [tuple(math.fsum(values) / len(group) for values in zip(*group, strict=True)) for group in groups]  # type: ignore[misc]


def search(found: Mapping[str, Any]) -> Section | None:
    """The search for a learning rate; None where there was none.

    Args:
        found: ``rate``, the one that was chosen, and ``points``: each rate that was tried, the loss of its batch and
            the smoothed loss.
    """
    if not found:
        return None
    points = found["points"]
    drawn = figures.lines(
        [
            ("batches", "soft", [(rate, loss) for rate, loss, _ in points]),
            ("smoothed", "accent", [(rate, smooth) for rate, _, smooth in points]),
        ],
        name="Search for a learning rate",
        ylabel="loss",
        xlabel="learning rate",
        highest=1.15 * max(smooth for _, _, smooth in points),
        faint="batches",
        logarithmic=True,
        mark=found["rate"],
    )
    lead = (
        f"Before the first step, on a copy of the network, {len(points)} batches were trained on with growing rates. "
        f"Chosen was {number(found['rate'], 2)} (the upright line), a fifth of the rate at which the smoothed loss is "
        "lowest."
    )
    return Section("Search for a learning rate", side_by_side(("Loss against learning rate", drawn)), lead)


def data(facts: Mapping[str, Any]) -> Section | None:
    """What is known about the data: warnings and notes first, then single values, then tables.

    Args:
        facts: JSON values by name. ``warnings`` and ``notes`` are lists of sentences; a mapping of mappings, such as
            ``{"train": {"cat": 4}}``, becomes a table with a column for each of the outer names.
    """
    if not facts:
        return None
    warnings, notes = (_sentences(facts.get(name)) for name in ("warnings", "notes"))
    rest = {name: value for name, value in facts.items() if name not in ("warnings", "notes")}
    nested = {name: value for name, value in rest.items() if _is_nested(value)}
    single = {name: value for name, value in rest.items() if name not in nested and value not in (None, "", [], {})}
    inner = callout(warnings, "warning") + callout(notes) + (pairs(single) if single else "")
    for name, value in nested.items():
        made = _crossed(value)
        inner += fold(name, made) if made.count("<tr>") > 25 else f"<h3>{escape(name)}</h3>{made}"
    return Section("Data", inner)


def _sentences(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [str(entry) for entry in value]
    return [str(value)] if value else []


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(entry, Mapping) for entry in value.values())


def _crossed(value: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for column in value.values() for name in column))
    rows = [[name, *(_plain_cell(column.get(name)) for column in value.values())] for name in names]
    return table(["", *map(str, value)], rows, numeric=range(1, len(value) + 1))


def _plain_cell(value: object) -> object:
    return value if value is None or isinstance(value, int | float) else plain(value)


def recipe(toml: str) -> Section | None:
    """The recipe as text; None when there is none."""
    if not toml.strip():
        return None
    lead = "Everything that determines the run. Saved as a file, it is what --recipe takes."
    return Section("Recipe", f"<pre>{escape(toml.strip())}</pre>", lead)


def seconds(spent: Mapping[str, float | None], remarks: Sequence[str] = ()) -> Section | None:
    """Where the time went, as bars; ``total`` is named in the text; None when nothing was measured.

    Args:
        spent: Seconds by what they were spent on.
        remarks: Sentences about what took more than it should.
    """
    known = {name: float(value) for name, value in spent.items() if value is not None and math.isfinite(value)}
    total = known.pop("total", None)
    if not known and total is None:
        return None
    lead = f"{duration(total)} in all." if total is not None else ""
    drawn = bars(known, {name: duration(value) for name, value in known.items()}) if known else ""
    return Section("Time", callout(remarks) + drawn, lead)


def machine(versions: Mapping[str, Any], computer: Mapping[str, Any] | None = None) -> Section | None:
    """What the run was made with: versions of the software, and the machine; None when nothing is known."""
    parts = [("Machine", computer or {}), ("Versions", versions)]
    inner = "".join(f"<h3>{title}</h3>{pairs(values)}" for title, values in parts if values)
    return Section("Machine and versions", inner) if inner else None


def history(segments: Sequence[Mapping[str, Any]]) -> Section | None:
    """How often the run was started and resumed, a row for each time; None when it ran in one go.

    Args:
        segments: JSON values of each start, such as ``started``, ``from_step``, ``to_step``, ``device``, ``reason``.
    """
    if len(segments) < 2:
        return None
    times = len(segments) - 1
    lead = f"The run was resumed {'once' if times == 1 else f'{times} times'}."
    return Section("History", records_table([dict(segment) for segment in segments]), lead)
