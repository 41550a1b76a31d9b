"""What can be told of a request before it is parsed, where it is framed in the plainest way, as nearly all are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

LINE = re.compile(rb"(GET|POST) (/[!-~]*) HTTP/1\.1")
MODEL = re.compile(rb"/v2/models/([^/?]+)/")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,12})[ \t]*\r\n", re.IGNORECASE)
UNUSUAL = re.compile(rb"\r\n(?:transfer-encoding|expect|upgrade)[ \t]*:")
CLOSES = re.compile(rb"\r\nconnection:[^\r]*close")

USUAL = 2048
"""Bytes of a head beyond which it is not kept in mind."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request.

    Attributes:
        size: Its bytes, with the empty line.
        length: Bytes of the body.
        model: Whom it asks, as the address has it; None where nothing is computed.
        closes: Whether the connection ends with the answer.
    """

    size: int
    length: int
    model: bytes | None
    closes: bool


def head_of(data: bytes) -> Head | None:
    """The head at the beginning of what a connection received; None where it is not whole or not plain.

    Example:
        >>> head_of(b"POST /v2/models/shoes/infer HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
        Head(size=59, length=2, model=b'shoes', closes=False)
    """
    size = data.find(b"\r\n\r\n") + 4
    return None if size < 4 else (_usual if size <= USUAL else _parsed)(data[:size])


def _parsed(whole: bytes) -> Head | None:
    line, _, rest = whole[:-4].partition(b"\r\n")
    found = LINE.fullmatch(line)
    if found is None:
        return None
    fields = b"\r\n%b\r\n" % rest.lower()
    lengths = LENGTH.findall(fields)
    posts = found[1] == b"POST"
    if UNUSUAL.search(fields) or len(lengths) != posts or fields.count(b"content-length") != posts:
        return None
    model = MODEL.match(found[2]) if posts else None
    return Head(
        len(whole), int(lengths[0]) if posts else 0, model[1] if model else None, CLOSES.search(fields) is not None
    )


_usual = lru_cache(maxsize=256)(_parsed)
"""For heads as clients send them again and again."""


def answer_size(data: bytes) -> int | None:
    """The bytes of the answer that begins here, of whose head all is there; None where its end cannot be told.

    Example:
        >>> answer_size(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
        40
    """
    end = data.find(b"\r\n\r\n")
    if data.startswith(b"HTTP/1.1 1"):  # an answer before the answer
        return None
    found = LENGTH.search(data, 0, end + 2)
    return None if found is None else end + 4 + int(found[1])
