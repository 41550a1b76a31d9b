"""Faults 39 and 40: what a server must survive. Real sockets on loopback, a real model, limits made small."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import shutil
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from serving import Client, serving
from torch import nn

import flambeau
from flambeau.serve.limits import Limits

SMALL = Limits(body=64 << 10, rows=8, queue=4, read=0.4, deadline=3.0, buffered=1 << 20, connections=60, head=4 << 10)
PATH = "/v2/models/digits/predict"


def picture(side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), 90).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module", params=[False, True], ids=["bare", "front"])
def client(trained: Path, request: pytest.FixtureRequest) -> Iterator[Client]:
    with serving(f"digits={trained}", limits=SMALL, front=request.param) as found:
        yield found


def lives(client: Client) -> None:
    """The server answers as ever."""
    reply = client.post(PATH, picture(), "image/png")
    assert reply.status == 200, reply.body
    assert client.get("/v2/health/ready").status == 200


def exchanged(client: Client, *parts: bytes, pause: float = 0.0, patience: float = 5.0) -> bytes:
    """What the server sends back, up to the end of the connection."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=patience) as connection:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        found = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65536):
                found += part
        return found


def infer(data: object, shape: list[int], **more: object) -> dict[str, object]:
    return {"inputs": [{"name": "image", "datatype": "UINT8", "shape": shape, "data": data, **more}]}


