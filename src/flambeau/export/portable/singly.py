"""Exported files whose inputs are answered one by one, each by as many calls of a graph as it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flambeau.errors import BadRows, DataError, FlambeauError
from flambeau.export.portable.asking import Shown
from flambeau.export.portable.card import Card
from flambeau.tasks.answers import asked


@dataclass(frozen=True, slots=True)
class Singly:
    """An exported file that is open.

    Attributes:
        card: What the file says about itself.
        view: How people ask, and what they are shown.
        one: A raw value as ``answer`` takes it. Raises ``DataError`` where it cannot be read.
        answer: The answer to it.
    """

    card: Card
    view: Shown
    one: Callable[[Any], Any]
    answer: Callable[[Any], Any]

    def predict(
        self, inputs: Sequence[Any], *, top: int | None = None, abstain_below: float | None = None
    ) -> list[Any]:
        """The answers to raw inputs, as :meth:`flambeau.Model.predict` gives them.

        Raises:
            BadRows: Some cannot be read.
            ModelError: The file cannot be run on one.
            UsageError: ``abstain_below`` is given; these answers have no probability.
        """
        return asked(self.answers([self.read(inputs)])[0], top, abstain_below)

    def read(self, inputs: Sequence[Any]) -> list[Any]:
        """Raw inputs as they are answered.

        Raises:
            BadRows: Some cannot be read.
        """
        bad: dict[int, FlambeauError] = {}
        made = []
        for row, value in enumerate(inputs):
            try:
                made.append(self.one(value))
            except DataError as error:
                bad[row] = error
        if bad:
            raise BadRows(bad)
        return made

    def answers(self, parts: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """The answers to each part's inputs, one after the other."""
        return [[self.answer(value) for value in part] for part in parts]
