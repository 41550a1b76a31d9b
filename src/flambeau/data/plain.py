"""Running text as it is stored and as it is cut for a tokeniser; training and exported files share it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flambeau.errors import DataError

EXTENSIONS = (".txt", ".text", ".md", ".rst", ".tokens")
"""What is taken for text in a folder; a file that is named itself may be called anything."""

PIECE = 1 << 16
"""Characters after which a text is cut for the tokeniser, at the end of a line where there is one."""


def decoded(content: bytes, where: object) -> str:
    """The text of a file's bytes, every line end a line feed.

    Raises:
        DataError: The bytes are no text in UTF-8, nor in UTF-16 with a byte order mark.
    """
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"The file is not text in UTF-8: byte {error.start:,} cannot be read.",
            where=where,
            received=f"{content[error.start : error.start + 4]!r}",
            remedy="Save it as UTF-8, for example with `iconv -f latin1 -t utf-8`.",
        ) from error
    if "\0" in text:
        raise DataError("The file holds zero bytes; it is no text.", where=where)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def pieces(text: str, limit: int = PIECE) -> Iterator[str]:
    """A text in pieces of at most ``limit`` characters, cut after a line feed where there is one.

    Example:
        >>> list(pieces("one\\ntwo\\nthree", 9))
        ['one\\ntwo\\n', 'three']
    """
    first = 0
    while first < len(text):
        last = first + limit
        if last < len(text):
            line = text.rfind("\n", first, last)
            last = line + 1 if line >= 0 else last
        yield text[first:last]
        first = last


def prompt_inputs(arguments: Sequence[str]) -> list[tuple[str, Any]]:
    """Texts as they are; the text of a file where one of this name ends like a text file."""
    found: list[tuple[str, Any]] = []
    for argument in arguments:
        path = Path(argument)
        if path.suffix.lower() in EXTENSIONS and path.is_file():
            found.append((argument, decoded(path.read_bytes(), path)))
        else:
            found.append((argument if len(argument) <= 40 else f"{argument[:39]}…", argument))
    return found


def prompt(value: Any) -> str:
    """A value that is a text to go on from; an empty one is fine.

    Raises:
        DataError: It is none.
    """
    if not isinstance(value, str):
        raise DataError("This is no text.", expected="str", received=type(value).__name__)
    return value
