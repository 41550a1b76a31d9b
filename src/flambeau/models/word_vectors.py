"""Word vectors by negative sampling: skip-gram and CBOW (Mikolov et al., "Efficient Estimation of Word Representations
in Vector Space", 2013; "Distributed Representations of Words and Phrases and their Compositionality", NeurIPS 2013)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from flambeau.errors import ModelError


class Scored(NamedTuple):
    """Logits of a batch of B blocks with W words.

    Attributes:
        true: For what was there, ``(B, W, C)``: C is W for skip-gram (each word's context), 1 for CBOW (the word).
        counted: Which of these are predictions at all, ``(B, W, C)`` bool.
        noise: For the noise words of the block, ``(B, W, N)``.
    """

    true: Tensor
    counted: Tensor
    noise: Tensor


def skip_gram(facts: Mapping[str, Any], *, dimension: int = 100) -> nn.Module:
    """Each word predicts the words around it.

    Args:
        facts: ``words``, the vocabulary.
        dimension: Of the vectors.

    Returns:
        A network from words ``(B, W)`` int64, context ``(B, W, W)`` bool and noise words ``(B, N)`` int64 to
        :class:`Scored`.

    Raises:
        ModelError: The dimension is out of range.

    Example:
        >>> import torch
        >>> network = skip_gram({"words": ["a", "b", "c"]}, dimension=4)
        >>> words, near = torch.tensor([[0, 1]]), torch.tensor([[[False, True], [True, False]]])
        >>> network(words, near, torch.tensor([[2, 2, 0]])).noise.shape
        torch.Size([1, 2, 3])
    """
    return SkipGram(len(facts["words"]), _checked(dimension))


def cbow(facts: Mapping[str, Any], *, dimension: int = 100) -> nn.Module:
    """The mean of the words around it predicts each word.

    Args:
        facts: ``words``, the vocabulary.
        dimension: Of the vectors.

    Returns:
        A network as :func:`skip_gram` gives one.

    Raises:
        ModelError: The dimension is out of range.
    """
    return Cbow(len(facts["words"]), _checked(dimension))


class SkipGram(nn.Module):
    """Two tables of vectors ``(V, D)``: ``inner`` for the words, ``outer`` for what is around them."""

    def __init__(self, words: int, dimension: int) -> None:
        super().__init__()
        self.inner, self.outer = _embeddings(words, dimension)

    def forward(self, words: Tensor, context: Tensor, noise: Tensor) -> Scored:
        # A word that is not there (-1) is no context of any and has none, so what stands in for it does not count.
        there = words.clamp(min=0)
        inner, outer = self.inner(there), self.outer(there)
        return Scored(inner @ outer.mT, context, inner @ self.outer(noise).mT)


class Cbow(nn.Module):
    """Two tables of vectors ``(V, D)``: ``inner`` for the words around, ``outer`` for the word."""

    def __init__(self, words: int, dimension: int) -> None:
        super().__init__()
        self.inner, self.outer = _embeddings(words, dimension)

    def forward(self, words: Tensor, context: Tensor, noise: Tensor) -> Scored:
        there = words.clamp(min=0)
        inner = self.inner(there)
        near = context.to(inner.dtype)
        count = near.sum(2, keepdim=True)
        mean = near @ inner / count.clamp(min=1)
        true = (mean * self.outer(there)).sum(2, keepdim=True)
        return Scored(true, count > 0, mean @ self.outer(noise).mT)


class WordModel(nn.Module):
    """A network of word vectors with the tables that its task draws by, which are no weights.

    Args:
        network: Has ``inner``, an embedding whose weights are the vectors; its call gives :class:`Scored`.
        tables: Tensors by name.
        window: The most words to either side.
        negatives: Noise words for each true one.
    """

    keep: Tensor
    noise: Tensor

    def __init__(self, network: nn.Module, tables: Mapping[str, Tensor], window: int, negatives: int) -> None:
        super().__init__()
        if not isinstance(getattr(network, "inner", None), nn.Embedding):
            raise ModelError(
                "The network has no word vectors.",
                where=type(network).__name__,
                expected="an attribute inner, an nn.Embedding of the words",
            )
        self.network = network
        self.window, self.negatives = window, negatives
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    @property
    def vectors(self) -> Tensor:
        """The vectors ``(V, D)`` float32."""
        return cast(nn.Embedding, self.network.inner).weight

    def forward(self, words: Tensor, context: Tensor, noise: Tensor) -> Scored:
        scored: Scored = self.network(words, context, noise)
        return scored


def _embeddings(words: int, dimension: int) -> tuple[nn.Embedding, nn.Embedding]:
    # Sparse gradients: a step touches a few thousand words, however many there are.
    inner = nn.Embedding(words, dimension, sparse=True)
    outer = nn.Embedding(words, dimension, sparse=True)
    nn.init.uniform_(inner.weight, -0.5 / dimension, 0.5 / dimension)
    nn.init.zeros_(outer.weight)
    return inner, outer


def _checked(dimension: int) -> int:
    if not isinstance(dimension, int) or dimension < 1:
        raise ModelError(
            "The dimension of word vectors is out of range.",
            where="model.dimension",
            expected="a whole number from 1 on",
            received=repr(dimension),
        )
    return dimension
