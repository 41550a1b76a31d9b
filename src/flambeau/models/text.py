"""Classifiers of texts: recurrent networks, a Transformer encoder, and a bag of n-grams.

All take token numbers, int64 ``(N, T)`` with 0 where a row has ended, and give logits float32 ``(N, K)``. What follows
a row's end never changes its result.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.core import Facts
from flambeau.errors import ModelError
from flambeau.models.recurrent import Reader
from flambeau.models.transformer import EncoderLayer, sinusoids

POOLING = ("max", "mean", "both", "last")


def rnn(
    facts: Facts,
    *,
    embedding: int = 128,
    hidden: int = 128,
    layers: int = 1,
    bidirectional: bool = True,
    pooling: str = "max",
    dropout: float = 0.5,
    embedding_dropout: float = 0.3,
) -> nn.Module:
    """A simple recurrent network (Elman, "Finding Structure in Time", 1990) over embeddings, its states pooled.

    Args:
        facts: ``vocabulary``, the number of tokens, of which 0 is padding; ``classes``.
        embedding: Size of a token's vector.
        hidden: Size of the state, in each direction.
        layers: Recurrent layers, one on the other.
        bidirectional: Whether each layer reads from both ends.
        pooling: What is taken of the states of a text: each feature's largest value (``max``), its ``mean``, ``both``,
            or the ``last`` state of each direction.
        dropout: The probability with which a feature is dropped between layers and before the last one.
        embedding_dropout: The same for the embeddings.

    Returns:
        A network from int64 ``(N, T)`` to logits ``(N, K)``.

    Raises:
        ModelError: An argument is out of range.

    Example:
        >>> network = rnn({"vocabulary": 50, "classes": ["ham", "spam"]})
        >>> network(torch.tensor([[3, 4, 5], [7, 0, 0]])).shape
        torch.Size([2, 2])
    """
    return Recurrent(
        "rnn", facts, embedding, hidden, layers, bidirectional, pooling, dropout, embedding_dropout
    )  # fmt: skip


def lstm(
    facts: Facts,
    *,
    embedding: int = 128,
    hidden: int = 128,
    layers: int = 1,
    bidirectional: bool = True,
    pooling: str = "max",
    dropout: float = 0.5,
    embedding_dropout: float = 0.3,
) -> nn.Module:
    """As :func:`rnn`, with a long short-term memory (Hochreiter and Schmidhuber 1997) for the recurrent layers.

    Example:
        >>> network = lstm({"vocabulary": 50, "classes": ["ham", "spam"]}, bidirectional=False, pooling="last")
        >>> network(torch.tensor([[3, 4, 5], [7, 0, 0]])).shape
        torch.Size([2, 2])
    """
    return Recurrent("lstm", facts, embedding, hidden, layers, bidirectional, pooling, dropout, embedding_dropout)


def gru(
    facts: Facts,
    *,
    embedding: int = 128,
    hidden: int = 128,
    layers: int = 1,
    bidirectional: bool = True,
    pooling: str = "max",
    dropout: float = 0.5,
    embedding_dropout: float = 0.3,
) -> nn.Module:
    """As :func:`rnn`, with gated recurrent units (Cho et al. 2014, arXiv 1406.1078) for the recurrent layers.

    Example:
        >>> network = gru({"vocabulary": 50, "classes": ["ham", "spam"]}, layers=2, pooling="both")
        >>> network(torch.tensor([[3, 4, 5], [7, 0, 0]])).shape
        torch.Size([2, 2])
    """
    return Recurrent("gru", facts, embedding, hidden, layers, bidirectional, pooling, dropout, embedding_dropout)


def text_transformer(
    facts: Facts,
    *,
    width: int = 128,
    layers: int = 2,
    heads: int = 4,
    inner: int = 256,
    stem: int = 3,
    pooling: str = "mean",
    dropout: float = 0.3,
    embedding_dropout: float = 0.3,
) -> nn.Module:
    """The encoder of a Transformer (Vaswani et al. 2017, arXiv 1706.03762) over embeddings, its states pooled.

    Layers normalise before each part (Xiong et al. 2020, arXiv 2002.04745); positions are sinusoids, so that texts may
    be of any length.

    Args:
        facts: As for :func:`rnn`.
        width: Size of a token's vector and of every state.
        layers: Layers of attention and feed-forward parts.
        heads: Attention heads; they divide the width, which is even.
        inner: Units of the feed-forward parts.
        stem: Neighbouring tokens that a convolution before the layers looks at, an odd number; 1 leaves it out. On a
            few thousand texts attention alone hardly learns to look at neighbours.
        pooling: As for :func:`rnn`, without ``last``.
        dropout: The probability with which a feature is dropped within the layers and before the last one.
        embedding_dropout: The same for the embeddings.

    Returns:
        A network from int64 ``(N, T)`` to logits ``(N, K)``.

    Raises:
        ModelError: An argument is out of range.

    Example:
        >>> network = text_transformer({"vocabulary": 50, "classes": ["ham", "spam"]})
        >>> network(torch.tensor([[3, 4, 5], [7, 0, 0]])).shape
        torch.Size([2, 2])
    """
    _check_counts("text-transformer", width=width, layers=layers, heads=heads, inner=inner, stem=stem)
    _check_parts("text-transformer", pooling, POOLING[:3], dropout=dropout, embedding_dropout=embedding_dropout)
    if width % heads or width % 2:
        raise ModelError(
            "The attention heads must divide the width, which must be even.",
            where="model.heads",
            received=f"{heads} heads, width {width}",
        )
    if stem % 2 == 0:
        raise ModelError("The stem must have a middle.", where="model.stem", expected="an odd number", received=stem)
    return Encoder(facts, width, layers, heads, inner, stem, pooling, dropout, embedding_dropout)


def ngrams(facts: Facts, *, width: int = 32, buckets: int = 1 << 16, dropout: float = 0.3) -> nn.Module:
    """The mean of the vectors of a text's words and pairs of neighbours, then one linear layer.

    The classifier of fastText (Joulin et al., "Bag of Tricks for Efficient Text Classification", EACL 2017). A pair's
    vector is found by hashing, so some pairs share one.

    Args:
        facts: As for :func:`rnn`.
        width: Size of a vector.
        buckets: Vectors for pairs.
        dropout: The probability with which a feature of the mean is dropped.

    Returns:
        A network from int64 ``(N, T)`` to logits ``(N, K)``.

    Raises:
        ModelError: An argument is out of range.

    Example:
        >>> network = ngrams({"vocabulary": 50, "classes": ["ham", "spam"]}, buckets=100)
        >>> network(torch.tensor([[3, 4, 5], [7, 0, 0]])).shape
        torch.Size([2, 2])
    """
    _check_counts("ngrams", width=width, buckets=buckets)
    _check_parts("ngrams", "mean", POOLING, dropout=dropout)
    return BagOfNgrams(facts, width, buckets, dropout)


class Recurrent(nn.Module):
    """See :func:`rnn`."""

    def __init__(
        self,
        cell: str,
        facts: Facts,
        embedding: int,
        hidden: int,
        layers: int,
        bidirectional: bool,
        pooling: str,
        dropout: float,
        embedding_dropout: float,
    ) -> None:
        super().__init__()
        _check_counts(cell, embedding=embedding, hidden=hidden, layers=layers)
        _check_parts(cell, pooling, POOLING, dropout=dropout, embedding_dropout=embedding_dropout)
        self.pooling = pooling
        self.embedding = _embedding(facts, embedding)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.recurrent = Reader(cell, embedding, hidden, layers, dropout, bidirectional)
        self.dropout = nn.Dropout(dropout)
        features = hidden * (2 if bidirectional else 1) * (2 if pooling == "both" else 1)
        self.head = nn.Linear(features, len(facts["classes"]))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(N, K)`` of tokens int64 ``(N, T)``."""
        # A row without tokens counts as one padding token: there must be a state to pool.
        lengths = (tokens != 0).sum(1).clamp(min=1)
        embedded = self.embedding_dropout(self.embedding(tokens))
        states, last = self.recurrent(embedded, lengths)
        pooled = last if self.pooling == "last" else pool(states, lengths, self.pooling)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


