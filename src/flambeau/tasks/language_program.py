"""A language model as a graph: tokens so far to what may come next, at every place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from flambeau.columns import Columns
from flambeau.core import Batch, Facts
from flambeau.models.sampling import LanguageModel
from flambeau.program import Call, Compared, Graph, Port, Program, Wish, require_varying
from flambeau.tasks.answers import CONTINUED
from flambeau.tasks.text_program import made_up, tokenizer_beside

Predict = Callable[[nn.Module, Batch], dict[str, Tensor]]

OUTPUTS = {"logits": "of the token after each place, (N, T, V) float32"}


class Called(nn.Module):
    """The network of a language model whose graph is run by a call."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(N, T, V)`` of tokens ``(N, T)``."""
        return self._call("model", {"tokens": tokens.long()})["logits"]


class Logits(nn.Module):
    """The model's logits as a tuple."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> tuple[Tensor]:
        return (self.model(tokens),)


def program(predict: Predict, model: nn.Module, facts: Facts, wish: Wish) -> Program:
    """The program of a language model: one graph, called for windows of a text and, token by token, to write on."""
    require_varying(wish, "language-model")
    known = cast(LanguageModel, model)
    context = known.context
    tokens = Port(
        "tokens",
        torch.randint(0, facts["vocabulary"], (2, min(7, context))),
        ("N", "T"),
        "token numbers from the start token on",
        most={"T": context},
    )

    def run(call: Call, raw: Columns | None, batch: Batch) -> dict[str, Tensor]:
        called = copy.copy(known)
        called._modules = {"network": Called(call)}
        return predict(called, batch)

    return Program(
        (Graph("model", Logits(known).eval(), (tokens,), OUTPUTS),),
        run,
        (Compared("nats", within=1e-3), Compared("logits", within=1e-3)),
        {
            "front": "tokens",
            "tokenizer": facts["tokenizer"],
            "before": [known.start],
            "after": [],
            "shift": 0,
            "unknown": known.unknown,
            "max_length": context,
            "start": known.start,
            "end": known.end,
            "never": list(known.never),
            "continued": CONTINUED,
            "answer": {"kind": "next-token", "softmax": True},
        },
        lambda: {"text": made_up(facts["tokenizer"], (3, 2, 40))},
        lambda: [("model", {"tokens": _tokens(facts["vocabulary"], rows, length)}) for rows, length in _sizes(context)],
        tokenizer_beside(facts["tokenizer"]),
    )


def _sizes(context: int) -> list[tuple[int, int]]:
    return [(1, 1), (3, 1), (1, context), (2, max(1, context // 2)), (5, max(1, context - 1))]


def _tokens(vocabulary: int, rows: int, length: int) -> Tensor:
    return torch.randint(vocabulary, (rows, length), generator=torch.Generator().manual_seed(length))
