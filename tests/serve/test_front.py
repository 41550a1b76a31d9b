"""The process in front of a server, before a server whose answers the test decides on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from flambeau.serve.front.admission import Admission
from flambeau.serve.front.heads import Head, answer_size, head_of
from flambeau.serve.front.process import FrontProcess
from flambeau.serve.front.refusals import refusal
from flambeau.serve.limits import Limits

pytestmark = pytest.mark.skipif(not FrontProcess.SUPPORTED, reason="There is no process in front on this system.")

FEW = Limits(rows=1, queue=2, read=0.5, deadline=1.0, connections=20)
"""One request goes in, one waits."""

GET = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
LOOK = b"POST /page/models/it/look HTTP/1.1\r\ncontent-length: 3\r\n\r\n"
CLOSE = "CONNECTION: Keep-Alive, Close"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def post(model: str = "it", body: bytes = b"body", *more: str) -> bytes:
    lines = [f"POST /v2/models/{model}/infer HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (post(), Head(len(post()) - 4, 4, b"it", False)),
        (post()[:-4], Head(len(post()) - 4, 4, b"it", False)),
        (post("it", b"", CLOSE), Head(len(post("it", b"", CLOSE)), 0, b"it", True)),
        (GET, Head(len(GET), 0, None, False)),
        (LOOK, Head(len(LOOK), 3, None, False)),
        (post()[:60], None),
        (b"\r\n" + post(), None),
        (post().replace(b"1.1", b"1.0"), None),
        (post().replace(b"POST", b"HEAD"), None),
        (post("it", b"x", "Transfer-Encoding: chunked"), None),
        (post("it", b"x", "Expect: 100-continue"), None),
        (post("it", b"x", "Upgrade: h2c"), None),
        (post("it", b"x", "Content-Length: 2"), None),
        (post().replace(b"Length: 4", b"Length: +4"), None),
        (post().replace(b"Length: 4", b"Length : 4"), None),
        (GET[:-2] + b"content-length: 4\r\n\r\n", None),
        (b"\x16\x03\x01 garbage\r\n\r\n", None),
    ],
)
def test_only_what_is_framed_plainly_is_understood(data: bytes, found: Head | None) -> None:
    assert head_of(data) == found


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (ANSWER, len(ANSWER)),
        (refusal(503, "No."), len(refusal(503, "No."))),
        (b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n", None),
        (b"HTTP/1.1 100 Continue\r\ncontent-length: 0\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", None),
    ],
)
def test_the_end_of_an_answer(data: bytes, size: int | None) -> None:
    assert answer_size(data) == size


def test_each_model_has_its_own_queue_and_is_forgotten_with_its_last_request() -> None:
    admission: Admission[str] = Admission(most=3, abreast=2)
    assert [admission.enter(b"a", name) for name in "123"] == [True, True, False]
    assert admission.full(b"a")
    assert not admission.full(b"b")
    assert admission.enter(b"b", "4")
    assert admission.waiting == 1
    assert admission.leave(b"a") == "3"
    assert admission.waiting == 0
    assert [admission.leave(name) for name in (b"a", b"a", b"b")] == [None] * 3
    assert not admission._models


def test_who_gives_up_makes_room_and_an_open_door_lets_everybody_in() -> None:
    admission: Admission[str] = Admission(most=4, abreast=1)
    assert [admission.enter(b"a", name) for name in "1234"] == [True, False, False, False]
    admission.give_up(b"a", "3")
    assert not admission.full(b"a")
    assert admission.open() == ["2", "4"]
    assert admission.enter(b"a", "5")
    assert [admission.leave(b"a") for _ in range(4)] == [None] * 4


@dataclass
class Behind:
    """A server behind the process in front.

    Attributes:
        process: That process.
        port: Where clients connect.
        got: What came in on each connection, in the order of their first bytes.
        inside: Their other ends.
        lines: All ends, to be closed at the end.
        counts: What the process told: refused and late in all, and waiting.
        told: Its sentences.
    """

    process: FrontProcess
    port: int
    got: list[bytearray] = field(default_factory=list)
    inside: list[asyncio.StreamWriter] = field(default_factory=list)
    lines: list[asyncio.StreamWriter] = field(default_factory=list)
    counts: list[int] = field(default_factory=lambda: [0, 0, 0])
    told: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = bytearray()
        while part := await reader.read(1 << 16):
            if not got:
                self.got.append(got)
                self.inside.append(writer)
                self.lines.append(writer)
            got += part
        writer.close()

    def counted(self, refused: int, late: int, waiting: int) -> None:
        self.counts = [self.counts[0] + refused, self.counts[1] + late, waiting]

    async def client(self, *parts: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which these have been sent, one after the other."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.lines.append(writer)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.05)
        return reader, writer

    async def end(self, following: asyncio.Task[None]) -> None:
        for line in self.lines:
            line.close()
        following.cancel()
        await asyncio.sleep(0.01)
        self.process.kill()


async def until(condition: Callable[[], Any], patience: float = 5.0) -> None:
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.01)


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head)
        return head + await reader.readexactly(int(found[1]) if found else 0)


@asynccontextmanager
async def behind(limits: Limits) -> AsyncIterator[Behind]:
    listening = socket.create_server(("127.0.0.1", 0))
    found = Behind(FrontProcess(listening, limits), listening.getsockname()[1])
    assert found.process.is_up()
    server = await asyncio.start_server(found.serve, sock=found.process.inner)
    following = asyncio.create_task(found.process.follow(found.counted, found.told.append))
    try:
        yield found
    finally:
        if found.process.inner.fileno() >= 0:
            server.close()
        await found.end(following)
        listening.close()


def run(test: Callable[[Behind], Awaitable[None]], limits: Limits = FEW) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), behind(limits) as found:
            await test(found)

    asyncio.run(main())


def test_one_goes_in_one_waits_the_next_is_refused_and_the_connection_stays() -> None:
    async def test(at: Behind) -> None:
        first, _ = await at.client(post())
        second, _ = await at.client(post(body=b"second"))
        third, line = await at.client(post())
        for _ in range(2):
            refused = await answer_of(third)
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in refused
            assert b"Overloaded" in refused
            line.write(post()[:-2])  # in pieces it is refused once it is whole
            await asyncio.sleep(0.05)
            line.write(post()[-2:])
        await until(lambda: at.counts == [3, 0, 1])
        assert len(at.got) == 1
        line.write(GET)
        await until(lambda: len(at.got) == 2)
        assert bytes(at.got[1]) == GET
        at.inside[0].write(ANSWER[:-1])
        await asyncio.sleep(0.1)
        assert len(at.got) == 2
        at.inside[0].write(ANSWER[-1:])
        assert await answer_of(first) == ANSWER
        await until(lambda: len(at.got) == 3)
        assert bytes(at.got[2]) == post(body=b"second")
        at.inside[2].write(ANSWER)
        assert await answer_of(second) == ANSWER
        await until(lambda: at.counts == [3, 0, 0])

    run(test)


def test_other_models_and_requests_in_pieces_are_let_in() -> None:
    async def test(at: Behind) -> None:
        for _ in range(3):
            await at.client(post())
        await at.client(post("other")[:-3], post("other")[-3:])
        await until(lambda: len(at.got) == 2)
        assert bytes(at.got[1]) == post("other")

    run(test)


@pytest.mark.parametrize(
    "sent",
    [
        [post("it", b"a") + post("it", b"b")],
        [post()[:30], post()[30:]],
        [b"POST /v2/models/it/infer HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
        [b"anything at all", b"\r\n\r\n", post()],
    ],
    ids=["two-at-once", "a-torn-head", "chunks", "garbage"],
)
def test_what_it_does_not_understand_it_passes_on_as_it_is(sent: list[bytes]) -> None:
    async def test(at: Behind) -> None:
        for _ in range(3):
            await at.client(post())
        reader, line = await at.client(*sent)
        await until(lambda: len(at.got) == 2 and bytes(at.got[1]) == b"".join(sent))
        at.inside[1].write(b"HTTP/1.1 200 OK\r\n\r\nwhatever")
        line.write(b"and more")
        await until(lambda: at.got[1].endswith(b"and more"))
        at.inside[1].close()
        assert await reader.read() == b"HTTP/1.1 200 OK\r\n\r\nwhatever"

    run(test)


def test_whoever_leaves_makes_room() -> None:
    async def test(at: Behind) -> None:
        _, first = await at.client(post())
        _, second = await at.client(post(body=b"second"))
        third, _ = await at.client(post(body=b"third"))
        assert b" 503 " in await answer_of(third)
        second.close()
        await until(lambda: at.counts[2] == 0)
        await at.client(post(body=b"fourth"))
        first.close()
        await until(lambda: len(at.got) == 2)
        assert bytes(at.got[1]) == post(body=b"fourth")

    run(test)


def test_what_waits_too_long_or_comes_too_slowly_is_answered() -> None:
    async def test(at: Behind) -> None:
        await at.client(post())
        waits, _ = await at.client(post())
        trickles, line = await at.client(post("it", b"x" * 100)[:-50])
        silent, _ = await at.client()
        got = b""
        for _ in range(40):
            line.write(b"x")  # which does not begin the time anew
            with contextlib.suppress(TimeoutError):
                got = await asyncio.wait_for(trickles.read(1000), 0.1)
                break
        assert b" 408 " in got
        assert b" 408 " in await answer_of(silent)
        assert b" 504 " in await answer_of(waits)
        assert await waits.read() == b""
        await until(lambda: at.counts == [0, 1, 0])

    run(test)


def test_a_server_that_hangs_is_not_waited_for_beyond_all_limits() -> None:
    async def test(at: Behind) -> None:
        asks, _ = await at.client(post())
        waits, _ = await at.client(post(body=b"second"))
        begun, _ = await at.client(GET)
        await until(lambda: len(at.got) == 2)
        at.inside[1].write(ANSWER[:-1])
        assert b" 504 " in await answer_of(waits)
        looks, _ = await at.client(GET)
        assert b" 504 " in await answer_of(asks)
        assert await asks.read() == b""
        assert at.counts[:2] == [0, 1]
        assert b" 504 " in await answer_of(looks)
        await until(lambda: at.counts == [0, 3, 0])
        at.inside[1].write(ANSWER[-1:])
        assert await answer_of(begun) == ANSWER
        await at.client(post(body=b"third"))
        await until(lambda: len(at.got) == 4)

    run(test)


def test_what_waits_too_long_unfinished_makes_room_before_its_client_has_sent_it_all() -> None:
    async def test(at: Behind) -> None:
        first, _ = await at.client(post())
        waits, line = await at.client(post("it", b"x" * 1000)[:-500])
        assert b" 504 " in await answer_of(waits)
        assert await waits.read() == b""
        await until(lambda: at.counts == [0, 1, 0])
        _, following = await at.client(post(body=b"next"))
        await until(lambda: at.counts[2] == 1)
        line.write(b"x" * 400)
        at.inside[0].write(ANSWER)
        await until(lambda: len(at.got) == 2)
        assert bytes(at.got[1]) == post(body=b"next")
        assert await answer_of(first) == ANSWER
        assert not following.is_closing()

    run(test)


def test_whoever_closes_with_the_answer_is_closed_when_refused() -> None:
    async def test(at: Behind) -> None:
        for _ in range(2):
            await at.client(post())
        refused, _ = await at.client(post("it", b"x", "Connection: close"))
        assert b"connection: close" in await answer_of(refused)
        assert await refused.read() == b""

    run(test)


def test_an_early_answer_ends_the_understanding_of_a_connection() -> None:
    async def test(at: Behind) -> None:
        reader, line = await at.client(post("it", b"x" * 1000)[:-500])
        await until(lambda: at.inside)
        at.inside[0].write(ANSWER)
        assert await answer_of(reader) == ANSWER
        await at.client(post(body=b"next"))  # its place is free
        await until(lambda: len(at.got) == 2)
        line.write(b"x" * 500)
        await until(lambda: bytes(at.got[0]) == post("it", b"x" * 1000))

    run(test)


def test_large_bodies_and_answers_arrive_whole_though_both_sides_read_slowly() -> None:
    body = os.urandom(6 << 20)

    async def test(at: Behind) -> None:
        await at.client(post())
        waits, line = await at.client()
        line.write(post("it", body))
        await until(lambda: at.counts[2] == 1)
        at.inside[0].write(ANSWER)
        await until(lambda: len(at.got) == 2 and len(at.got[1]) == len(post("it", body)), 20)
        assert bytes(at.got[1]) == post("it", body)
        large = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        at.inside[1].write(large)
        await asyncio.sleep(0.3)
        assert await answer_of(waits) == large
        line.write(post())
        await until(lambda: at.got[1].endswith(post()))

    run(test, Limits(rows=1, queue=2))


def test_draining_passes_on_what_waits_takes_no_more_and_ends_when_all_is_out() -> None:
    async def test(at: Behind) -> None:
        readers = [(await at.client(post()))[0] for _ in range(2)]
        await until(lambda: at.counts[2] == 1)
        await at.process.drain()
        await until(lambda: len(at.got) == 2)
        with pytest.raises(ConnectionRefusedError):
            await at.client()
        closing = asyncio.create_task(at.process.close())
        await asyncio.sleep(0.2)
        assert not closing.done()
        for line in at.inside:
            line.write(ANSWER)
            line.close()
        assert [await answer_of(reader) for reader in readers] == [ANSWER] * 2
        await closing

    run(test, Limits(rows=1, queue=2))


def test_it_survives_signals_and_another_one_follows_when_it_is_killed() -> None:
    async def test(at: Behind) -> None:
        before = at.process.pid
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(before, number)
        await at.client(post())
        await until(lambda: len(at.got) == 1)
        os.kill(before, signal.SIGKILL)
        await until(lambda: at.told)
        assert "another one" in at.told[0]
        await until(lambda: at.process.pid != before)
        reader, _ = await at.client(post())
        await until(lambda: len(at.got) == 2)
        at.inside[1].write(ANSWER)
        assert await answer_of(reader) == ANSWER

    run(test)


def test_a_server_that_is_gone_is_said() -> None:
    async def test(at: Behind) -> None:
        at.process.inner.close()
        await asyncio.sleep(0.1)
        reader, _ = await at.client(post())
        assert b" 503 " in await answer_of(reader)

    async def main() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        found = Behind(FrontProcess(listening, FEW), listening.getsockname()[1])
        assert found.process.is_up()
        following = asyncio.create_task(found.process.follow(found.counted, found.told.append))
        try:
            await test(found)
        finally:
            await found.end(following)
            listening.close()

    asyncio.run(main())
