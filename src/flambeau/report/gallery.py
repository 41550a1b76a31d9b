"""Predictions to look through: one page with every picture under the answer that it got."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from torch import Tensor

from flambeau.report.elements import callout, escape, fold, number, percent, picture, table, tiles
from flambeau.report.page import Section, render

MOST = 1000
"""Inputs that are shown as pictures; further ones are only counted, or the page would grow beyond what opens."""

SILENT = "No answer"
"""The heading of what the model abstained from."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One input with its prediction.

    Attributes:
        name: What it is called.
        row: The prediction, as ``Model.predict`` gives it, with ``doubt`` where there is one.
        line: The same in a line, for tasks without classes.
        thumbnail: Makes the picture, uint8 ``(C, H, W)``, or None where the input is none.
    """

    name: str
    row: Mapping[str, Any]
    line: str
    thumbnail: Callable[[], Tensor | None]


def render_gallery(model: str, answers: Sequence[Answered], errors: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page as HTML text, with all pictures in it.

    Args:
        model: What answered, as a phrase.
        answers: Inputs with their predictions. Where these have classes, each has a section, and in it the least sure
            come first: that is where mistakes are.
        errors: What could not be read, as ``path`` and ``problem``.
    """
    groups: dict[str, list[Answered]] = {}
    for entry in answers:
        groups.setdefault(_heading(entry.row), []).append(entry)
    ordered = sorted(groups.items(), key=lambda pair: (pair[0] == SILENT, -len(pair[1]), pair[0]))
    share = min(1.0, MOST / max(1, len(answers)))
    sections = [_section(name, entries, share) for name, entries in ordered]
    if errors:
        rows = [[error["path"], error["problem"]] for error in errors]
        sections.append(Section("Not read", table(["input", "why"], rows)))
    cards = [("inputs", number(len(answers) + len(errors)), f"{len(errors)} could not be read" if errors else "")]
    counted = [(name, number(len(entries)), percent(len(entries) / len(answers))) for name, entries in ordered[:5]]
    notes = [] if share == 1 else [f"Of {len(answers):,} inputs the least sure {MOST:,} are shown, class by class."]
    return render(
        "Predictions",
        f"Of {model}; in each class the least sure come first.",
        [*cards, *counted],
        sections,
        notes=notes,
    )


def _heading(row: Mapping[str, Any]) -> str:
    if row.get("abstains"):
        return SILENT
    return str(row["class"]) if "class" in row else "Predictions"


def _section(name: str, entries: Sequence[Answered], share: float) -> Section:
    entries = sorted(entries, key=lambda entry: entry.row.get("probability", 0.0))
    shown = entries[: max(1, round(share * len(entries)))]
    drawn, lines = [], []
    for entry in shown:
        image = entry.thumbnail()
        if image is None:
            lines.append([entry.name, entry.line])
        else:
            drawn.append((picture(image, PurePath(entry.name).name), _caption(entry, name)))
    inner = tiles(drawn) + (table(["input", "prediction"], lines) if lines else "")
    doubts = [f"{entry.name}: {entry.row['doubt']}" for entry in shown if entry.row.get("doubt")]
    if doubts:
        inner = fold(f"{len(doubts)} unlike everything the model was trained on", callout(doubts)) + inner
    return Section(name, inner, f"{len(entries):,} of them." if len(shown) == len(entries) else _cut(entries, shown))


def _cut(entries: Sequence[Answered], shown: Sequence[Answered]) -> str:
    return f"{len(entries):,} of them, of which the {len(shown):,} least sure are shown."


def _caption(entry: Answered, heading: str) -> str:
    """The two first classes, the file's name below."""
    first, *rest = _ranked(entry.row)
    told = [f'<span class="{"" if heading != SILENT else "said"}">{escape(first)}</span>'] if first else []
    told += [f"<span>{escape(text)}</span>" for text in rest[:1]]
    name = escape(entry.name)
    return f'{"".join(told)}<span class="name" title="{name}">{escape(PurePath(entry.name).name)}</span>'


def _ranked(row: Mapping[str, Any]) -> list[str]:
    ranked: Iterable[Mapping[str, Any]] = row.get("classes", ())
    return [f"{entry['class']} {percent(entry['probability'], 0)}" for entry in ranked] or [""]
