"""Models of tokens as graphs: what their files say about making tokens, and made-up texts to try them with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flambeau.core import Batch, Facts
from flambeau.data.tokens import decode, size
from flambeau.program import Call, Graph, Port, Predicting, Program, Wish, require_varying
from flambeau.tasks import labels

LENGTHS = (1, 2, 5, 17, 40)
"""Tokens of made-up texts."""


def program(model: nn.Module, facts: Facts, wish: Wish) -> Program:
    """The program of a classifier of texts, one graph: token numbers to calibrated probabilities."""
    require_varying(wish, "text-classification")
    longest = facts["max_length"]
    tokens = Port(
        "tokens",
        torch.randint(1, facts["vocabulary"], (2, min(7, longest or 7))),
        ("N", "T"),
        "token numbers, each row followed by zeros",
        most={} if longest is None else {"T": longest},
    )

    def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return labels.outputs_of(model, model(batch["tokens"]))

    def run(call: Call, batch: Batch) -> dict[str, Tensor]:
        return labels.restored(model, call("model", {"tokens": batch["tokens"].long()}))

    module = Predicting(model, predict, ["tokens"], list(labels.EXPORTED))
    return Program(
        (Graph("model", module.eval(), (tokens,), labels.EXPORTED),),
        lambda call, raw, batch: run(call, batch),
        labels.COMPARED,
        {
            "front": "text",
            **{name: facts[name] for name in ("tokenizer", "before", "after", "shift", "unknown", "max_length")},
            "padding": 0,
            "answer": {"kind": "classes"},
        },
        lambda: {"text": made_up(facts["tokenizer"])},
        beside=tokenizer_beside(facts["tokenizer"]),
    )


def tokenizer_beside(tokenizer: str) -> dict[str, bytes]:
    """The tokeniser as a file of its own, which the package ``tokenizers`` reads."""
    return {"tokenizer.json": tokenizer.encode()}


def made_up(tokenizer: str, lengths: Sequence[int] = LENGTHS) -> list[Any]:
    """Texts of about so many tokens, drawn from the vocabulary."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(size(tokenizer), (length,), generator=generator).tolist() for length in lengths]
    # Some tokens are no text by themselves, and a text must not be empty.
    return [text if text.strip() else "?" for text in decode(tokenizer, rows)]
