"""Texts to lists of token numbers, by the package ``tokenizers`` alone: training and exported files share it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from flambeau.errors import MissingExtra, ModelError, one_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def numbers_of(
    tokenizer: str | Tokenizer,
    texts: Sequence[str],
    max_length: int | None = None,
    before: Sequence[int] = (),
    after: Sequence[int] = (),
) -> list[list[int]]:
    """The token numbers of each text; the arguments are those of :func:`flambeau.data.tokens.encode`."""
    tok = load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
    room = None if max_length is None else max(0, max_length - len(before) - len(after))
    numbers = [encoding.ids[:room] for encoding in tok.encode_batch_fast(list(texts), add_special_tokens=False)]
    return [[*before, *row, *after] for row in numbers] if before or after else numbers


@lru_cache(maxsize=16)
def load_tokenizer(json: str) -> Tokenizer:
    """The tokeniser of a JSON text; the same one for the same text, so treat it as read-only.

    Raises:
        ModelError: The text is no tokeniser of Hugging Face's.
        MissingExtra: ``tokenizers`` is not installed.
    """
    require_package()
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(json)
    except Exception as error:  # the package raises nothing narrower
        raise ModelError("The tokeniser cannot be read.", received=one_line(error, 200)) from error
    tokenizer.encode_special_tokens = True  # the word <pad> in somebody's text is text
    return tokenizer


def require_package() -> None:
    """Raises ``MissingExtra`` where ``tokenizers`` is not installed."""
    try:
        import tokenizers  # noqa: F401
    except ImportError as error:
        raise MissingExtra("tokenizers", "text", "cutting texts into tokens") from error
