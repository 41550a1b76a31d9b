"""What those who ask an exported file need of it, whatever is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from flambeau.export.portable.card import Card

Inputs = dict[str, NDArray[Any]]
"""The inputs or outputs of a graph by name, rows in front."""

Run = Callable[[Inputs], Inputs]
"""Inputs by name to outputs by name."""


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
        """The answers to raw inputs, as :meth:`flambeau.Model.predict` gives them but for ``doubt``."""