def bomb_png() -> bytes:
    """A few bytes whose header declares 400 megapixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"inputs": [NaN]}', "application/json", 400),
        (b'{"inputs": ' + b"[" * 30_000, "application/json", 400),
        (b'{"inputs": []}', "application/json", 400),
        (b'{"inputs": ["!!!"]}', "application/json", 400),
        (b"<html>", "image/png", 400),
        (b"", "image/png", 400),
        (picture()[:40], "image/png", 400),
        (bomb_png(), "image/png", 400),
        (b"x" * 100, "multipart/form-data; boundary=y", 400),
        (b"--y\r\n\r\n--y--", "multipart/form-data; boundary=y", 400),
        (b"x", "multipart/form-data", 400),
        (b"x", "text/html", 415),
        (b"0" * (SMALL.body + 1), "image/png", 413),
    ],
)
def test_fault_39_a_body_that_is_none_gets_a_4xx_that_says_why(
    client: Client, body: bytes, kind: str, status: int
) -> None:
    reply = client.post(PATH, body, kind)
    assert reply.status == status, reply.body
    assert len(reply.json["error"]) > 15
    assert "Traceback" not in reply.json["error"]
    lives(client)


@pytest.mark.parametrize(
    "body",
    [
        infer([0] * 64, [1, 8, 8, 2]),
        infer([0] * 63, [1, 8, 8, 1]),
        infer([256] * 64, [1, 8, 8, 1]),
        infer([0.5] * 64, [1, 8, 8, 1]),
        infer([[0], [0, 1]], [1, 8, 8, 1]),
        infer(["a"] * 64, [1, 8, 8, 1]),
        infer([None] * 64, [1, 8, 8, 1]),
        infer([], [0, 8, 8, 1]),
        infer([0] * 64, [1, 8, 8]),
        infer([0] * 64, [1, 64]),
        infer([0] * 64, [1, 8, 8, -1]),
        infer([0] * 64, [1 << 40, 8]),
        infer([0] * 576, [9, 8, 8, 1]),
        infer([0] * 64, [1, 8, 8, 1], datatype="FP32"),
        infer([0] * 64, [1, 8, 8, 1], name="other"),
        infer([0] * 64, [1, 8, 8, 1], parameters={"binary_data_size": 64}),
        {"inputs": [1]},
        {"inputs": {}},
        {**infer([0] * 64, [1, 8, 8, 1]), "outputs": [{"name": "nothing"}]},
        {**infer([0] * 64, [1, 8, 8, 1]), "id": 3},
        {**infer([0] * 64, [1, 8, 8, 1]), "parameters": []},
    ],
    ids=str,
)
def test_fault_39_a_tensor_that_does_not_fit_gets_a_400(client: Client, body: dict[str, object]) -> None:
    reply = client.post("/v2/models/digits/infer", body)
    assert reply.status == 400, reply.body
    assert len(reply.json["error"]) > 15


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(["application/json", "image/png", "multipart/form-data; boundary=b"]))
def test_fault_39_no_bytes_make_the_server_fail(client: Client, body: bytes, kind: str) -> None:
    for path in (PATH, "/v2/models/digits/infer"):
        assert 400 <= client.post(path, body, kind).status < 500


def test_fault_39_numbers_that_are_not_finite_are_refused_in_binary_too(tmp_path: Path) -> None:
    from flambeau.serve.tensors import understood
    from flambeau.tasks.wires import wire

    made = wire("sound", "classes", {"rate": 8000, "classes": ["a", "b"]})
    tensor = {"name": "sound", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(flambeau.FlambeauError, match="not finite"):
        understood(head + struct.pack("<ff", 0.0, float("nan")), str(len(head)), made, 8)


def test_fault_39_a_compressed_bomb_is_stopped_at_the_limit(client: Client) -> None:
    bomb = gzip.compress(b"0" * (64 << 20))
    assert len(bomb) < SMALL.body * 1.05
    before = client.server.bodies.buffered
    for encoding in ("gzip", "deflate"):
        content = bomb[: SMALL.body] if encoding == "gzip" else zlib.compress(b"0" * (32 << 20))
        reply = client.post(PATH, content, "image/png", content_encoding=encoding)
        assert reply.status == 413, reply.body
    assert client.post(PATH, b"no gzip", "image/png", content_encoding="gzip").status == 400
    assert client.post(PATH, gzip.compress(picture())[:-4], "image/png", content_encoding="gzip").status == 400
    assert client.post(PATH, picture(), "image/png", content_encoding="br").status == 415
    assert client.post(PATH, gzip.compress(picture()), "image/png", content_encoding="gzip").status == 200
    assert client.server.bodies.buffered == before
    lives(client)


def test_fault_39_a_body_without_a_length_is_stopped_at_the_limit(client: Client) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ntransfer-encoding: chunked\r\n\r\n"
    part = b"8000\r\n" + b"0" * 0x8000 + b"\r\n"
    assert b" 413 " in exchanged(client, head.encode(), *[part] * 6).split(b"\r\n")[0]
    lives(client)


@pytest.mark.parametrize("framing", ["content-length: 4194304", "transfer-encoding: chunked"])
def test_fault_39_who_reads_after_sending_still_learns_that_it_was_too_much(client: Client, framing: str) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\n{framing}\r\n\r\n"
    content = b"400000\r\n" + bytes(4 << 20) if "chunked" in framing else bytes(4 << 20)
    with socket.create_connection(("127.0.0.1", client.port), timeout=5) as connection:
        connection.sendall(head.encode() + content)
        reply = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b" 413 " in reply.split(b"\r\n")[0]
    lives(client)


def test_fault_39_who_never_ends_sending_what_was_refused_is_cut_off(client: Client) -> None:
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", client.port), timeout=5) as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999999\r\n\r\n".encode())
        with pytest.raises(ConnectionError):
            while time.monotonic() - begun < 5:
                connection.sendall(b"x" * 1000)
                time.sleep(0.02)
    lives(client)


def test_fault_39_a_body_that_trickles_is_given_up(client: Client) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\n"
    begun = time.monotonic()
    reply = exchanged(client, head.encode(), *[b"x"] * 8, pause=0.1)
    assert b" 408 " in reply.split(b"\r\n")[0]
    assert b"connection: close" in reply
    assert time.monotonic() - begun < 3
    lives(client)


@pytest.mark.parametrize(
    "parts",
    [[b"GET / HT", b"T", b"P", b"/", b"1", b".", b"1"], [b"\r\n"] * 8, [b""]],
    ids=["trickles", "empty-lines", "silent"],
)
def test_fault_39_a_head_that_does_not_come_is_given_up(client: Client, parts: list[bytes]) -> None:
    begun = time.monotonic()
    reply = exchanged(client, *parts, pause=0.1)
    assert reply == b"" or b" 408 " in reply.split(b"\r\n")[0]
    assert time.monotonic() - begun < 3
    lives(client)


def test_fault_39_many_slow_connections_keep_nobody_out(client: Client) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(SMALL.connections - 10):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", client.port)))
            slow.sendall(b"POST /v2 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n")
        lives(client)
    lives(client)


def test_fault_39_too_many_connections_are_closed_with_a_503(client: Client) -> None:
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection(("127.0.0.1", client.port), timeout=5))
            for _ in range(SMALL.connections + 5)
        ]
        last = b""
        with contextlib.suppress(ConnectionError):
            last = held[-1].recv(1000)
        assert last == b"" or b" 503 " in last.split(b"\r\n")[0]
    time.sleep(0.2)
    lives(client)


def test_fault_39_what_is_no_http_gets_a_400(client: Client) -> None:
    assert (
        b" 400 " in exchanged(client, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 garbage\r\n\r\n").split(b"\r\n")[0]
    )
    long = b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * SMALL.head
    assert b" 431 " in exchanged(client, long + b"\r\n\r\n").split(b"\r\n")[0]
    lives(client)


class Slow(nn.Module):
    """A network of a user's own that takes its time, and counts the rows that it was given."""

    pause = 0.0
    rows = 0
    running = threading.Event()

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.layer = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training and x.device.type == "cpu":
            Slow.rows += len(x)
            Slow.running.set()
            time.sleep(Slow.pause)
        found: torch.Tensor = self.layer(x.flatten(1))
        return found


