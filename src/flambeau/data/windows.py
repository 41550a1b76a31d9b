"""A long text as windows of tokens: views of one stream, of which training cuts another part in every epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from flambeau.columns import Ragged, Split
from flambeau.core import Batch, Draw
from flambeau.data.augment import draws

IGNORED = -100
"""The target of a place behind the end of the text; ``cross_entropy`` leaves it out."""

_CUT = 11


def joined(tokens: Ragged, start: int) -> Tensor:
    """The documents one after the other, each with the start token before it, ``(total + documents,)``.

    Example:
        >>> joined(Ragged.of([[5, 6], [7]]), 2).tolist()
        [2, 5, 6, 2, 7]
    """
    lengths = tokens.lengths
    stream = tokens.values.new_full((len(tokens.values) + len(tokens),), start)
    document = torch.arange(len(tokens)).repeat_interleave(lengths)
    stream[torch.arange(len(tokens.values)) + document + 1] = tokens.values
    return stream


def windows(stream: Tensor, context: int) -> Split:
    """Overlapping rows of a stream of tokens, as views of it.

    Row i begins at token i · context and is as long as two contexts and one token: the first half is what a plain
    evaluation scores, and training may cut a window of ``context`` anywhere in it. Every token but the first of the
    stream is a target of exactly one row's first half.

    Args:
        stream: int32 ``(n + 1,)``; the first one is given, the other n are to be predicted.
        context: Tokens that the model reads at once.

    Returns:
        Columns ``window``, int32 ``(R, 2 · context + 1)``, followed by zeros where the stream ends; ``reach``, int64
        ``(R,)``, how many targets a row has; ``place``, int64 ``(R,)``, where in the stream it begins.

    Example:
        >>> windows(torch.arange(6), 2).columns["window"].tolist()
        [[0, 1, 2, 3, 4], [2, 3, 4, 5, 0], [4, 5, 0, 0, 0]]
    """
    targets = len(stream) - 1
    rows = max(1, -(-targets // context))
    padded = stream.new_zeros((rows + 1) * context + 1)
    padded[: len(stream)] = stream
    place = context * torch.arange(rows)
    return Split(
        {
            "window": padded.as_strided((rows, 2 * context + 1), (context, 1)),
            "reach": (targets - place).clamp(max=2 * context),
            "place": place,
        }
    )


def shared(total: int, split: Split, context: int) -> Tensor:
    """A total over the whole text, such as its characters, spread over the rows by their targets: float32 ``(R,)``."""
    targets = split.tensor("reach").clamp(max=context).double()
    # Not float64 to the end, which some devices cannot hold; the sum is right to seven digits.
    return (total * targets / targets.sum().clamp(min=1)).float()


def cut_at(batch: Batch, offset: Tensor, context: int) -> dict[str, Tensor]:
    """Training windows of a batch's rows, from a given token on.

    Args:
        batch: ``window`` and ``reach``.
        offset: int64 ``(N,)``, at most ``context``.
        context: Tokens of a window.

    Returns:
        ``tokens`` int64 ``(N, context)``, and ``target`` of the same shape: what comes after each, or -100 behind the
        end.
    """
    within = torch.arange(context + 1, device=offset.device)
    part = batch["window"].gather(1, offset.unsqueeze(1) + within).long()
    there = within[:-1] < (batch["reach"] - offset).unsqueeze(1)
    return {"tokens": part[:, :-1], "target": part[:, 1:].where(there, IGNORED)}


def cut_anywhere(batch: Batch, draw: Draw, context: int) -> dict[str, Tensor]:
    """Training windows whose beginnings are drawn, a function of seed, epoch and row; other columns are dropped."""
    reach = batch["reach"]
    free = (reach - context).clamp(min=0, max=context)
    chance = draws(Draw(draw.seed, draw.epoch, draw.rows.to(reach.device)), _CUT, 1)[:, 0]
    return {**cut_at(batch, (chance * (free + 1)).long(), context), "row": batch["row"]}
