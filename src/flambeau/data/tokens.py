"""Texts to token numbers and back, by tokenisers that are trained on the texts at hand.

The tokenisers are Hugging Face's (the package ``tokenizers``): they work on many texts at once, in threads and outside
Python. How many threads is theirs to decide; ``TOKENIZERS_PARALLELISM`` and ``RAYON_NUM_THREADS`` are read by them and
set by nobody here, and the results do not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from flambeau.columns import Ragged
from flambeau.data.tokenizing import load_tokenizer, numbers_of, require_package
from flambeau.errors import DataError, RecipeError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from flambeau.recipe import Text

PADDING, UNKNOWN = 0, 1
"""The numbers of the first two special tokens."""

SPECIALS = ("<pad>", "<unk>")

WORD = r"\w+(?:['’]\w+)*|[^\w\s]"
"""A word, with its apostrophes (don't), or one sign that is neither letter, digit nor space."""

BYTES = 256


def train_tokenizer(texts: Sequence[str], text: Text, *, specials: Sequence[str] = SPECIALS) -> str:
    """A tokeniser that fits these texts, as JSON; equal texts and settings give equal JSON.

    - ``words``: words and single punctuation marks; what is rarer than ``min_count``, or beyond ``vocabulary``, is
      unknown.
    - ``bpe``: pieces of words, merged from bytes by frequency (Sennrich et al., "Neural Machine Translation of Rare
      Words with Subword Units", ACL 2016; bytes as in GPT-2). Nothing is unknown, and nothing is lost unless ``lower``.
    - ``characters``: each its own token.

    Args:
        texts: What to learn from.
        text: The recipe's table ``text``.
        specials: Tokens with a meaning of their own, numbered from 0. The first is padding, the second what is
            unknown. They never come out of a text: one that holds ``<pad>`` holds five ordinary characters.

    Raises:
        DataError: There is no text to learn from.
        RecipeError: The vocabulary is too small for what it must hold.
        MissingExtra: ``tokenizers`` is not installed.

    Example:
        >>> from flambeau.recipe import Text
        >>> tokenizer = train_tokenizer(["the cat", "the dog"], Text())
        >>> encode(tokenizer, ["the bird", "cat"]).padded().tolist()
        [[2, 1], [3, 0]]
        >>> decode(tokenizer, [[2, 3]])
        ['the cat']
    """
    require_package()
    from tokenizers import normalizers

    if not any(texts):
        raise DataError("There is no text to learn tokens from.", expected="texts that are not all empty")
    _check_room(text, len(specials))
    tokenizer, trainer = _untrained(text, list(specials))
    if text.lower:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str())


def encode(
    tokenizer: str | Tokenizer,
    texts: Sequence[str],
    max_length: int | None = None,
    before: Sequence[int] = (),
    after: Sequence[int] = (),
) -> Ragged:
    """The tokens of each text, int32.

    Args:
        tokenizer: JSON of :func:`train_tokenizer`, or what :func:`load_tokenizer` made of it.
        texts: Any texts; an empty one has no tokens.
        max_length: The most tokens of a row, those put before and after it included; what is beyond is cut off.
        before: Tokens put before each text, such as the beginning of a sentence.
        after: Tokens put after it.
    """
    numbers = numbers_of(tokenizer, texts, max_length, before, after)
    lengths = np.fromiter(map(len, numbers), dtype=np.int64, count=len(numbers))
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), lengths.cumsum()])
    values = np.fromiter(chain.from_iterable(numbers), dtype=np.int32, count=int(offsets[-1]))
    return Ragged(torch.from_numpy(values), torch.from_numpy(offsets))


def decode(tokenizer: str | Tokenizer, rows: Ragged | Tensor | Iterable[Sequence[int]]) -> list[str]:
    """The text of each row of tokens, special tokens left out.

    ``bpe`` and ``characters`` give the text back as it was; ``words`` puts a space between any two tokens.

    Args:
        tokenizer: As for :func:`encode`.
        rows: Ragged, a matrix ``(n, length)`` whose rows may end in padding, or lists of numbers.
    """
    tok = load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
    decoded: list[str] = tok.decode_batch(list(_lists(rows)), skip_special_tokens=True)
    return decoded


def size(tokenizer: str | Tokenizer) -> int:
    """How many different tokens there are, the special ones included."""
    tok = load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
    return int(tok.get_vocab_size())


def _lists(rows: Ragged | Tensor | Iterable[Sequence[int]]) -> Iterator[list[int]]:
    if isinstance(rows, Ragged):
        numbers, ends = rows.values.tolist(), rows.offsets.tolist()
        return (numbers[first:last] for first, last in pairwise(ends))
    return iter(rows.tolist()) if isinstance(rows, Tensor) else (list(row) for row in rows)


def _untrained(text: Text, specials: list[str]) -> tuple[Tokenizer, Any]:
    """The tokeniser of a recipe, and what trains it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    common: dict[str, Any] = {"vocab_size": text.vocabulary, "special_tokens": specials, "show_progress": False}
    if text.tokenizer == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        return tokenizer, trainers.BpeTrainer(**common, min_frequency=text.min_count, initial_alphabet=alphabet)
    tokenizer = Tokenizer(models.WordLevel(unk_token=specials[UNKNOWN]))
    if text.tokenizer == "characters":
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    return tokenizer, trainers.WordLevelTrainer(**common, min_frequency=text.min_count)


def _check_room(text: Text, specials: int) -> None:
    least = specials + (BYTES if text.tokenizer == "bpe" else 1)
    if text.vocabulary < least:
        raise RecipeError(
            [f"text.vocabulary: expected at least {least} with the tokenizer {text.tokenizer}, received "
             f"{text.vocabulary}"]
        )  # fmt: skip
