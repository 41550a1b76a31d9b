"""The page around a report: headline numbers, a table of contents and sections, in one HTML text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page.

    Attributes:
        title: Its heading, and its line in the table of contents.
        html: What is in it, taken as it is.
        lead: A sentence or two that say how to read it, as plain text.
    """

    title: str
    html: str
    lead: str = ""


Card = tuple[str, str, str]
"""A headline number: its label, the number as text, and a note such as its interval, which may be empty."""


def render(
    title: str,
    subtitle: str,
    cards: Sequence[Card],
    sections: Iterable[Section | None],
    details: Mapping[str, object] | None = None,
    notes: Sequence[str] = (),
    footer: str = "",
) -> str:
    """The page as HTML text: it needs no script, asks for nothing outside itself, and prints.

    Everything but ``Section.html`` is escaped.

    Args:
        title: Its name.
        subtitle: A line below it.
        cards: The headline numbers on top.
        sections: What follows, in order; None is left out.
        details: Names and values below the title, such as the run folder and when it was made.
        notes: Sentences that must not be overlooked, above the sections.
        footer: The last line.

    Example:
        >>> "<h1>A &lt; B</h1>" in render("A < B", "", [("accuracy", "91 %", "")], [Section("Data", "<p>…</p>")])
        True
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    here = resources.files(__package__)
    style = here.joinpath("page.css").read_text(encoding="utf-8")
    template = here.joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    kept = [section for section in sections if section is not None]
    return environment.from_string(template).render(
        title=title,
        subtitle=subtitle,
        cards=cards,
        sections=[(f"s{place}", section, Markup(section.html)) for place, section in enumerate(kept, 1)],
        details=details or {},
        notes=notes,
        footer=footer,
        # The style sheet is a file of this package and holds nothing that a user wrote.
        style=Markup(style),
    )
