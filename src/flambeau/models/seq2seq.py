"""``seq2seq``: a recurrent encoder and decoder with attention (Bahdanau et al. 2015, Luong et al. 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.core import Facts
from flambeau.errors import ModelError
from flambeau.models.recurrent import Reader
from flambeau.models.search import PAD, Memory, State


def seq2seq(
    facts: Facts,
    *,
    embedding: int = 256,
    hidden: int = 384,
    layers: int = 1,
    attention: str = "general",
    dropout: float = 0.3,
) -> nn.Module:
    """A bidirectional GRU that reads and a GRU that writes, looking at what was read through attention.

    The decoder's state looks for its context after each step, as Luong et al. have it, so that training runs through
    the whole target in one call. How well a state and a source position match is a bilinear form (``general``) or a
    small network (``additive``, as Bahdanau et al. have it). One embedding serves source, target and output.

    Args:
        facts: ``vocabulary``, the number of tokens; 0 is padding.
        embedding: Size of the embedding.
        hidden: Units of each GRU, in each direction.
        layers: Layers of the encoder, and as many of the decoder.
        attention: ``general`` or ``additive``.
        dropout: The probability with which a feature of the embedding or of the output is dropped.

    Returns:
        A network from int64 ``(N, S)`` and ``(N, T)`` to logits float32 ``(N, T, V)``.

    Raises:
        ModelError: An argument is out of range.

    Example:
        >>> network = seq2seq({"vocabulary": 50}, embedding=16, hidden=8)
        >>> network(torch.ones(3, 7, dtype=torch.int64), torch.ones(3, 5, dtype=torch.int64)).shape
        torch.Size([3, 5, 50])
    """
    for name, value in {"embedding": embedding, "hidden": hidden, "layers": layers}.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(
                "The argument is out of range.",
                where=f"model.{name}",
                expected="a whole number from 1 on",
                received=repr(value),
            )
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ModelError(
            "The dropout probability is out of range.", where="model.dropout", expected="0 <= p < 1", received=dropout
        )
    if attention not in ("general", "additive"):
        raise ModelError(
            "Attention of this kind is not known.",
            where="model.attention",
            expected="general or additive",
            received=attention,
        )
    return Seq2Seq(facts["vocabulary"], embedding, hidden, layers, attention == "additive", dropout)


class Seq2Seq(nn.Module):
    """See :func:`seq2seq`; the methods beside ``forward`` are what :mod:`flambeau.models.search` asks for."""

    def __init__(
        self, vocabulary: int, embedding: int, hidden: int, layers: int, additive: bool, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=embedding**-0.5)
        self.encoder = Reader("gru", embedding, hidden, layers, dropout)
        self.start = nn.Linear(2 * hidden, layers * hidden)
        between = dropout if layers > 1 else 0.0
        self.decoder = nn.GRU(embedding, hidden, layers, batch_first=True, dropout=between)
        self.key = nn.Linear(2 * hidden, hidden, bias=False)
        self.query = nn.Linear(hidden, hidden) if additive else None
        self.score = nn.Linear(hidden, 1, bias=False) if additive else None
        self.combine = nn.Linear(3 * hidden, embedding)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout = nn.Dropout(dropout)
        self.layers = layers

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits ``(N, T, V)`` of what follows each token of the target ``(N, T)``, which begins with ``<s>``."""
        return self.output(self.features(source, target))

    def features(self, source: Tensor, target: Tensor) -> Tensor:
        """What the output layer sees, ``(N, T, E)``."""
        memory, state = self.begin(source)
        states, _ = self.decoder(self._embed(target), _layers_first(state))
        return self._attend(states, memory)[0]

    def output(self, features: Tensor) -> Tensor:
        """Logits of the features, ``(..., E)`` to ``(..., V)``."""
        return F.linear(features, self.embedding.weight, self.bias)

    def begin(self, source: Tensor) -> tuple[Memory, State]:
        """The encoder's states, keys and mask, and the decoder's first state."""
        lengths = (source != PAD).sum(1)
        states, summary = self.encoder(self._embed(source), lengths)
        first = torch.tanh(self.start(summary)).view(source.shape[0], self.layers, -1)
        states = self.dropout(states)
        return {"states": states, "keys": self.key(states), "mask": source != PAD}, {"hidden": first}

    def step(self, tokens: Tensor, memory: Memory, state: State) -> tuple[Tensor, State]:
        """Logits ``(N, V)`` of what follows one more token ``(N,)``."""
        states, hidden = self.decoder(self._embed(tokens.unsqueeze(1)), _layers_first(state))
        features, _ = self._attend(states, memory)
        return self.output(features[:, 0]), {"hidden": hidden.transpose(0, 1)}

    def attention(self, source: Tensor, target: Tensor) -> Tensor:
        """How much each target position looks at each source token, ``(N, T, S)``."""
        memory, state = self.begin(source)
        states, _ = self.decoder(self._embed(target), _layers_first(state))
        return self._attend(states, memory)[1]

    def _embed(self, tokens: Tensor) -> Tensor:
        # Scaled to variance 1, like the Transformer's: the same table gives logits of a size near 1 at the output.
        out: Tensor = self.dropout(self.embedding(tokens) * self.embedding.embedding_dim**0.5)
        return out

    def _attend(self, states: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Features ``(N, T, E)`` of states ``(N, T, H)`` with what they looked at, and the weights ``(N, T, S)``."""
        if self.query is None or self.score is None:
            scores = states @ memory["keys"].transpose(1, 2)
        else:
            both = self.query(states).unsqueeze(2) + memory["keys"].unsqueeze(1)
            scores = self.score(torch.tanh(both)).squeeze(3)
        weights = scores.masked_fill(~memory["mask"].unsqueeze(1), -torch.inf).softmax(2)
        context = weights @ memory["states"]
        features: Tensor = self.dropout(torch.tanh(self.combine(torch.cat([states, context], 2))))
        return features, weights


def _layers_first(state: State) -> Tensor:
    """The decoder's state as ``nn.GRU`` wants it, ``(layers, N, H)``; kept with the rows first."""
    return state["hidden"].transpose(0, 1).contiguous()
