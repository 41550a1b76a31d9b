"""The two files of an exported translator, searched as the model is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flambeau.data.inputs import sentence_error, sentence_inputs
from flambeau.data.tokenizing import load_tokenizer, numbers_of
from flambeau.errors import BadRows, FlambeauError, ModelError
from flambeau.export.portable.asking import Run, Shown
from flambeau.export.portable.card import Card
from flambeau.export.portable.search import Arrays, Rules, search
from flambeau.tasks.answers import asked, translation_cells, translation_line, translation_of

ENCODER, STEP = "encoder", "step"


class Translating:
    """A translator as two graphs.

    Args:
        card: What one of its files says.
        encoder: Runs the graph of the source.
        step: Runs the graph of a step.
    """

    def __init__(self, card: Card, encoder: Run, step: Run) -> None:
        self.card = card
        self._encoder, self._step = encoder, step
        self.view = Shown(sentence_inputs, translation_line, translation_cells)
        about = card.about
        self._rules = Rules(about["beam"], about["length_penalty"], about["start"], about["end"], about["never"])

    def predict(
        self, inputs: Sequence[Any], *, top: int | None = None, abstain_below: float | None = None
    ) -> list[Any]:
        """The translations of sentences.

        Raises:
            BadRows: Some are no sentences.
            ModelError: The files cannot be run on one.
            UsageError: ``abstain_below`` is given; a translation has no probability.
        """
        return asked(self.answers([self.read(inputs)])[0], top, abstain_below)

    def read(self, inputs: Sequence[Any]) -> list[str]:
        """The sentences.

        Raises:
            BadRows: Some are none.
        """
        errors = {row: sentence_error(value) for row, value in enumerate(inputs)}
        bad: dict[int, FlambeauError] = {row: error for row, error in errors.items() if error is not None}
        if bad:
            raise BadRows(bad)
        return [text.strip() for text in inputs]

    def answers(self, parts: Sequence[Sequence[str]]) -> list[list[Any]]:
        """The translations of each part's sentences, one search after the other."""
        return [[self._translated(text) for text in part] for part in parts]

    def _translated(self, text: str) -> dict[str, Any]:
        about = self.card.about
        [numbers] = numbers_of(about["tokenizer"], [text], about["max_length"], about["before"], about["after"])
        ratio, room = about["most_tokens"]
        longest = int(len(numbers) * ratio) + room
        found = search(self._begin, self._next, np.array([numbers], dtype=np.int64), longest, self._rules)
        told = load_tokenizer(about["tokenizer"]).decode(list(found.tokens), skip_special_tokens=True)
        return translation_of(told, found.score, found.complete)

    def _begin(self, source: NDArray[np.int64]) -> tuple[Arrays, Arrays]:
        made, about = self._encoder({"source": source}), self.card.about
        return (
            {f"memory_{name}": made[f"memory_{name}"] for name in about["memory"]},
            {f"state_{name}": made[f"state_{name}"] for name in about["state"]},
        )

    def _next(self, tokens: NDArray[np.int64], memory: Arrays, state: Arrays) -> tuple[NDArray[np.float32], Arrays]:
        made = self._step({"tokens": tokens, **memory, **state})
        return made["logits"], {f"state_{name}": made[f"next_{name}"] for name in self.card.about["state"]}


def files_of(card: Card) -> Mapping[str, Path]:
    """The files of both graphs, found beside the one that the card is of.

    Raises:
        ModelError: The other one is not there.
    """
    path, own = card.path, str(card.values["graph"])
    found = {name: path.with_name(path.name.replace(f".{own}.", f".{name}.")) for name in (ENCODER, STEP)}
    missing = [file for file in found.values() if not file.is_file()]
    if missing or own not in found or found[ENCODER] == found[STEP]:
        raise ModelError(
            "A translator has two files, and the other one is not beside this one.",
            where=path,
            expected=missing[0].name
            if missing
            else f"names that end in .{ENCODER}{path.suffix} and .{STEP}{path.suffix}",
            remedy="Keep the files together, under the names that `flambeau export` gave them.",
        )
    return found


def translating(card: Card, opened: Callable[[Path], Run]) -> Translating:
    """Both files, opened."""
    files = files_of(card)
    return Translating(card, opened(files[ENCODER]), opened(files[STEP]))
