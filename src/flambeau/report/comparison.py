"""Several runs on one page: what differs, what came out, and their curves over each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flambeau.report import figures
from flambeau.report.elements import figures as side_by_side
from flambeau.report.elements import table
from flambeau.report.page import Section, render
from flambeau.report.run import points, title_of

COLOURS = ("accent", "second", "third", "fourth", "fifth", "sixth")
"""Of the first runs; a seventh has the first one's again."""

Lines = Sequence[Mapping[str, Any]]
"""The records of a run's ``metrics.jsonl``."""


def render_comparison(
    names: Sequence[str], rows: Sequence[Sequence[str]], records: Sequence[Lines], notes: Sequence[str] = ()
) -> str:
    """The page as HTML text.

    Args:
        names: Of the runs.
        rows: The table, as :func:`flambeau.workflow.comparing.rows_of` gives it.
        records: For each run the lines of its ``metrics.jsonl``.
        notes: What makes the scores hard to compare.
    """
    sections = [
        curves(names, records),
        Section("Settings and scores", table(rows[0], rows[1:]), "A star marks the best value on the test split."),
    ]
    return render(" against ".join(names) if len(names) < 4 else f"{len(names)} runs", "", [], sections, notes=notes)


def curves(names: Sequence[str], records: Sequence[Lines]) -> Section | None:
    """A figure for each loss and score that the runs took after their epochs; None when there are none."""
    epochs = [[line for line in lines if line.get("kind") == "epoch"] for lines in records]
    drawn = []
    for key in _keys(epochs):
        series = [
            (name, COLOURS[place % len(COLOURS)], points(lines, key))
            for place, (name, lines) in enumerate(zip(names, epochs, strict=True))
        ]
        split, _, score = key.partition("/")
        title = f"{title_of(score)}, {'training' if split == 'train' else 'validation'}"
        drawn.append((title, figures.lines(series, name=title, ylabel=score.replace("_", " "))))
    return Section("Curves", side_by_side(*drawn), "One point after each epoch.") if drawn else None


def _keys(epochs: Iterable[Lines]) -> list[str]:
    """The losses first, then the other scores, in the order in which the runs name them."""
    found = dict.fromkeys(
        key for lines in epochs for line in lines for key in line if key.startswith(("train/", "val/"))
    )
    return sorted(found, key=lambda key: not key.endswith("/loss"))
