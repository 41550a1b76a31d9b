"""``transformer``: an encoder and a decoder of attention, for sequences into sequences (Vaswani et al. 2017)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.core import Facts
from flambeau.errors import ModelError
from flambeau.models.search import PAD, Memory, State

Pair = tuple[Tensor, Tensor]
"""Keys and values, each ``(N, H, S, D / H)``."""


def transformer(
    facts: Facts,
    *,
    width: int = 256,
    layers: int = 3,
    heads: int = 4,
    inner: int = 512,
    dropout: float = 0.15,
    attention_dropout: float = 0.0,
    positions: str = "sinusoidal",
    longest: int = 512,
) -> nn.Module:
    """An encoder-decoder Transformer with one embedding for source, target and output.

    Normalisation comes before each part rather than after it, which trains without a delicate warm-up (Xiong et al.
    2020); the output layer is the embedding's transpose (Press and Wolf 2017), so source and target share a vocabulary.

    Args:
        facts: ``vocabulary``, the number of tokens; 0 is padding.
        width: Size of the embedding and of every state in between.
        layers: Layers of the encoder, and as many of the decoder.
        heads: Attention heads; they divide the width.
        inner: Units of the feed-forward parts.
        dropout: The probability with which a feature is dropped before it is added to its path, and of the embedding.
        attention_dropout: The same for attention weights. Above 0 the fused attention of CPUs cannot be used.
        positions: ``sinusoidal`` (of any length) or ``learned``.
        longest: The most tokens of a sequence, for learned positions.

    Returns:
        A network from int64 ``(N, S)`` and ``(N, T)`` to logits float32 ``(N, T, V)``.

    Raises:
        ModelError: An argument is out of range.

    Example:
        >>> network = transformer({"vocabulary": 50}, width=16, layers=1, heads=2, inner=32)
        >>> network(torch.ones(3, 7, dtype=torch.int64), torch.ones(3, 5, dtype=torch.int64)).shape
        torch.Size([3, 5, 50])
    """
    _check(width, layers, heads, inner, longest, dropout, attention_dropout, positions)
    table = nn.Embedding(longest, width) if positions == "learned" else None
    network = Transformer(facts["vocabulary"], width, layers, heads, inner, dropout, attention_dropout, table)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1 and not name.startswith(("embedding", "positions")):
            nn.init.xavier_uniform_(parameter)
    return network


class Transformer(nn.Module):
    """See :func:`transformer`; the methods beside ``forward`` are what :mod:`flambeau.models.search` asks for."""

    def __init__(
        self,
        vocabulary: int,
        width: int,
        layers: int,
        heads: int,
        inner: int,
        dropout: float,
        attention_dropout: float,
        positions: nn.Embedding | None,
    ) -> None:
        super().__init__()
        self.width = width
        # Scaled up by sqrt(width) on the way in, so that as the output layer it gives logits of a size near 1.
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.positions = positions
        if positions is not None:
            nn.init.normal_(positions.weight, std=0.02)
        sizes = (width, heads, inner, dropout, attention_dropout)
        self.encoder = nn.ModuleList([EncoderLayer(*sizes) for _ in range(layers)])
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList([DecoderLayer(*sizes) for _ in range(layers)])
        self.decoder_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    @property
    def longest(self) -> int | None:
        """The most tokens of a sequence, or None where there is no such limit."""
        return None if self.positions is None else self.positions.num_embeddings

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits ``(N, T, V)`` of what follows each token of the target ``(N, T)``, which begins with ``<s>``."""
        return self.output(self.features(source, target))

    def features(self, source: Tensor, target: Tensor) -> Tensor:
        """What the output layer sees, ``(N, T, D)``."""
        states, mask = self._encode(source)
        x = self._embed(target)
        for layer in self._decoders():
            x, _ = layer(x, None, layer.across.keys_values(states), mask)
        normed: Tensor = self.decoder_norm(x)
        return normed

    def output(self, features: Tensor) -> Tensor:
        """Logits of the features, ``(..., D)`` to ``(..., V)``."""
        return F.linear(features, self.embedding.weight)

    def begin(self, source: Tensor) -> tuple[Memory, State]:
        """What decoding needs of a source ``(N, S)``: its keys and values by layer; nothing is decoded yet."""
        states, mask = self._encode(source)
        memory = {"mask": mask}
        for number, layer in enumerate(self._decoders()):
            memory[f"keys{number}"], memory[f"values{number}"] = layer.across.keys_values(states)
        return memory, {}

    def step(self, tokens: Tensor, memory: Memory, state: State) -> tuple[Tensor, State]:
        """Logits ``(N, V)`` of what follows one more token ``(N,)``; keys and values of the earlier ones are kept."""
        done = state["keys0"].shape[2] if state else 0
        x, after = self._embed(tokens.unsqueeze(1), done), {}
        for number, layer in enumerate(self._decoders()):
            keys, values = f"keys{number}", f"values{number}"
            past = (state[keys], state[values]) if state else None
            x, (after[keys], after[values]) = layer(x, past, (memory[keys], memory[values]), memory["mask"])
        return self.output(self.decoder_norm(x[:, 0])), after

    def attention(self, source: Tensor, target: Tensor) -> Tensor:
        """How much each target position looks at each source token, ``(N, T, S)``: the last layer's mean over heads."""
        states, mask = self._encode(source)
        x, weights = self._embed(target), states
        for layer in self._decoders():
            pair = layer.across.keys_values(states)
            weights = layer.looks(x, pair, mask)
            x, _ = layer(x, None, pair, mask)
        return weights

    def _decoders(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder if isinstance(layer, DecoderLayer)]

    def _encode(self, source: Tensor) -> Pair:
        """States ``(N, S, D)`` and which of them are there, bool ``(N, 1, 1, S)``."""
        mask = (source != PAD)[:, None, None, :]
        x = self._embed(source)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def _embed(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Tokens ``(N, T)`` with their positions from ``first`` on, ``(N, T, D)``."""
        places = torch.arange(first, first + tokens.shape[1], device=tokens.device)
        x = self.embedding(tokens) * math.sqrt(self.width)
        if self.positions is None:
            x = x + sinusoids(places, self.width).to(x.dtype)
        else:
            if first + tokens.shape[1] > self.positions.num_embeddings:
                raise ModelError(
                    "The sequence is longer than the positions that were learned.",
                    where="model.longest",
                    expected=f"at most {self.positions.num_embeddings} tokens",
                    received=first + tokens.shape[1],
                    remedy='Cut texts with text.max_length, or train with model.positions = "sinusoidal".',
                )
            x = x + self.positions(places)
        out: Tensor = self.dropout(x)
        return out


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward part: ``(N, S, D)`` to ``(N, S, D)``."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.within_norm = nn.LayerNorm(width)
        self.within = Attention(width, heads, attention_dropout)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = feed_forward(width, inner)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        normed = self.within_norm(x)
        x = x + self.dropout(self.within(normed, self.within.keys_values(normed), mask))
        out: Tensor = x + self.dropout(self.feed(self.feed_norm(x)))
        return out


class DecoderLayer(nn.Module):
    """Self-attention to what is decoded so far, attention to the source, a feed-forward part."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.within_norm = nn.LayerNorm(width)
        self.within = Attention(width, heads, attention_dropout)
        self.across_norm = nn.LayerNorm(width)
        self.across = Attention(width, heads, attention_dropout)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = feed_forward(width, inner)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, past: Pair | None, source: Pair, mask: Tensor) -> tuple[Tensor, Pair]:
        """The layer's output ``(N, T, D)``, and keys and values of all target positions up to here."""
        x, pair = self._within(x, past)
        x = x + self.dropout(self.across(self.across_norm(x), source, mask))
        return x + self.dropout(self.feed(self.feed_norm(x))), pair

    def looks(self, x: Tensor, source: Pair, mask: Tensor) -> Tensor:
        """Where the attention to the source goes, the mean over heads, ``(N, T, S)``."""
        x, _ = self._within(x, None)
        return self.across.weights(self.across_norm(x), source[0], mask).mean(1)

    def _within(self, x: Tensor, past: Pair | None) -> tuple[Tensor, Pair]:
        normed = self.within_norm(x)
        keys, values = self.within.keys_values(normed)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        # With a past there is one new position, and it may see all of them.
        return x + self.dropout(self.within(normed, (keys, values), causal=past is None)), (keys, values)


