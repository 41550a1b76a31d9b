"""``flambeau serve`` as a process of its own: how it begins, what it refuses, how it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import flambeau

ENTRY = "from flambeau.cli.main import main; main()"

NETWORK = """
import time
import torch
from torch import nn

class Slow(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.layer = nn.Linear(64, classes)

    def forward(self, x):
        if not self.training and x.device.type == "cpu":
            time.sleep(0.15)
        return self.layer(x.flatten(1))
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """An empty folder for temporary files, with a name so short that a socket can lie in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextmanager
def process(*arguments: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A server's process, and what it said once it was up."""
    begun = subprocess.Popen(
        [sys.executable, "-c", ENTRY, "serve", *map(str, arguments), "--port", "0", "--json", "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    try:
        assert begun.stdout is not None
        line = begun.stdout.readline()
        assert line, begun.communicate(timeout=10)[1]
        yield begun, json.loads(line)
    finally:
        begun.kill()
        begun.communicate()


def asked(address: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    with contextlib.closing(http.client.HTTPConnection(address.partition("//")[2], timeout=20)) as connection:
        connection.request("POST" if body else "GET", path, body, {"content-type": "image/png", **headers})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_lets_requests_finish(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    run = flambeau.train(
        "digits",
        model=f"{tmp_path / 'net.py'}:Slow",
        epochs=1,
        settings=["log.tensorboard=false"],
        device="cpu",
        out=tmp_path / "run",
        quiet=True,
    )
    from PIL import Image

    Image.new("L", (8, 8), 99).save(tmp_path / "p.png")
    body = (tmp_path / "p.png").read_bytes()
    found: list[int] = []
    # One goes in at a time: the others wait in front of the server.
    with process(run.path, "--network", f"{tmp_path / 'net.py'}:Slow", "--max-rows", "1") as (server, said):
        path = "/v2/models/run/predict"
        threads = [
            threading.Thread(target=lambda: found.append(asked(said["address"], path, body)[0])) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        server.send_signal(number)
        time.sleep(0.02)
        for thread in threads:
            thread.join()
        assert server.wait(10) == 128 + number
        assert found == [200] * 6
        with pytest.raises(ConnectionRefusedError):
            asked(said["address"], "/v2/health/live")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="No process is in front on Windows.")
def test_what_is_refused_in_front_is_counted_and_a_server_that_is_killed_leaves_nothing(
    trained: Path, temporary: Path
) -> None:
    with process(trained, "--queue", "1", "--max-rows", "1", TMPDIR=str(temporary)) as (server, said):
        address = said["address"]
        with contextlib.ExitStack() as stack:
            lines = [
                stack.enter_context(contextlib.closing(http.client.HTTPConnection(address.partition("//")[2])))
                for _ in range(2)
            ]
            for line in lines:  # the first has a place, though it does not say all that it has to say
                line.putrequest("POST", "/v2/models/run/predict")
                line.putheader("Content-Length", "4")
                line.endheaders()
                time.sleep(0.2)
            lines[1].send(b"body")
            assert lines[1].getresponse().status == 503
        time.sleep(0.2)
        with urllib.request.urlopen(f"{address}/metrics") as reply:
            counted = reply.read()
        assert b'flambeau_requests_total{model="unknown",operation="unknown",status="503"} 1.0' in counted
        server.kill()
        server.wait()
        until = time.monotonic() + 5
        with pytest.raises(ConnectionRefusedError):
            while time.monotonic() < until:
                with contextlib.suppress(ConnectionResetError, http.client.RemoteDisconnected):
                    asked(address, "/v2/health/live")
                time.sleep(0.05)
        while list(temporary.iterdir()) and time.monotonic() < until:
            time.sleep(0.05)
        assert not list(temporary.iterdir())


@pytest.mark.slow
def test_a_token_from_the_environment_opens_other_addresses(trained: Path) -> None:
    with process(f"digits={trained}", "--host", "0.0.0.0", FLAMBEAU_TOKEN="s3cret") as (_, said):
        address = said["address"].replace("0.0.0.0", "127.0.0.1")
        assert said["models"] == {"digits": str(trained)}
        assert asked(address, "/v2")[0] == 401
        assert asked(address, "/v2", authorization="Bearer s3cret")[0] == 200


@pytest.mark.slow
def test_a_run_is_served_by_onnx_runtime(trained: Path, tmp_path: Path, temporary: Path) -> None:
    from PIL import Image

    Image.new("L", (9, 7), 99).save(tmp_path / "p.png")
    with process(trained, "--engine", "onnx", TMPDIR=str(temporary)) as (_, said):
        assert not list(temporary.glob("*serve*"))
        status, found = asked(said["address"], "/v2/models/run/classify", (tmp_path / "p.png").read_bytes())
        assert asked(said["address"], "/v2/models/run")[1]["platform"] == "onnxruntime_onnx"
    assert status == 200
    model = flambeau.load(trained)
    [row] = found["predictions"]
    wanted = model.predict(tmp_path / "p.png")
    assert row["class"] == wanted["class"]
    assert row["probability"] == pytest.approx(wanted["probability"], abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0", "RUN"], "FLAMBEAU_TOKEN="),
        (["--host", "0.0.0.0", "--token", "a\nb", "RUN"], "cannot be a token"),
        (["--host", "999.1.1.1", "--token", "a", "RUN"], "cannot be listened at"),
        (["nowhere"], "no such run or model"),
        (["name=nowhere"], "no such run or model"),
        (["a b=RUN"], "NAME=RUN"),
        (["--port", "70000", "RUN"], "65535"),
        (["--engine", "tensorflow", "RUN"], "torch"),
        (["--queue", "0", "RUN"], "queue"),
        ([], "Missing argument"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_said(call: Any, trained: Path, arguments: list[str], said: str) -> None:
    found = call("serve", *[argument.replace("RUN", str(trained)) for argument in arguments])
    assert found.code == 2
    assert said in found.err.replace(str(trained), "RUN")
    assert "Traceback" not in found.err


def test_a_port_that_is_taken_is_said(call: Any, trained: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        found = call("serve", trained, "--port", other.getsockname()[1])
    assert found.code == 2
    assert "--port" in found.err


def test_a_damaged_model_is_refused_before_anything_is_listened_at(call: Any, trained: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((trained / "model.safetensors").read_bytes()[:-50])
    found = call("serve", broken)
    assert found.code == 2
    assert "broken.safetensors" in found.err