class Encoder(nn.Module):
    """See :func:`text_transformer`."""

    def __init__(
        self,
        facts: Facts,
        width: int,
        layers: int,
        heads: int,
        inner: int,
        stem: int,
        pooling: str,
        dropout: float,
        embedding_dropout: float,
    ) -> None:
        super().__init__()
        self.width, self.pooling = width, pooling
        self.embedding = _embedding(facts, width)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.stem = nn.Conv1d(width, width, stem, padding=stem // 2) if stem > 1 else None
        self.layers = nn.ModuleList([EncoderLayer(width, heads, inner, dropout, 0.0) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width * (2 if pooling == "both" else 1), len(facts["classes"]))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(N, K)`` of tokens int64 ``(N, T)``."""
        there = tokens != 0
        lengths = there.sum(1).clamp(min=1)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        states = self.embedding(tokens) * math.sqrt(self.width)
        states = self.embedding_dropout(states + sinusoids(places, self.width).to(states.dtype))
        if self.stem is not None:
            # Zeros where a row has ended, as the convolution's own padding is, so that the result is the row's alone.
            bare = (states * there.unsqueeze(2)).transpose(1, 2)
            states = states + F.gelu(self.stem(bare)).transpose(1, 2)
        mask = (places < lengths.unsqueeze(1))[:, None, None, :]
        for layer in self.layers:
            states = layer(states, mask)
        logits: Tensor = self.head(self.dropout(pool(self.norm(states), lengths, self.pooling)))
        return logits


class BagOfNgrams(nn.Module):
    """See :func:`ngrams`."""

    def __init__(self, facts: Facts, width: int, buckets: int, dropout: float) -> None:
        super().__init__()
        self.buckets = buckets
        self.words = _embedding(facts, width)
        self.pairs = nn.Embedding(buckets, width)
        nn.init.normal_(self.pairs.weight, std=width**-0.5)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, len(facts["classes"]))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(N, K)`` of tokens int64 ``(N, T)``."""
        there = (tokens != 0).unsqueeze(2)
        first, second = tokens[:, :-1], tokens[:, 1:]
        hashed = (first * _FIRST).bitwise_xor(second * _SECOND).remainder(self.buckets)
        total = (self.words(tokens) * there).sum(1) + (self.pairs(hashed) * there[:, 1:]).sum(1)
        count = (there.sum(1) * 2 - 1).clamp(min=1)
        logits: Tensor = self.head(self.dropout(total / count))
        return logits


_FIRST, _SECOND = 0x9E3779B1, 0x85EBCA77
"""Large odd numbers: pairs of neighbouring token numbers come out far apart."""


class TextClassifier(nn.Module):
    """A network of token numbers together with what calibrates its probabilities.

    Args:
        network: From int64 ``(N, T)`` to logits ``(N, K)``.

    Attributes:
        network: As given.
        temperature: A float32 scalar that divides the logits when probabilities are wanted (Guo et al. 2017); 1 until
            it is fitted. ``forward`` leaves it alone.
    """

    temperature: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("temperature", torch.ones((), dtype=torch.float32))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits ``(N, K)`` of tokens ``(N, T)``, int32 or int64."""
        logits: Tensor = self.network(tokens.long())
        return logits


def pool(states: Tensor, lengths: Tensor, pooling: str) -> Tensor:
    """One vector a row from its states: the largest value of each feature, the mean, or both side by side.

    Args:
        states: ``(N, T, D)``.
        lengths: How many states of each row count, ``(N,)`` int64, at least 1.
        pooling: ``max``, ``mean`` or ``both``.

    Example:
        >>> pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2]), "both")
        tensor([[3., 2.]])
    """
    there = (torch.arange(states.shape[1], device=states.device) < lengths.unsqueeze(1)).unsqueeze(2)
    pooled = []
    if pooling != "mean":
        pooled.append(states.masked_fill(~there, -torch.inf).amax(1))
    if pooling != "max":
        pooled.append((states * there).sum(1) / lengths.unsqueeze(1))
    return torch.cat(pooled, dim=1)


def _embedding(facts: Facts, width: int) -> nn.Embedding:
    embedding = nn.Embedding(facts["vocabulary"], width, padding_idx=0)
    nn.init.normal_(embedding.weight, std=width**-0.5)
    with torch.no_grad():
        embedding.weight[0].zero_()
    return embedding


def _check_counts(model: str, **values: int) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModelError(
                f"{model} needs a whole number from 1 on.", where=f"model.{name}", expected="at least 1", received=value
            )


def _check_parts(model: str, pooling: str, choices: tuple[str, ...], **dropouts: float) -> None:
    if pooling not in choices:
        raise ModelError(
            f"{model} cannot pool in this way.", where="model.pooling", expected=" or ".join(choices), received=pooling
        )
    for name, value in dropouts.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise ModelError(
                "The dropout probability is out of range.", where=f"model.{name}", expected="0 <= p < 1", received=value
            )
