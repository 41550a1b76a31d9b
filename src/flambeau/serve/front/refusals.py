"""Answers that need no application."""

from __future__ import annotations

import json
from http import HTTPStatus

BUSY = "The server has more requests waiting than it takes on."
CROWDED = "There are too many connections."


def refusal(status: int, problem: str, kind: str | None = None, *, close: bool = True) -> bytes:
    """A whole answer with an error in the form of all errors.

    Args:
        status: Of HTTP; 503 says when to come back.
        problem: What is wrong.
        kind: The error's type, where clients may go by it.
        close: Whether the connection ends with it.

    Example:
        >>> refusal(408, "Too slow.").splitlines()[0]
        b'HTTP/1.1 408 Request Timeout'
    """
    body = json.dumps({"error": problem, "details": {"type": kind} if kind else {}}, separators=(",", ":")).encode()
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        *(["connection: close"] if close else []),
        *(["retry-after: 1"] if status == 503 else []),
        f"content-length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def too_slow(seconds: float) -> bytes:
    """The answer to a request that does not arrive."""
    return refusal(408, f"The request did not arrive within {seconds:g} s.")


def not_ready(seconds: float) -> str:
    """What is told of an answer that is not there by the deadline."""
    return f"The answer was not ready within {seconds:g} s."


def too_late(seconds: float) -> bytes:
    """The answer to a request that has waited in vain."""
    return refusal(504, not_ready(seconds))


TURNED_AWAY = refusal(503, BUSY, "Overloaded", close=False)
TURNED_OUT = refusal(503, BUSY, "Overloaded")
