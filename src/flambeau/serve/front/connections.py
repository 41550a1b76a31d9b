"""The two ends of a connection: the client's, and ours to the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from flambeau.serve.front.admission import Admission
from flambeau.serve.front.ending import Ending
from flambeau.serve.front.heads import answer_size, head_of
from flambeau.serve.front.refusals import CROWDED, TURNED_AWAY, TURNED_OUT, refusal, too_late, too_slow
from flambeau.serve.limits import Limits

HELD = 64 << 10
"""Bytes of a request that are kept here; a client that sends more is not read from until it is passed on."""

GRACE = 1.0
"""Seconds beyond all limits for which the server's own answer is waited for: one that hangs gives none."""

KEEP_ALIVE = 75.0
"""Seconds in which a connection that the server never saw may be idle."""


class State(Enum):
    """Of a client's connection."""

    IDLE = auto()
    """Nothing is under way."""
    ASKING = auto()
    """A request is with the server."""
    WAITING = auto()
    """A request waits here."""
    REFUSED = auto()
    """A request is refused once all of it has come."""
    PASSED = auto()
    """Something was sent whose end is not known here: from now on everything is passed on as it comes."""
    ENDING = auto()
    """No more is answered; what still comes is dropped."""


@dataclass(slots=True, eq=False)
class Front:
    """What all connections share.

    Attributes:
        limits: Of the server.
        address: The path of the socket at which the server listens.
        admission: Who goes in.
        refused: How many requests were refused here, for there was no room.
        late: How many waited here in vain.
        clients: All connections.
        too_slow: What is answered to a request that does not arrive.
        too_late: What is answered to one that has waited in vain.
    """

    limits: Limits
    address: str
    admission: Admission[Client]
    refused: int = 0
    late: int = 0
    clients: set[Client] = field(default_factory=set)
    too_slow: bytes = field(init=False)
    too_late: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.too_slow = too_slow(self.limits.read)
        self.too_late = too_late(self.limits.deadline)