class Attention(nn.Module):
    """Scaled dot-product attention in several heads."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def keys_values(self, x: Tensor) -> Pair:
        """Keys and values of states ``(N, S, D)``."""
        n, s, _ = x.shape
        keys, values = self.key_value(x).view(n, s, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return keys, values

    def forward(self, x: Tensor, pair: Pair, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Each of ``x`` ``(N, T, D)`` attends to the keys where the mask (bool, ``(N, 1, 1, S)``) is true."""
        p = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(self._queries(x), *pair, attn_mask=mask, dropout_p=p, is_causal=causal)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(x.shape))
        return out

    def weights(self, x: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """The attention weights alone, ``(N, H, T, S)``."""
        queries = self._queries(x)
        scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[-1])
        return scores.masked_fill(~mask, float("-inf")).softmax(-1)

    def _queries(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        queries: Tensor = self.query(x).view(n, t, self.heads, -1).transpose(1, 2)
        return queries


def feed_forward(width: int, inner: int) -> nn.Module:
    """Two layers with a ReLU between them; as in the paper, nothing is dropped inside."""
    return nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))


def sinusoids(places: Tensor, width: int) -> Tensor:
    """Sines and cosines of wavelengths from 2π to 10,000 · 2π for places ``(T,)``: float32 ``(T, width)``.

    Example:
        >>> sinusoids(torch.tensor([0, 1]), 4)[0].tolist()
        [0.0, 0.0, 1.0, 1.0]
    """
    half = width // 2
    rates = torch.exp(torch.arange(half, device=places.device) * (-math.log(10_000.0) / max(1, half - 1)))
    angles = places[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def _check(
    width: int,
    layers: int,
    heads: int,
    inner: int,
    longest: int,
    dropout: float,
    attention_dropout: float,
    positions: str,
) -> None:
    whole = {"width": width, "layers": layers, "heads": heads, "inner": inner, "longest": longest}
    for name, value in whole.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(
                "The argument is out of range.",
                where=f"model.{name}",
                expected="a whole number from 1 on",
                received=repr(value),
            )
    if width % heads or width % 2:
        raise ModelError(
            "The heads must divide the width, and the width must be even.",
            where="model.heads",
            expected=f"a divisor of {width}",
            received=heads,
        )
    for name, p in {"dropout": dropout, "attention_dropout": attention_dropout}.items():
        if not isinstance(p, int | float) or not 0 <= p < 1:
            raise ModelError(
                "The dropout probability is out of range.", where=f"model.{name}", expected="0 <= p < 1", received=p
            )
    if positions not in ("sinusoidal", "learned"):
        raise ModelError(
            "Positions of this kind are not known.",
            where="model.positions",
            expected="sinusoidal or learned",
            received=positions,
        )
