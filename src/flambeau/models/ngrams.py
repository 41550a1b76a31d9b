"""Vectors for what the last few tokens are together: pairs, triples and so on, found by hashing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SPREAD = 0x9E3779B97F4A7C15 - (1 << 64)
"""An odd number, 2^64 divided by the golden ratio: multiples of it lie evenly among all numbers of 64 bits."""


class Ngrams(nn.Module):
    """For each place the sum of a vector for the pair of tokens that ends there, one for the triple, and so on.

    There are far more n-grams than vectors: each is hashed to one of so many, and some share one. So a network need not
    spend its first layers on learning which neighbours belong together.

    Args:
        most: Tokens of the longest n-gram, at least 2.
        buckets: Vectors for each length.
        width: Numbers in a vector.

    Example:
        >>> Ngrams(3, 100, 8)(torch.tensor([[5, 6, 7]])).shape
        torch.Size([1, 3, 8])
    """

    def __init__(self, most: int, buckets: int, width: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.tables = nn.ModuleList([nn.Embedding(buckets, width) for _ in range(most - 1)])

    @property
    def reach(self) -> int:
        """How many tokens before a place its vector depends on."""
        return len(self.tables)

    def forward(self, tokens: Tensor, before: Tensor | None = None) -> Tensor:
        """Sums of vectors ``(N, T, width)``.

        Args:
            tokens: ``(N, T)``, int32 or int64.
            before: The tokens before these, ``(N, up to reach)``; None where a text begins.
        """
        # One more than each token, so that 0 is left for what is not there.
        known = tokens.long() + 1 if before is None else torch.cat([before, tokens], 1).long() + 1
        length = tokens.shape[1]
        padded = F.pad(known, (self.reach + length - known.shape[1], 0))
        code = padded[:, self.reach :]
        total = torch.zeros((), device=tokens.device)
        for number, table in enumerate(self.tables, start=1):
            first = self.reach - number
            code = code * _SPREAD + padded[:, first : first + length]
            # The upper bits are the well mixed ones.
            total = total + table(((code * _SPREAD) >> 20).remainder(self.buckets))
        return total