class End(asyncio.Protocol):
    """Either end: what comes in there is not read while the other end cannot take it."""

    _transport: Any = None

    def pause(self) -> None:
        """Reads no more for now."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()


class Client(End):
    """The client's end.

    Args:
        front: What it shares with others.
    """

    def __init__(self, front: Front) -> None:
        self._front = front
        self._loop = asyncio.get_running_loop()
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._state = State.IDLE
        self._held: list[bytes] = []
        self._to_come = 0
        self._model: bytes | None = None
        self._closes = False
        self._answer = b""
        self._answer_left: int | None = None
        self._ending: Ending | None = None

    @property
    def busy(self) -> bool:
        """Whether something is still to be sent, or awaited."""
        if self._state is State.ENDING:
            return bool(self._transport.get_write_buffer_size())
        return self._state is not State.IDLE or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes a connection on, unless there are too many. The server learns of it with its first request."""
        self._transport = transport
        self._front.clients.add(self)
        if len(self._front.clients) > self._front.limits.connections:
            self._end(refusal(503, CROWDED))
        else:
            self._expect(self._front.limits.read, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: so is its request."""
        self._front.clients.discard(self)
        self._give_up()
        if self._ending is not None:
            self._ending.over()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if self._transport.is_closing() or self._state is State.ENDING:
            return
        if self._state is State.PASSED:
            self._pass(data)
        elif self._state is State.IDLE:
            self._begin(data)
        else:
            self._go_on(data)

    def pause_writing(self) -> None:
        """The client reads slower than the server answers."""
        if self._upstream is not None:
            self._upstream.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._upstream is not None:
            self._upstream.resume()

    def _begin(self, data: bytes) -> None:
        head = head_of(data)
        if head is None or len(data) > head.size + head.length:
            self._pass_all(data)
            return
        self._to_come = head.size + head.length - len(data)
        self._closes = head.closes
        if head.model is None:
            self._ask([data])
        elif not self._front.admission.full(head.model):
            self._enter(head.model, data)
        elif head.length > HELD:
            self._pass_all(data)  # the server has a limit of its own, and can refuse without reading the body
        elif self._to_come:
            self._state = State.REFUSED
            self._expect(self._front.limits.read, self._too_slow)
        else:
            self._refuse()

    def _enter(self, model: bytes, data: bytes) -> None:
        """Passes a request on, or lets it wait."""
        self._model = model
        if self._front.admission.enter(model, self):
            self._ask([data])
            return
        self._state = State.WAITING
        self._hold(data)
        self._expect(self._front.limits.deadline, self._too_late)

    def _go_on(self, data: bytes) -> None:
        """The rest of a request, or more than was awaited."""
        more = len(data) > self._to_come
        self._to_come -= len(data)
        if self._state is State.REFUSED:
            self._closes |= more
            if self._to_come <= 0:
                self._refuse()
        elif self._state is State.ASKING and more:
            self._pass_all(data)
        elif self._state is State.ASKING:
            self._pass(data)
        else:
            # What a client sends beyond a request that waits has time: it is passed on behind it.
            self._hold(data)

    def let_in(self) -> None:
        """Passes on the request that waited."""
        held, self._held = self._held, []
        self._ask(held)
        if self._to_come < 0:
            self._pass_all()
        if self._upstream is not None:
            self.resume()

    def _ask(self, request: list[bytes]) -> None:
        """Passes on a request, or what there is of it."""
        self._state = State.ASKING
        for data in request:
            self._pass(data)
        limits = self._front.limits
        self._expect(limits.read + limits.deadline + GRACE, self._too_late)

    def answered(self, data: bytes) -> None:
        """Bytes of an answer."""
        self._expect(None)
        self._transport.write(data)
        if self._state is State.PASSED:
            self._count_out()  # at the latest now the server has it
        elif self._state is State.ASKING:
            self._follow(data)

    def _follow(self, data: bytes) -> None:
        """Looks whether the answer is complete."""
        if self._answer_left is None:
            self._answer = self._answer + data if self._answer else data
            if b"\r\n\r\n" not in self._answer:
                return
            size = answer_size(self._answer)
            if size is None:
                self._pass_all()
                self._count_out()
                return
            self._answer_left = size - len(self._answer)
        else:
            self._answer_left -= len(data)
        if self._answer_left <= 0:
            self._state = State.IDLE if self._answer_left == 0 and self._to_come == 0 else State.PASSED
            self._answer, self._answer_left = b"", None
            self._count_out()

    def connected(self, upstream: Upstream) -> None:
        """The server has taken the connection on."""
        self._connecting = None
        self._upstream = upstream
        held, self._held = self._held, []
        for data in held:
            upstream.write(data)
        self.resume()

    def upstream_lost(self) -> None:
        """The server has closed the connection."""
        self._close()

    def _pass_all(self, data: bytes = b"") -> None:
        self._expect(None)
        self._state = State.PASSED
        if data:
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        """Sends bytes to the server."""
        if self._upstream is not None:
            self._upstream.write(data)
            return
        self._hold(data)
        if self._connecting is None:
            self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self._loop.create_unix_connection(lambda: Upstream(self), self._front.address)
        except OSError:
            self._connecting = None
            self._end(refusal(503, "The server does not answer."))

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        if sum(map(len, self._held)) > HELD:
            self.pause()

    def _refuse(self) -> None:
        """Answers a request that has come whole."""
        self._front.refused += 1
        if self._closes:
            self._end(TURNED_OUT)
            return
        self._state = State.IDLE
        self._transport.write(TURNED_AWAY)
        # The server closes idle connections that it knows.
        self._expect(KEEP_ALIVE if self._upstream is None else None, self._close)

    def _count_out(self) -> None:
        """A request is no longer inside; another goes in for it."""
        if self._model is None:
            return
        model, self._model = self._model, None
        following = self._front.admission.leave(model)
        if following is not None:
            following.let_in()

    def _expect(self, seconds: float | None, otherwise: Callable[[], None] = lambda: None) -> None:
        """Calls one of the following unless something happens in time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, otherwise)

    def _too_slow(self) -> None:
        self._end(self._front.too_slow)

    def _too_late(self) -> None:
        self._front.late += 1
        self._end(self._front.too_late)

    def _end(self, answer: bytes) -> None:
        """Gives a last answer."""
        if not self._transport.is_closing():
            self._transport.write(answer)
            self._close()

    def _close(self) -> None:
        """Closes the connection, but not under the hands of a client that is still sending."""
        if self._transport.is_closing() or self._state is State.ENDING:
            return
        unfinished = self._to_come > 0 or self._state is State.PASSED
        self._give_up()
        if unfinished:
            self._state = State.ENDING
            self._ending = Ending(self._transport, self._loop, self._front.limits.read)
        else:
            self._transport.close()

    def _give_up(self) -> None:
        """Nothing is asked of the server any more."""
        self._expect(None)
        if self._state is State.WAITING and self._model is not None:
            self._front.admission.give_up(self._model, self)
            self._model = None
        self._count_out()
        self._held.clear()
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._upstream is not None:
            self._upstream.close()


class Upstream(End):
    """Our end of the connection to the server.

    Args:
        client: Whose requests go there.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The server has taken the connection on."""
        self._transport = transport
        self._client.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has closed it."""
        self._client.upstream_lost()

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        self._client.answered(data)

    def write(self, data: bytes) -> None:
        """Sends bytes to the server."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Closes the connection, after what is still to be sent."""
        self._transport.close()

    def pause_writing(self) -> None:
        """The server reads slower than the client sends."""
        self._client.pause()

    def resume_writing(self) -> None:
        """The server has caught up."""
        self._client.resume()
