"""From running text to what word vectors are learnt from: a vocabulary, blocks of words, and what is drawn with them.

A row is a block of consecutive words of the text. Which of them are left out, how far each one looks and what it is
set against is drawn whenever a batch is made, as a function of (seed, epoch, row).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from flambeau.columns import Ragged
from flambeau.core import Draw
from flambeau.data.hashing import key, keys
from flambeau.errors import DataError

BLOCK = 128
"""Words in a row. A window does not reach over its end, which costs about 3 % of the pairs."""

SHARED = 32
"""Noise words of a row. All words of the row share them, so that the logits are one matrix product."""

NONE = -1
"""In a block: the end of a document, or nothing."""

POWER = 0.75
"""Noise words are drawn by their counts to this power (Mikolov et al., NeurIPS 2013, section 2.2)."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_PLACE, _NOISE = 11, 12


def split_words(text: str, lower: bool) -> list[str]:
    """The words of a text, without punctuation; an apostrophe inside a word belongs to it.

    Example:
        >>> split_words("Don't stop: it's 5 o'clock.", lower=True)
        ["don't", 'stop', "it's", '5', "o'clock"]
    """
    return _WORD.findall(text.lower() if lower else text)


def vocabulary(texts: Iterable[str], *, lower: bool, min_count: int, most: int) -> tuple[list[str], list[int]]:
    """The words that occur often enough, the most frequent first, and how often each does.

    Raises:
        DataError: Fewer than two words do.

    Example:
        >>> vocabulary(["a b a c", "b a"], lower=True, min_count=2, most=10)
        (['a', 'b'], [3, 2])
    """
    found: Counter[str] = Counter()
    for text in texts:
        found.update(split_words(text, lower))
    frequent = sorted((pair for pair in found.items() if pair[1] >= min_count), key=lambda pair: (-pair[1], pair[0]))
    if len(frequent) < 2:
        raise DataError(
            f"Only {len(frequent)} of {len(found):,} different words occur {min_count} times or more.",
            expected="at least 2 such words in the training part",
            remedy="Give more text, or set text.min_count lower.",
        )
    chosen = frequent[:most]
    return [word for word, _ in chosen], [count for _, count in chosen]


def numbered(texts: Sequence[str], words: Sequence[str], *, lower: bool) -> Ragged:
    """The numbers of the words of each text, int32; words that are not in the vocabulary are left out."""
    number = {word: place for place, word in enumerate(words)}
    return Ragged.of([[number[word] for word in split_words(text, lower) if word in number] for text in texts])


