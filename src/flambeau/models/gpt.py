"""``gpt``: a Transformer that reads from left to right and gives the next token's logits at every place."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.core import Facts
from flambeau.errors import ModelError
from flambeau.models.ngrams import Ngrams

Seen = tuple[Tensor, Tensor]
"""Keys and values of a layer, of the tokens read so far, both ``(N, heads, T, width // heads)``."""


Turn = tuple[Tensor, Tensor]
"""Cosine and sine of the angles of so many places, both ``(T, width // heads // 2)``."""


class Cache(NamedTuple):
    """What reading on takes.

    Attributes:
        recent: The last tokens that were read, as many as the n-grams reach back, ``(N, R)``.
        layers: Keys and values of every layer.
    """

    recent: Tensor
    layers: list[Seen]


def gpt(
    facts: Facts,
    *,
    layers: int = 6,
    width: int = 192,
    heads: int = 6,
    dropout: float = 0.1,
    positions: str = "rotary",
    ngrams: int = 1,
    buckets: int = 4096,
) -> nn.Module:
    """A causal Transformer as in GPT-2: norms before each part, the token table used again for the logits.

    Weights start as in Radford et al. ("Language models are unsupervised multitask learners", 2019): normal with
    deviation 0.02, and for what is added to the residual stream 0.02 / sqrt(2 · layers).

    Args:
        facts: ``vocabulary``, the number of tokens, and ``context``, the most tokens read at once.
        layers: Blocks of attention and feed-forward network.
        width: Numbers a token is carried in.
        heads: Attention heads; they divide the width.
        dropout: The probability with which a number is dropped, after the embedding and at the end of each part.
            Attention weights are not dropped: with that the fast kernels cannot be used.
        positions: ``learned`` adds a vector for each place, as GPT-2 does; ``rotary`` turns queries and keys by an
            angle that grows with the place (Su et al., arXiv 2104.09864) and learns faster from little text.
        ngrams: What is read in at a place: 1 is the token alone, 3 the token, the pair and the triple that end there.
            With little text, or little time, the network gets much further with 3.
        buckets: Vectors for the n-grams of each length, which are found by hashing.

    Returns:
        A network from tokens ``(N, T)``, int32 or int64, ``T`` at most ``context``, to float32 logits
        ``(N, T, vocabulary)``. Its ``extend`` reads on from a cache.

    Raises:
        ModelError: When an argument is out of range.

    Example:
        >>> network = gpt({"vocabulary": 65, "context": 32}, layers=2, width=32, heads=2)
        >>> network(torch.zeros(3, 10, dtype=torch.int64)).shape
        torch.Size([3, 10, 65])
    """
    _check(layers, width, heads, dropout, positions, ngrams, buckets)
    sizes = (facts["vocabulary"], facts["context"], layers, width, heads)
    return GPT(*sizes, dropout, positions, ngrams=Ngrams(ngrams, buckets, width) if ngrams > 1 else None)


class GPT(nn.Module):
    """The network of :func:`gpt`.

    Args:
        vocabulary: How many tokens there are.
        context: The most tokens read at once.
        layers: As in :func:`gpt`, like the rest.
        width: Numbers a token is carried in.
        heads: Attention heads.
        dropout: A probability.
        positions: ``learned`` or ``rotary``.
        epsilon: Is added to the variance in the norms.
        ngrams: Adds vectors of n-grams to those of tokens.

    Attributes:
        context: The most tokens read at once.
        source: The folder that the first weights are to be read from, or None.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(
        self,
        vocabulary: int,
        context: int,
        layers: int,
        width: int,
        heads: int,
        dropout: float = 0.0,
        positions: str = "learned",
        epsilon: float = 1e-5,
        ngrams: Ngrams | None = None,
    ) -> None:
        super().__init__()
        self.context = context
        self.source: str | None = None
        self.tokens = nn.Embedding(vocabulary, width)
        self.ngrams = ngrams
        self.places = nn.Embedding(context, width) if positions == "learned" else None
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([Block(width, heads, dropout, epsilon) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, epsilon)
        if self.places is None:
            cosine, sine = rotation(context, width // heads)
            # Computed, not learnt: they follow from the shape, and a file need not hold them.
            self.register_buffer("cosine", cosine, persistent=False)
            self.register_buffer("sine", sine, persistent=False)
        self._start(layers)

    def _start(self, layers: int) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                if name.endswith("bias"):
                    nn.init.zeros_(parameter)
                continue
            residual = name.endswith(("attention.out.weight", "down.weight"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if residual else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(N, T, vocabulary)`` of the token after each of ``(N, T)``."""
        return self._read(tokens, None)[0]

    def extend(self, tokens: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Logits for further tokens, and the cache with them added; no more than ``context`` tokens in all.

        Args:
            tokens: ``(N, T)``, those that come after what the cache has read.
            cache: As an earlier call returned it, or None at the start.
        """
        logits, layers = self._read(tokens, cache)
        known = torch.cat([cache.recent, tokens], 1) if cache else tokens
        recent = known[:, max(0, known.shape[1] - (self.ngrams.reach if self.ngrams else 0)) :]
        return logits, Cache(recent, layers)

    def _read(self, tokens: Tensor, cache: Cache | None) -> tuple[Tensor, list[Seen]]:
        """Logits for further tokens, and the keys and values of each layer with theirs added."""
        first = cache.layers[0][0].shape[2] if cache else 0
        hidden, turn = self._embed(tokens, first, cache.recent if cache else None)
        layers: list[Seen] = []
        for number, block in enumerate(self.blocks):
            hidden, seen = block(hidden, turn, cache.layers[number] if cache else None)
            layers.append(seen)
        return F.linear(self.norm(hidden), self.tokens.weight), layers

    def _embed(self, tokens: Tensor, first: int, recent: Tensor | None) -> tuple[Tensor, Turn | None]:
        """Tokens from a place on as vectors, ``(N, T, width)``, and where places are turned, their turns."""
        last = first + tokens.shape[1]
        _check_length(last, self.context)
        hidden = self.tokens(tokens)
        if self.ngrams is not None:
            hidden = hidden + self.ngrams(tokens, recent)
        if self.places is not None:
            return self.dropout(hidden + self.places.weight[first:last]), None
        return self.dropout(hidden), (self.cosine[first:last], self.sine[first:last])


class Block(nn.Module):
    """Attention, then a feed-forward network four times as wide, each added to what it was given."""

    def __init__(self, width: int, heads: int, dropout: float, epsilon: float) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width, epsilon)
        self.attention = Attention(width, heads)
        self.before_feed = nn.LayerNorm(width, epsilon)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, turn: Turn | None, cache: Seen | None) -> tuple[Tensor, Seen]:
        attended, seen = self.attention(self.before_attention(hidden), turn, cache)
        hidden = hidden + self.dropout(attended)
        inner = F.gelu(self.up(self.before_feed(hidden)), approximate="tanh")
        return hidden + self.dropout(self.down(inner)), seen


class Attention(nn.Module):
    """Each place looks at itself and at what is to its left: ``(N, T, width)`` to ``(N, T, width)``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, hidden: Tensor, turn: Turn | None, cache: Seen | None) -> tuple[Tensor, Seen]:
        n, length, width = hidden.shape
        split = self.into(hidden).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        if turn is not None:
            query, key = rotate(query, *turn), rotate(key, *turn)
        if cache is not None:
            key, value = torch.cat([cache[0], key], dim=2), torch.cat([cache[1], value], dim=2)
        if length == key.shape[2]:
            looked = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            mask = causal_mask(length, key.shape[2], hidden.device)
            looked = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: Tensor = self.out(looked.transpose(1, 2).reshape(n, length, width))
        return out, (key, value)


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """Which keys the last ``queries`` of ``keys`` places may look at, bool ``(queries, keys)``.

    Example:
        >>> causal_mask(2, 3, torch.device("cpu")).tolist()
        [[True, True, False], [True, True, True]]
    """
    places = torch.arange(keys, device=device)
    return places <= places[keys - queries :].unsqueeze(1)


def rotation(context: int, size: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angles by which each place turns its pairs of numbers, both ``(context, size // 2)``.

    Args:
        context: How many places.
        size: Numbers of a head; an even number.
    """
    rates = 10_000.0 ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
    angles = torch.arange(context, dtype=torch.float32).unsqueeze(1) * rates
    return angles.cos(), angles.sin()


def rotate(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Vectors ``(N, heads, T, size)`` turned by the angles of their places; number i pairs with number i + size / 2."""
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def _check_length(length: int, context: int) -> None:
    if length > context:
        raise ModelError(
            "There are more tokens than the network can read at once.",
            where="gpt",
            expected=f"at most {context} tokens",
            received=length,
        )


def _check(layers: int, width: int, heads: int, dropout: float, positions: str, ngrams: int, buckets: int) -> None:
    counts = {"layers": layers, "width": width, "heads": heads, "ngrams": ngrams, "buckets": buckets}
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(
                f"{name} must be at least 1.", where=f"model.{name}", expected="a whole number", received=repr(value)
            )
    if positions not in ("learned", "rotary"):
        raise ModelError(
            "There are two ways of telling places apart.",
            where="model.positions",
            expected="learned or rotary",
            received=repr(positions),
        )
    even = 2 if positions == "rotary" else 1
    if width % (even * heads):
        raise ModelError(
            "The heads must divide the width" + (", and leave each an even number." if even == 2 else "."),
            where="model.heads",
            expected=f"a number that divides {width // even:g}",
            received=heads,
        )
    check_probability("dropout", dropout)


def check_probability(name: str, value: float) -> None:
    """Refuses a probability that is not below 1.

    Raises:
        ModelError: It is not; the error names the argument.
    """
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ModelError(
            "The probability is out of range.", where=f"model.{name}", expected="0 <= p < 1", received=repr(value)
        )
