"""A server on a thread of this process, and a client that says what it was answered."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flambeau.serve.limits import Limits
from flambeau.serve.listening import followed, front_of, http_server, open_socket
from flambeau.serve.protocol import Crowd
from flambeau.serve.repository import loaded, sources_of
from flambeau.serve.running import Settings, application, loader
from flambeau.serve.server import Server


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Speaks to a server at a port of this machine.

    Attributes:
        port: Its port.
        server: What its requests share, to look at.
        loop: Its event loop.
        told: The sentences that it said.
    """

    port: int
    server: Server
    loop: asyncio.AbstractEventLoop
    told: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, None, {name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, body: bytes | str | dict[str, Any], kind: str | None = None, **headers: str) -> Reply:
        content = json.dumps(body) if isinstance(body, dict) else body
        kind = kind or ("application/json" if isinstance(body, dict) else "application/octet-stream")
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask(
            "POST", path, content.encode() if isinstance(content, str) else content, {"content-type": kind, **told}
        )


@contextmanager
def serving(
    *arguments: str | Path,
    limits: Limits | None = None,
    crowd: Crowd | None = None,
    front: bool = False,
    **settings: Any,
) -> Iterator[Client]:
    """A server of these models for the ``with`` block, with or without the process in front of it.

    Settings are those of ``Settings``.
    """
    wanted = Settings(port=0, device="cpu", limits=limits or Limits(), **{"reload": 0.0, **settings})
    load = loader(wanted)
    ready = [(source, *loaded(source, load)) for source in sources_of(map(str, arguments))]
    listening = open_socket("127.0.0.1", 0)
    port = listening.getsockname()[1]
    process = front_of(listening, wanted.limits, pytest.fail) if front else None
    assert process is None or process.is_up()
    begun: list[Client] = []
    is_up, told = threading.Event(), []
    ending: list[Any] = []

    async def main() -> None:
        async with application(ready, load, wanted, told.append) as (app, server):
            server.crowd = crowd or server.crowd
            http_ = http_server(app, wanted.limits, server.crowd)
            ending.append(http_)
            begun.append(Client(port, server, asyncio.get_running_loop(), told))
            async with followed(process, server, told.append):
                task = asyncio.create_task(http_.serve([listening if process is None else process.inner]))
                while not http_.started:
                    await asyncio.sleep(0.005)
                is_up.set()
                await task
                if process is not None:
                    await process.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert is_up.wait(20), "The server did not start."
        yield begun[0]
    finally:
        if ending:
            ending[0].should_exit = True
        thread.join(30)
        listening.close()
        assert not thread.is_alive(), "The server did not end."