def blocks(texts: Ragged, size: int = BLOCK) -> Tensor:
    """Texts one after the other in blocks ``(n, size)`` int32, with -1 between two texts and after the last one.

    Example:
        >>> blocks(Ragged.of([[5, 6, 7], [8]]), 3).tolist()
        [[5, 6, 7], [-1, 8, -1]]
    """
    total = len(texts.values)
    places = torch.arange(total) + torch.arange(len(texts)).repeat_interleave(texts.lengths)
    length = total + max(0, len(texts) - 1)
    stream = torch.full((-(-length // size) * size,), NONE, dtype=torch.int32)
    stream[places] = texts.values.to(torch.int32)
    return stream.view(-1, size)


def tables(counts: Sequence[int], subsample: float) -> dict[str, Tensor]:
    """What is drawn by, from how often each of the V words occurs.

    Args:
        counts: ``(V,)``.
        subsample: The frequency from which on words are thinned out, as a fraction of the text; 0 keeps all.

    Returns:
        ``keep`` ``(V,)`` float32, the probability that an occurrence is kept, by the formula of the word2vec program
        (which is not the paper's): ``(sqrt(f / t) + 1) t / f``; ``noise`` ``(V,)`` float64, the cumulated
        probabilities of noise words.
    """
    count = torch.tensor(list(counts), dtype=torch.float64)
    frequency = count / count.sum()
    ratio = frequency / subsample if subsample else torch.zeros_like(frequency)
    keep = torch.where(ratio > 0, (ratio.sqrt() + 1) / ratio, 1.0).clamp(max=1.0)
    noise = (count**POWER).cumsum(0)
    return {"keep": keep.to(torch.float32), "noise": noise / noise[-1]}


def drawn(words: Tensor, draw: Draw, keep: Tensor, noise: Tensor, window: int) -> dict[str, Tensor]:
    """A batch of blocks with what is drawn for them.

    Args:
        words: Blocks, ``(B, L)`` integers; -1 ends a document.
        draw: The blocks' rows, the seed and the epoch.
        keep: As :func:`tables` gives it, on the blocks' device.
        noise: Likewise.
        window: The most words to either side that are context. Each word looks 1 to ``window`` words far, as in the
            word2vec program, so that near words count more.

    Returns:
        ``words`` ``(B, W)`` int64, thinned out and closed up, -1 where there is none; ``context`` ``(B, W, W)`` bool,
        whether the second is context of the first; ``noise`` ``(B, 32)`` int64.
    """
    rows = draw.rows.to(words.device)
    words = words.long()
    length = words.shape[1]
    chance, far = _two_draws(draw, _PLACE, rows, length)
    kept = (words < 0) | (chance < keep[words.clamp(min=0)])
    # Word and reach in one number, to be moved together.
    packed = closed_up((words + 1) * window + (far * window).long(), kept, window * (NONE + 1))
    words, reach = packed // window - 1, packed % window + 1
    picks = torch.searchsorted(noise, _two_draws(draw, _NOISE, rows, SHARED)[0].to(noise.dtype), right=True)
    return {"words": words, "context": contexts(words, reach), "noise": picks.clamp(max=len(noise) - 1)}


def _two_draws(draw: Draw, stream: int, rows: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Two uniform numbers in [0, 1) for each of n columns of each row, float32 ``(B, n)``, as ``augment.draws``."""
    columns = keys(key(stream), torch.arange(n, dtype=torch.int64, device=rows.device))
    bits = keys(key(stream, n), keys(key(draw.seed, draw.epoch, stream), rows).unsqueeze(1) ^ columns)
    first, second = ((bits >> shift) & 0xFFFFFF for shift in (40, 16))
    return first.to(torch.float32) / (1 << 24), second.to(torch.float32) / (1 << 24)


def closed_up(values: Tensor, kept: Tensor, fill: int = NONE) -> Tensor:
    """Each row with only its kept entries, in their order, then ``fill``: ``(B, L)`` to ``(B, W)``."""
    # What is not kept falls into the last column, which is cut off.
    places = (kept.cumsum(1) - 1).masked_fill(~kept, values.shape[1])
    closed = values.new_full((len(values), values.shape[1] + 1), fill).scatter_(1, places, values)
    width = int(places.masked_fill(~kept, -1).max()) + 1 if values.numel() else 0
    return closed[:, : max(1, width)].contiguous()


def has_context(context: Tensor) -> Tensor:
    """Which words have any context ``(B, W)``, from :func:`contexts`: every reach is at least 1, so a neighbour tells.

    Example:
        >>> has_context(contexts(torch.tensor([[4, 5, -1, 6]]), torch.tensor([[3, 1, 1, 3]]))).tolist()
        [[True, True, False, False]]
    """
    found = context.new_zeros(context.shape[:2])
    found[:, :-1] = context.diagonal(1, 1, 2)
    found[:, 1:] |= context.diagonal(-1, 1, 2)
    return found


def contexts(words: Tensor, reach: Tensor) -> Tensor:
    """Which words ``(B, W)`` are context of which: within reach ``(B, W)``, in the same document, not themselves.

    Example:
        >>> contexts(torch.tensor([[4, 5, -1, 6]]), torch.tensor([[3, 1, 1, 3]])).long().tolist()
        [[[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]]
    """
    place = torch.arange(words.shape[1], device=words.device, dtype=torch.int32)
    ends = words < 0
    # Where there is no word, each place is a document of its own.
    document = torch.where(ends, -1 - place, ends.cumsum(1, dtype=torch.int32))
    distance = (place.unsqueeze(1) - place).abs()
    near = (distance > 0) & (distance <= reach.to(torch.int32).unsqueeze(2))
    return near & (document.unsqueeze(2) == document.unsqueeze(1))
