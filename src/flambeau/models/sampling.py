"""Text from a language model: a token at a time, each drawn from what the model says may come next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flambeau.core import device_of
from flambeau.errors import UsageError


class LanguageModel(nn.Module):
    """A network that gives next tokens' logits, with what is to be known about its tokens.

    Args:
        network: From tokens ``(N, T)`` to logits ``(N, T, vocabulary)``. With a method ``extend(tokens, cache) ->
            (logits, cache)`` it can go on from where it was, which sampling then makes use of.
        context: The most tokens that it reads at once.
        start: The token that stands before a text.
        end: The token that ends one, or None.
        unknown: The token of what the vocabulary lacks, or None.
        never: Tokens that are never drawn, such as padding.
    """

    def __init__(
        self,
        network: nn.Module,
        context: int,
        *,
        start: int,
        end: int | None = None,
        unknown: int | None = None,
        never: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.context = context
        self.start = start
        self.end = end
        self.unknown = unknown
        self.never = tuple(never)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(N, T, vocabulary)`` of the token after each of ``(N, T)``."""
        logits: Tensor = self.network(tokens)
        return logits


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompt: Sequence[int],
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    cached: bool = True,
) -> Iterator[int]:
    """Up to ``length`` tokens that go on from a prompt, one after the other as they are drawn.

    When the context is full, the model goes on from its later half, with or without a cache: so both give the same
    text, and a cache has to be made anew only once in half a context. The generator is one of its own, made from the
    seed: what is drawn depends on nothing that happened before.

    Args:
        model: In evaluation mode.
        prompt: Tokens; of a long one only the last ``context`` are read. An empty one is the start token.
        length: The most tokens; fewer come when the model ends the text.
        temperature: Divides the logits; 0 takes the most probable token each time.
        top_k: Draws among the so many most probable tokens only.
        seed: Of the draws.
        cached: Whether to keep keys and values (or the state) between tokens where the network can.

    Raises:
        UsageError: The temperature is below 0, or ``top_k`` or ``length`` below 1.
    """
    _check(length, temperature, top_k)
    device = device_of(model)
    generator = torch.Generator().manual_seed(seed)
    window = list(prompt)[-model.context :] or [model.start]
    extend = getattr(model.network, "extend", None) if cached else None
    fresh, cache = window, None
    for _ in range(length):
        if len(window) > model.context:
            window = window[-max(1, model.context // 2) :]
            fresh, cache = window, None
        if extend is None:
            logits = model(torch.tensor([window], device=device))
        else:
            logits, cache = extend(torch.tensor([fresh], device=device), cache)
        token = choose(logits[0, -1], temperature=temperature, top_k=top_k, never=model.never, generator=generator)
        if token == model.end:
            return
        yield token
        window, fresh = [*window, token], [token]


def choose(
    logits: Tensor,
    *,
    temperature: float,
    top_k: int | None = None,
    never: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> int:
    """One token from the logits ``(vocabulary,)`` of all.

    Example:
        >>> choose(torch.tensor([0.0, 3.0, 9.0]), temperature=0, never=[2])
        1
    """
    scores = logits.float().cpu()
    if never:
        scores = scores.index_fill(0, torch.tensor(list(never)), -torch.inf)
    if temperature == 0:
        return int(scores.argmax())
    if top_k is not None and top_k < len(scores):
        scores = torch.where(scores >= scores.topk(top_k).values[-1], scores, -torch.inf)
    chances = torch.softmax(scores / temperature, dim=0)
    return int(torch.multinomial(chances, 1, generator=generator))


def _check(length: int, temperature: float, top_k: int | None) -> None:
    wrong: tuple[str, str, Any] | None = None
    if not temperature >= 0 or temperature == float("inf"):
        wrong = ("temperature", "a number from 0 on", temperature)
    elif top_k is not None and top_k < 1:
        wrong = ("top-k", "a whole number from 1 on", top_k)
    elif length < 1:
        wrong = ("length", "a whole number from 1 on", length)
    if wrong is not None:
        name, expected, received = wrong
        raise UsageError(f"A text cannot be drawn with this {name}.", where=name, expected=expected, received=received)
