"""The two files of an exported translator, searched as the model is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flambeau.data.doubts import of_sentence
from flambeau.data.inputs import sentence_error, sentence_inputs
from flambeau.data.tokenizing import load_tokenizer, numbers_of
from flambeau.errors import ModelError
from flambeau.export.portable.asking import Run, Shown
from flambeau.export.portable.card import Card
from flambeau.export.portable.running import File, look
from flambeau.export.portable.search import Arrays, Rules, search
from flambeau.export.portable.singly import Singly
from flambeau.tasks.answers import translation_cells, translation_line, translation_of, with_doubt

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
        about = card.about
        self._rules = Rules(about["beam"], about["length_penalty"], about["start"], about["end"], about["never"])

    def answer(self, text: str) -> Any:
        """The translation of a sentence."""
        about = self.card.about
        [numbers] = numbers_of(about["tokenizer"], [text], about["max_length"], about["before"], about["after"])
        ratio, room = about["most_tokens"]
        longest = int(len(numbers) * ratio) + room
        found = search(self._begin, self._next, np.array([numbers], dtype=np.int64), longest, self._rules)
        told = self._text(found.tokens)
        return with_doubt(translation_of(told, found.score, found.complete), self._doubt(numbers))

    def _text(self, tokens: Sequence[int]) -> str:
        decoded: str = load_tokenizer(self.card.about["tokenizer"]).decode(list(tokens), skip_special_tokens=True)
        return decoded

    def _doubt(self, numbers: Sequence[int]) -> str | None:
        about = self.card.about
        if "longest" not in about:  # of a Flambeau that did not put it on the card
            return None
        text = self._text(numbers)
        return of_sentence(numbers, text, about["unknown"], about["characters"], about["longest"])

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


def opened(file: File, form: str) -> Singly:
    """Both files, opened, of which one has been looked at."""
    files = files_of(file.card)
    runs = {name: file.load() if path == file.card.path else look(path, form).load() for name, path in files.items()}
    translator = Translating(file.card, runs[ENCODER], runs[STEP])
    view = Shown(sentence_inputs, translation_line, translation_cells)
    return Singly(file.card, view, _sentence, translator.answer)


def _sentence(value: Any) -> str:
    error = sentence_error(value)
    if error is not None:
        raise error
    return str(value).strip()
