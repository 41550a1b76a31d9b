"""Random numbers for the rows of a batch, from the coordinates of the draw alone."""

from __future__ import annotations

import torch
from torch import Tensor

from flambeau.core import Draw
from flambeau.data.hashing import key, keys


def draws(draw: Draw, stream: int, n: int) -> Tensor:
    """Uniform numbers in [0, 1): ``n`` for each row of a batch, float32 ``(len(rows), n)``.

    Args:
        draw: Seed, epoch and rows.
        stream: Tells independent uses apart.
        n: How many numbers a row.
    """
    by_row = keys(key(draw.seed, draw.epoch, stream), draw.rows)
    by_number = keys(key(stream), torch.arange(n, dtype=torch.int64, device=draw.rows.device))
    bits = keys(key(stream, n), by_row.unsqueeze(1) ^ by_number)
    # 24 bits are what a float32 holds exactly, so that no number rounds up to 1.
    return ((bits >> 40) & 0xFFFFFF).to(torch.float32) / (1 << 24)
