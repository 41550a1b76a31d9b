"""An exported language model, asked what a text costs and how it might go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flambeau.data.doubts import of_prompt
from flambeau.data.plain import pieces, prompt, prompt_inputs
from flambeau.data.tokenizing import load_tokenizer, numbers_of
from flambeau.export.portable.asking import Run, Shown
from flambeau.export.portable.card import Card
from flambeau.export.portable.running import File
from flambeau.export.portable.singly import Singly
from flambeau.tasks.answers import continuation_cells, continuation_line, continuation_of, with_doubt


class Continuing:
    """A language model as a graph.

    Args:
        card: What the file says.
        run: Gives the logits of what follows each of some tokens.
    """

    def __init__(self, card: Card, run: Run) -> None:
        self.card = card
        self._run = run

    def answer(self, text: str) -> Any:
        """What a text costs, and how it might go on."""
        about = self.card.about
        numbers = [number for row in numbers_of(about["tokenizer"], list(pieces(text))) for number in row]
        after = list(self._written_on([about["start"], *numbers]))
        told = load_tokenizer(about["tokenizer"]).decode(after, skip_special_tokens=True)
        answer = continuation_of(told, self._nats(numbers), len(numbers), len(text))
        return with_doubt(answer, of_prompt(numbers, about["unknown"]))

    def _logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._run({"tokens": np.array([tokens], dtype=np.int64)})["logits"][0]
        return logits

    def _nats(self, numbers: Sequence[int]) -> float:
        """What a text costs; each stretch as long as the context is read by itself."""
        text, context, total = [self.card.about["start"], *numbers], self.card.about["max_length"], 0.0
        for first in range(0, len(numbers), context):
            part = text[first : first + context + 1]
            logits = self._logits(part[:-1])
            top = logits.max(axis=1, keepdims=True)
            whole = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
            total += float((whole - logits[np.arange(len(part) - 1), part[1:]]).sum())
        return total

    def _written_on(self, text: Sequence[int]) -> Iterator[int]:
        """The most probable tokens one after the other, as :func:`flambeau.models.sampling.generate` finds them."""
        about = self.card.about
        context: int = about["max_length"]
        window = list(text)[-context:]
        for _ in range(about["continued"]):
            if len(window) > context:
                window = window[-max(1, context // 2) :]
            scores = self._logits(window)[-1]
            scores[about["never"]] = -np.inf
            token = int(scores.argmax())
            if token == about["end"]:
                return
            yield token
            window.append(token)


def opened(file: File, form: str) -> Singly:
    """The model of a file."""
    model = Continuing(file.card, file.load())
    view = Shown(prompt_inputs, continuation_line, continuation_cells)
    return Singly(file.card, view, prompt, model.answer)
