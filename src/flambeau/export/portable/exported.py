"""An exported file as a model: it takes what the model took, and answers as it did."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flambeau.errors import BadRows, FlambeauError, ModelError, UsageError
from flambeau.export.portable.asking import Asked, Front, Inputs, Rows, Run, Shown
from flambeau.export.portable.card import Card
from flambeau.export.portable.running import look
from flambeau.export.portable.together import grouped, rows_of, shared_out
from flambeau.tasks.answers import KINDS, Answers, asked, with_doubt

FRONTS = {"picture": "pictures", "sound": "sounds", "text": "texts"}
"""By ``preprocessing.front`` on the card the module whose ``FRONT`` makes the inputs, imported for such files only."""

SINGLY = {"tokens": "continuing", "translation": "translating", "words": "words"}
"""Likewise the module whose ``opened`` makes what answers one input after the other."""

_CALL_IT = "or call the file from code of your own: `flambeau inspect` says what goes in and comes out."

UNASKED = {
    "graph": (
        "The file takes the features and edges of a whole graph, not the number of a node.",
        f"Ask the run or the model file, which hold the graph; {_CALL_IT}",
    ),
    "noise": (
        "The file makes pictures of noise, and answers nothing.",
        f"`flambeau sample` makes pictures with the run or the model file; {_CALL_IT}",
    ),
}
"""Likewise what keeps a file from being asked, and what to do instead."""


class Exported:
    """An exported file with what is needed to ask it. Made by :func:`open_exported`.

    Args:
        card: What the file says about itself.
        load: Makes what runs it, once it is known that somebody can ask.

    Attributes:
        card: What the file says about itself.
        view: How people ask, and what they are shown.
    """

    def __init__(self, card: Card, load: Callable[[], Run]) -> None:
        self.card = card
        self._front, self._answers = _known(card)
        self.view = Shown(self._front.inputs, self._answers.line, self._answers.cells)
        self._run = load()

    def predict(
        self, inputs: Sequence[Any], *, top: int | None = None, abstain_below: float | None = None
    ) -> list[Any]:
        """The answers to raw inputs, as :meth:`flambeau.Model.predict` gives them.

        Args:
            inputs: Paths, bytes, pictures or arrays; or texts.
            top: How many classes to list; all by default.
            abstain_below: Gives no answer where the most probable class has less than this probability.

        Raises:
            BadRows: An input cannot be read.
            ModelError: The file cannot be run on an input.
            UsageError: ``abstain_below`` is not a probability, or the answers have none.
        """
        return asked(self.answers([self.read(inputs)])[0], top, abstain_below)

    def read(self, inputs: Sequence[Any]) -> list[Rows]:
        """What goes into the graph, for neighbours of one shape together.

        Raises:
            BadRows: Some cannot be read.
        """
        bad: dict[int, FlambeauError] = {}
        made = list(self._front.rows(inputs, self.card.about, bad))
        if bad:
            raise BadRows(bad)
        return made

    def answers(self, parts: Sequence[Sequence[Rows]]) -> list[list[Any]]:
        """The answers to each part's rows, in order; neighbours of one shape go through the graph together."""
        rows = [rows for part in parts for rows in part]
        plain = [
            answer
            for group in grouped((each.inputs for each in rows), self.card.about)
            for answer in self._answered(group)
        ]
        doubts = [doubt for each in rows for doubt in each.doubts]
        found = [with_doubt(answer, doubt) for answer, doubt in zip(plain, doubts, strict=True)]
        return shared_out(found, [sum(rows_of(each.inputs) for each in part) for part in parts])

    def _answered(self, inputs: Inputs) -> list[Any]:
        values, about = self.card.values, self.card.about["answer"]
        names = about["targets"] if "targets" in about else values["classes"]
        return [self._answers.of(names, row) for row in self._run(inputs)[self._answers.output].tolist()]


def _known(card: Card) -> tuple[Front, Answers]:
    about = card.about
    front, kind = FRONTS.get(str(about.get("front"))), KINDS.get(str(about.get("answer", {}).get("kind")))
    if front is None or kind is None or len(card.values["inputs"]) != 1:
        problem = f"Exported files of the task {card.values['task']} are not answered here."
        known = UNASKED.get(str(about.get("front")), (problem, f"Ask the run or the model file; {_CALL_IT}"))
        raise UsageError(known[0], where=card.path, remedy=known[1])
    made: Front = _module(front).FRONT
    return made, kind


def open_exported(path: Path, form: str, *, trust_code: bool = False) -> Asked:
    """A file that can be asked.

    Args:
        path: The file.
        form: Its format, which :func:`flambeau.export.portable.card.format_of` tells.
        trust_code: Runs the machine code that an AOTInductor package holds. Only for files whose origin is known.

    Raises:
        ModelError: It is damaged, or is none of ours, or holds code that is not trusted.
        MissingExtra: What runs it is not installed.
        UsageError: Nothing here makes its inputs.
    """
    file = look(path, form)
    if form == "aoti" and not trust_code:
        raise ModelError(
            "The file holds compiled code, which runs when it is opened.",
            where=path,
            remedy="Say --trust-code to run it here, if you know where the file comes from.",
        )
    singly = SINGLY.get(str(file.card.about.get("front")))
    if singly is not None:
        made: Asked = _module(singly).opened(file, form)
        return made
    return Exported(file.card, file.load)


def _module(name: str) -> Any:
    return importlib.import_module(f"flambeau.export.portable.{name}")
