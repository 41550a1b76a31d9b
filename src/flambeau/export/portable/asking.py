"""What those who ask an exported file need of it, whatever is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

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

    view: Shown

    def predict(
        self, inputs: Sequence[Any], *, top: int | None = None, abstain_below: float | None = None
    ) -> list[Any]:
        """The answers to raw inputs, as :meth:`flambeau.Model.predict` gives them but for ``doubt``."""
