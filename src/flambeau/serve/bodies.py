"""Bodies of requests, read within limits of size and time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from flambeau.errors import FlambeauError
from flambeau.serve.limits import Limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

CHUNK = 64 << 10


class Refused(FlambeauError):
    """A request that is not carried out.

    Args:
        status: Of HTTP.
        problem: What is wrong.
        headers: That the answer carries.
        details: As for any error of ours.
    """

    def __init__(self, status: int, problem: str, headers: Mapping[str, str] | None = None, **details: Any) -> None:
        super().__init__(problem, **details)
        self.status = status
        self.headers = dict(headers or {})


class ClientGone(Exception):
    """The client closed the connection; nobody is left to answer."""


_CLOSE = {"connection": "close"}


class Bodies:
    """Reads the bodies of all requests, which share what may be buffered.

    Args:
        limits: Of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.buffered = 0

    @asynccontextmanager
    async def of(self, headers: Mapping[str, str], receive: Receive) -> AsyncIterator[bytes]:
        """The body, which counts as buffered inside the ``with`` block.

        Raises:
            Refused: It is too large, too slow, compressed in a way that is not known, or there is no room.
            ClientGone: The client left before its end.
        """
        self._require_size(headers.get("content-length"))
        reserved = [0]

        def reserve(more: int) -> None:
            self.buffered += more
            reserved[0] += more
            if self.buffered > self._limits.buffered:
                raise Refused(503, "The server holds too many requests.", {"retry-after": "1", **_CLOSE})

        try:
            try:
                async with asyncio.timeout(self._limits.read):
                    body = await self._received(receive, reserve)
            except TimeoutError as error:
                problem = f"The body did not arrive within {self._limits.read:g} s."
                raise Refused(408, problem, _CLOSE) from error
            yield self._unpacked(body, headers.get("content-encoding", "identity"), reserve)
        finally:
            self.buffered -= reserved[0]

    def _require_size(self, told: str | None) -> None:
        if told is not None and told.isascii() and told.isdigit() and int(told[:20]) > self._limits.body:
            raise self._too_large(f"{int(told[:20]):,} bytes")

    def _too_large(self, received: str | None = None) -> Refused:
        return Refused(
            413, "The body is too large.", _CLOSE, expected=f"at most {self._limits.body:,} bytes", received=received
        )

    async def _received(self, receive: Receive, reserve: Callable[[int], None]) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > self._limits.body:
                raise self._too_large()
            reserve(len(part))
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _unpacked(self, body: bytes, encoding: str, reserve: Callable[[int], None]) -> bytes:
        """The body without its compression; a bomb is stopped at the limit, before it is unpacked."""
        if encoding == "identity":
            return body
        if encoding not in ("gzip", "deflate"):
            raise Refused(
                415,
                "The body is compressed in a way that is not known here.",
                {"accept-encoding": "gzip, deflate"},
                expected="gzip, deflate or identity",
                received=encoding[:40],
            )
        stream = zlib.decompressobj(wbits=47 if encoding == "gzip" else zlib.MAX_WBITS)
        parts: list[bytes] = []
        size = 0
        waiting = body
        try:
            while not stream.eof and (waiting or not parts):
                part = stream.decompress(waiting, CHUNK)
                waiting = stream.unconsumed_tail
                size += len(part)
                if size > self._limits.body:
                    raise self._too_large()
                reserve(len(part))
                parts.append(part)
                if not part and not waiting:
                    break
        except zlib.error as error:
            raise Refused(400, "The body cannot be decompressed.", received=str(error)) from error
        if not stream.eof or stream.unused_data:
            raise Refused(400, "The compressed body is cut short, or something follows it.")
        return b"".join(parts)