@pytest.fixture(scope="module")
def slow_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("slow") / "run"
    flambeau.train(
        "digits", model=Slow, epochs=1, settings=["log.tensorboard=false"], device="cpu", out=out, quiet=True
    )
    return out


@pytest.fixture(params=[False, True], ids=["bare", "front"])
def slow(slow_run: Path, request: pytest.FixtureRequest) -> Iterator[Client]:
    Slow.pause = 0.0
    with serving(f"digits={slow_run}", limits=SMALL, network=Slow, front=request.param) as found:
        Slow.rows = 0
        Slow.running.clear()
        yield found
    Slow.pause = 0.0


def test_fault_40_ten_times_overload_gets_a_fast_503_and_loses_nothing(slow: Client) -> None:
    Slow.pause = 0.2

    def one(_: int) -> tuple[int, float, str | None]:
        begun = time.monotonic()
        reply = slow.post(PATH, picture(), "image/png")
        return reply.status, time.monotonic() - begun, reply.headers.get("retry-after")

    with ThreadPoolExecutor(10 * SMALL.queue) as pool:
        found = list(pool.map(one, range(10 * SMALL.queue)))
    statuses = [status for status, _, _ in found]
    assert set(statuses) == {200, 503}
    assert SMALL.queue <= statuses.count(200)
    assert all(int(after or 0) >= 1 for status, _, after in found if status == 503)
    # A refusal waits for no batch: the whole crowd is answered in the time of a few.
    assert max(seconds for status, seconds, _ in found if status == 503) < 2.0
    assert slow.server.bodies.buffered == 0
    Slow.pause = 0.0
    lives(slow)


def test_fault_40_what_a_client_that_left_had_asked_is_not_computed(slow: Client) -> None:
    Slow.pause = 0.6
    length = len(picture())
    head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: image/png\r\ncontent-length: {length}\r\n\r\n"
    running = threading.Thread(target=lambda: slow.post(PATH, picture(), "image/png"))
    running.start()
    assert Slow.running.wait(5)
    gone = [socket.create_connection(("127.0.0.1", slow.port)) for _ in range(3)]
    for connection in gone:
        connection.sendall(head.encode() + picture())
    time.sleep(0.2)
    for connection in gone:
        connection.close()
    running.join()
    Slow.pause = 0.0
    lives(slow)
    # The first, and the one that showed that the server lives.
    assert Slow.rows == 2
    assert b"flambeau_clients_gone_total 3.0" in slow.get("/metrics").body


@pytest.mark.parametrize("front", [False, True], ids=["bare", "front"])
def test_fault_40_an_answer_past_the_deadline_is_a_504(slow_run: Path, front: bool) -> None:
    with serving(f"digits={slow_run}", limits=Limits(deadline=0.3), network=Slow, front=front) as client:
        Slow.pause = 0.8
        reply = client.post(PATH, picture(), "image/png")
        assert reply.status == 504
        assert "0.3 s" in reply.json["error"]
        # A thread that computes for longer than anybody waits is not ready.
        _wait(lambda: client.get("/v2/health/ready").status == 503)
        assert client.get("/v2/health/live").status == 200
        Slow.pause = 0.0
        _wait(lambda: client.get("/v2/health/ready").status == 200)


def test_fault_40_a_bad_model_on_reload_leaves_the_old_one(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "digits.safetensors"
    shutil.copy(trained / "model.safetensors", file)
    with serving(file, reload=0.05) as client:
        before = client.post(PATH, picture(), "image/png").json
        file.write_bytes(file.read_bytes()[:-100])
        _wait(lambda: any("refused" in told for told in client.told))
        assert client.post(PATH, picture(), "image/png").json == before
        assert client.get("/v2/health/ready").status == 200
        assert b'flambeau_reloads{result="refused"} 1.0' in client.get("/metrics").body
        shutil.copy(trained / "model.safetensors", tmp_path / "new")
        (tmp_path / "new").replace(file)
        _wait(lambda: any("loaded anew" in told for told in client.told))
        assert client.post(PATH, picture(), "image/png").json == before


def _wait(condition: object, patience: float = 10.0) -> None:
    until = time.monotonic() + patience
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, "It did not happen."
        time.sleep(0.02)
