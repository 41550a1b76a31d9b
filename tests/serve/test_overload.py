"""A server under more than it can do: what is too much is refused at the door, and begins in turn."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest
from serving import Client, serving

from flambeau.serve.protocol import Crowd, OneWrite
from flambeau.serve.turns import Turns

REQUEST = (
    b"POST /v2/models/it/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: 4\r\n\r\n"
)
LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"


def replies(line: socket.socket, count: int) -> list[bytes]:
    """So many answers of a connection, each as it came."""
    got, found = b"", []
    while len(found) < count:
        part = line.recv(1 << 16)
        assert part, got
        got += part
        while b"\r\n\r\n" in got:
            head, body = got.split(b"\r\n\r\n", 1)
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            if len(body) < length:
                break
            found.append(head + b"\r\n\r\n" + body[:length])
            got = body[length:]
    return found


def connected(client: Client) -> socket.socket:
    return socket.create_connection(("127.0.0.1", client.port), timeout=20)


def test_a_full_server_refuses_what_comes_whole_and_keeps_the_connection(trained: Path) -> None:
    crowd = Crowd(most=1, inside=1)
    counted: list[int] = []
    crowd.refused = lambda: counted.append(1)
    with serving(f"it={trained}", crowd=crowd) as client, connected(client) as line:
        for number in range(2):
            line.sendall(REQUEST + b"body")
            [refused] = replies(line, 1)
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in refused
            assert b'"error"' in refused
            assert len(counted) == number + 1
        line.sendall(LIVE)  # whoever asks for its health is let in
        assert replies(line, 1)[0].startswith(b"HTTP/1.1 200 ")
        crowd.inside = 0
        line.sendall(REQUEST + b"body")
        assert replies(line, 1)[0].startswith(b"HTTP/1.1 400 ")  # it was looked at: these four bytes are no picture
        assert (len(counted), crowd.inside) == (2, 0)


@pytest.mark.parametrize("parts", [[REQUEST, b"body"], [REQUEST[:30], REQUEST[30:] + b"body"]])
def test_a_request_in_pieces_is_left_to_the_application(trained: Path, parts: list[bytes]) -> None:
    crowd = Crowd(most=1, inside=1)
    with serving(f"it={trained}", crowd=crowd) as client, connected(client) as line:
        for part in parts:
            line.sendall(part)
            time.sleep(0.2)
        assert replies(line, 1)[0].startswith(b"HTTP/1.1 400 ")
        line.sendall(REQUEST + b"body" + LIVE)
        assert [reply[9:12] for reply in replies(line, 2)] == [b"400", b"200"]
        assert crowd.inside == 1


def test_whoever_leaves_is_counted_out(trained: Path) -> None:
    crowd = Crowd(most=5)
    with serving(f"it={trained}", crowd=crowd) as client:
        for _ in range(3):
            with connected(client) as line:
                line.sendall(REQUEST + b"body")
        with connected(client) as line:
            line.sendall(LIVE)
            replies(line, 1)
        client.get("/v2/health/live")
    assert crowd.inside == 0


def test_requests_begin_in_order_and_a_few_at_a_time() -> None:
    begun: list[int] = []
    rounds: list[int] = []

    async def one(turns: Turns, number: int) -> None:
        await turns.take()
        begun.append(number)

    async def main() -> None:
        turns = Turns(most=3)
        tasks = [asyncio.create_task(one(turns, number)) for number in range(10)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            rounds.append(len(begun))
        await one(turns, 10)  # nobody is before it

    asyncio.run(asyncio.wait_for(main(), 10))
    assert begun == list(range(11))
    assert max(after - before for before, after in zip([0, *rounds], rounds, strict=False)) <= 3


def test_an_answer_goes_out_in_one_piece_and_before_the_end() -> None:
    async def main() -> tuple[bytes, int]:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        sent: list[bytes] = []

        class Noted(OneWrite):
            def _flush(self) -> None:
                sent.append(b"".join(self._parts))
                super()._flush()

        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        once = Noted(transport, loop, 1.0)
        once.write(b"head")
        once.write(b"body")
        await asyncio.sleep(0)
        pieces = len(sent)
        once.write(b"more")
        once.close()
        await asyncio.sleep(0.05)
        with theirs:
            theirs.settimeout(5)
            return theirs.recv(100), pieces

    assert asyncio.run(main()) == (b"headbodymore", 1)
