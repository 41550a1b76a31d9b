"""What the arguments of ``predict`` stand for where they are texts. No PyTorch is needed, for exported files use it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flambeau.data.tables import lines_of, read_text
from flambeau.errors import DataError, did_you_mean

_QUERY = re.compile(r"[+−-]|[^\s+−-]+")

LONGEST = 1_000_000
"""Characters of a text beyond which it is a mistake rather than a text."""


def text_inputs(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """The texts that arguments of ``predict`` stand for: each its own, or that of a ``.txt`` file.

    Raises:
        DataError: A file is missing or cannot be read.

    Example:
        >>> text_inputs(["Where is Paris ?"])
        [('Where is Paris ?', 'Where is Paris ?')]
    """
    inputs = []
    for argument in arguments:
        if argument.lower().endswith(".txt") and not any(sign.isspace() for sign in argument):
            inputs.append((argument, read_text(Path(argument))))
        else:
            inputs.append((shortened(argument, 60), argument))
    return inputs


def shortened(text: str, limit: int) -> str:
    """A text in one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def text_problem(text: Any) -> str:
    """What keeps a value from being a text to read, as a sentence; empty when nothing does."""
    if not isinstance(text, str):
        return f"This is no text but a value of type {type(text).__name__}."
    if not text.strip():
        return "The text is empty."
    return f"The text has {len(text):,} characters, more than {LONGEST:,}." if len(text) > LONGEST else ""


def sentence_inputs(arguments: Sequence[str]) -> list[tuple[str, Any]]:
    """Sentences: each argument is one, or the name of a text file with one a line.

    Raises:
        DataError: What looks like the name of a text file is none.
    """
    found: list[tuple[str, Any]] = []
    for argument in arguments:
        if " " in argument.strip() or not argument.endswith((".txt", ".txt.gz")):
            found.append((argument, argument))
            continue
        if not Path(argument).is_file():
            raise DataError(
                "There is no such file.", where=argument, expected="a sentence, or a text file of sentences"
            )
        lines = enumerate(lines_of(Path(argument)), 1)
        found += [(f"{argument}:{number}", line) for number, line in lines if line.strip()]
    return found


def sentence_error(value: Any) -> DataError | None:
    """What keeps a value from being a sentence to translate."""
    if not isinstance(value, str):
        return DataError("This is not a text.", expected="str", received=type(value).__name__)
    return None if value.strip() else DataError("The sentence is empty.", expected="a sentence")


def word_inputs(arguments: Sequence[str]) -> list[tuple[str, Any]]:
    """Each argument is a word, or a sum of words such as ``king - man + woman``."""
    return [(argument, argument) for argument in arguments]


def query(text: str, words: Sequence[str], *, lower: bool) -> list[tuple[int, float]]:
    """Words that are added up, and subtracted after a minus: their numbers, with 1 or -1.

    Raises:
        DataError: A word is not in the vocabulary, or there is none.

    Example:
        >>> query("king - man + woman", ["man", "woman", "king"], lower=True)
        [(2, 1.0), (0, -1.0), (1, 1.0)]
    """
    found: list[tuple[int, float]] = []
    sign = 1.0
    for part in _QUERY.findall(text.lower() if lower else text):
        if part in "+−-":
            sign = 1.0 if part == "+" else -1.0
            continue
        if part not in words:
            raise DataError(
                f"The word {part!r} is not in the vocabulary of {len(words):,} words.",
                where=text,
                remedy=did_you_mean(part, words),
            )
        found.append((words.index(part), sign))
        sign = 1.0
    if not found:
        raise DataError("There is no word in it.", where=text, expected="a word, or several, as in king - man + woman")
    return found
