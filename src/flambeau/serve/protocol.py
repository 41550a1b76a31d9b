"""HTTP connections that cannot be held open for nothing: uvicorn's protocol, with limits on the head of a request.

The body has its limits where it is read (:mod:`flambeau.serve.bodies`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from flambeau.serve.front.ending import Ending
from flambeau.serve.front.heads import head_of
from flambeau.serve.front.refusals import CROWDED, TURNED_AWAY, refusal, too_slow
from flambeau.serve.limits import Limits


class OneWrite:
    """A transport that sends in one piece what is written while one event is dealt with, and whose end loses nothing.

    Uvicorn writes the head of an answer and its body apart: two system calls, and two wakes of the client.

    Args:
        transport: The connection's own.
        loop: Its event loop.
        patience: Seconds in which the rest of a request is still taken once it has been answered.

    Attributes:
        unread: Whether the client is still sending a request.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        self._transport, self._loop, self._patience = transport, loop, patience
        self._parts: list[bytes] = []
        self._ending: Ending | None = None
        self.unread = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keeps the bytes until the event is over."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def is_closing(self) -> bool:
        """Whether nothing more is sent."""
        return self._ending is not None or self._transport.is_closing()

    def close(self) -> None:
        """Closes the connection after what was written."""
        if self.is_closing():
            return
        self._flush()
        if self.unread:
            self._ending = Ending(self._transport, self._loop, self._patience)
        else:
            self._transport.close()

    def lost(self) -> None:
        """The connection is gone."""
        if self._ending is not None:
            self._ending.over()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))


@dataclass(slots=True)
class Crowd:
    """How many requests have arrived whole and are not answered yet, over all connections.

    One more is refused before anything is made of it. Refusing by the application costs so large a part of what
    answering does that a server under twice its load answered half as many.

    Attributes:
        most: When further ones are refused; 0 refuses none.
        refused: Called for each that is.
        inside: How many there are.
    """

    most: int = 0
    refused: Callable[[], None] = lambda: None
    inside: int = 0

    @property
    def full(self) -> bool:
        """Whether one more is too many."""
        return 0 < self.most <= self.inside


class GuardedProtocol(HttpToolsProtocol):
    """Closes connections whose head does not arrive in time, is too long, or that are too many.

    Args:
        limits: Of the server.
        crowd: Of the server.
        arguments: Uvicorn's.
    """

    def __init__(self, limits: Limits, crowd: Crowd, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._crowd = crowd
        self._inside = 0
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head = 0

    @property
    def _idle(self) -> bool:
        """Whether no answer is under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a connection on, unless there are too many."""
        self._plain = transport
        self._out = OneWrite(transport, self.loop, self._limits.read)
        super().connection_made(self._out)  # type: ignore[arg-type]
        if len(self.connections) > self._limits.connections:
            self._refuse(refusal(503, CROWDED))
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever closed it."""
        self._stop_timer()
        self._crowd.inside -= self._inside
        self._inside = 0
        self._out.lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if self._out.is_closing() or (self._crowd.full and self._turned_away(data)):
            return
        if self._in_head:
            self._head += len(data)
            # The bytes may hold a body too; only what comes before it counts.
            if self._head > self._limits.head and data.find(b"\r\n\r\n", 0, self._limits.head) < 0:
                self._out.unread = True
                self._refuse(refusal(431, "The request's headers are too long."))
                return
        super().data_received(data)
        if self._idle and not self._out.unread and self._timer is None and not self.transport.is_closing():
            # Empty lines are no request, and must not keep a connection alive.
            self._start_timer()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._in_head = self._out.unread = True
        self._head = 0
        self._start_timer()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there."""
        self._out.unread = False
        self._in_head, self._head = True, 0
        self._stop_timer()
        self._inside += 1
        self._crowd.inside += 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out; whatever is left of a body that nobody reads must come soon."""
        super().on_response_complete()
        if self._inside:
            self._inside -= 1
            self._crowd.inside -= 1
        if self._out.unread:
            self._start_timer()

    def send_400_response(self, msg: str) -> None:
        """What came is no request, and may not have ended."""
        self._out.unread = True
        super().send_400_response(msg)

    def shutdown(self) -> None:
        """The server ends: whoever is sending a request that has no answer under way is not waited for."""
        if self._idle:
            self._out.unread = False
        super().shutdown()

    def _turned_away(self, data: bytes) -> bool:
        """Refuses a request that came whole and alone, as those of most clients do, without parsing it.

        Whatever else there is goes to the application, which refuses it too, if the queue is still full.
        """
        head = head_of(data) if self._idle and not self._out.unread and not self._head else None
        if head is None or head.closes or not head.length or len(data) != head.size + head.length:
            return False
        self._crowd.refused()
        self._plain.write(TURNED_AWAY)
        self._stop_timer()
        if self.timeout_keep_alive_task is None:  # else it goes on: a connection that is only ever refused ends with it
            wait = self.timeout_keep_alive
            self.timeout_keep_alive_task = self.loop.call_later(wait, self.timeout_keep_alive_handler)
        return True

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self._limits.read, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self._refuse(too_slow(self._limits.read))

    def _refuse(self, answer: bytes) -> None:
        """Answers without asking the application, unless an answer is on its way, and closes the connection."""
        if self._idle:
            self.transport.write(answer)
        self.transport.close()


def guarded(limits: Limits, crowd: Crowd) -> Any:
    """What uvicorn makes its connections with."""
    return partial(GuardedProtocol, limits, crowd)
