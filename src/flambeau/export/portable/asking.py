"""What those who ask an exported file need of it, whatever is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from flambeau.errors import FlambeauError
from flambeau.export.portable.card import Card

Inputs = dict[str, NDArray[Any]]
"""The inputs or outputs of a graph by name, rows in front."""

Run = Callable[[Inputs], Inputs]
"""Inputs by name to outputs by name."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that go through a graph together.

    Attributes:
        inputs: What the graph takes.
        doubts: For each row a sentence where it is unlike everything that the model was trained on, else None.
    """

    inputs: Inputs
    doubts: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Front:
    """What one kind of raw input needs.

    Attributes:
        inputs: What the arguments of ``predict`` stand for: for each input a name to print and the raw value.
        rows: What raw values become, in order, as many at a time as fit; takes what the card says, and where the
            errors of values that cannot be read go, by their numbers.
    """

    inputs: Callable[[Sequence[str]], list[tuple[str, Any]]]
    rows: Callable[[Sequence[Any], Mapping[str, Any], dict[int, FlambeauError]], Iterator[Rows]]


@dataclass(frozen=True, slots=True)
class Shown:
    """What of a task's view an exported file has."""

    inputs: Callable[[Sequence[str]], list[tuple[str, Any]]]
    line: Callable[[Any, int], str]
    cells: Callable[[Any, int], dict[str, str]]


class Asked(Protocol):
    """An exported file that is open."""

    card: Card
    view: Shown

    def read(self, inputs: Sequence[Any]) -> Any:
        """Raw inputs as the graph takes them. Raises ``BadRows`` where some cannot be read."""

    def answers(self, parts: Sequence[Any]) -> list[list[Any]]:
        """The answers to several parts that were read, each part's in order."""

    def predict(
        self, inputs: Sequence[Any], *, top: int | None = None, abstain_below: float | None = None
    ) -> list[Any]:
        """The answers to raw inputs, as :meth:`flambeau.Model.predict` gives them."""
