"""Texts unlike everything that a model was trained on, from their token numbers: models and exported files share this.

What is told of pictures is in :mod:`flambeau.data.brightness`, what of sounds in :mod:`flambeau.data.waves`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

STRANGE = 0.5
"""The part of unknown words from which on a text is doubted."""


def of_text(tokens: Sequence[int], unknown: int, marks: int) -> str | None:
    """A sentence when most words of a text occur in no training text.

    Args:
        tokens: Its token numbers, without padding.
        unknown: The number of an unknown word.
        marks: How many of the tokens are put around every text.

    Example:
        >>> of_text([7, 1, 1, 9], unknown=1, marks=2)
        '2 of its 2 words occur in no training text'
    """
    strange, words = tokens.count(unknown), max(1, len(tokens) - marks)
    return f"{strange} of its {words} words occur in no training text" if strange > STRANGE * words else None


def of_prompt(tokens: Sequence[int], unknown: int | None) -> str | None:
    """A sentence when a text to go on from has tokens that never occur in the training text."""
    strange = 0 if unknown is None else tokens.count(unknown)
    return f"{strange} of its {len(tokens)} tokens never occur in the training text" if strange else None


def of_sentence(
    tokens: Sequence[int], text: str, unknown: int, characters: Collection[str], longest: int
) -> str | None:
    """A sentence when a sentence to translate has words or characters that none of training has, or is longer.

    Args:
        tokens: Its token numbers with the one that ends it, without padding.
        text: What these tokens say.
        unknown: The number of an unknown word.
        characters: Those of the training sentences.
        longest: Tokens of the longest of them.
    """
    missing, strange = tokens.count(unknown), sorted(set(text) - set(characters))
    if missing:
        return f"{missing} of its {len(tokens) - 1} words occur in no training sentence."
    if strange:
        return f"It holds characters that occur in no training sentence: {''.join(strange[:10])}"
    if len(tokens) > longest:
        return f"It is longer ({len(tokens)} tokens) than every training sentence (at most {longest})."
    return None
