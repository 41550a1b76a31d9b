"""A light generator of load over HTTP: requests made of bytes beforehand, on connections that stay open.

Reads one JSON object from standard input and prints one. Run as a process of its own:

    python load.py < plan.json

A plan has ``port``, ``head`` and ``body`` (in base64; the request), ``seconds``, and either ``clients`` (closed loop:
each sends its next request when it has its answer) or ``rate`` (open loop: requests are due at even times whatever the
server does, and their latency counts from when they were due).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

GRACE = 10.0
"""Seconds after the last request in which answers are still waited for."""

LINES = 500
"""Connections of an open loop; what is due while all are busy waits for one, and its latency grows."""

Told = Callable[["Line", int], None]


class Line(asyncio.Protocol):
    """One connection: sends a request, and tells the status of its answer.

    Args:
        request: The bytes of a request.
        told: Called with the status; 0 when the connection was closed instead.
    """

    def __init__(self, request: bytes, told: Told) -> None:
        self._request, self._told = request, told
        self._transport: Any = None
        self._got = b""
        self.due = 0.0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, due: float) -> None:
        self.due, self.busy = due, True
        self._transport.write(self._request)

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def data_received(self, data: bytes) -> None:
        self._got = self._got + data if self._got else data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._got[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._got) < end + 4 + length:
            return
        if b"connection: close" in head:
            self._transport.close()
        self._got, self.busy = b"", False
        self._told(self, int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self.busy = False
            self._told(self, 0)


class Tally:
    """Latencies in seconds by status, and how many requests were sent."""

    def __init__(self) -> None:
        self.sent = self.answered = 0
        self.latencies: dict[int, list[float]] = {}

    def note(self, status: int, seconds: float) -> None:
        self.answered += 1
        self.latencies.setdefault(status, []).append(seconds)

    def told(self, seconds: float) -> dict[str, Any]:
        good = sorted(self.latencies.get(200, []))
        refused = sorted(self.latencies.get(503, []) + self.latencies.get(429, []))
        answered = Counter({status: len(each) for status, each in self.latencies.items()})
        return {
            "sent": self.sent,
            "answered": {str(status): count for status, count in answered.items()},
            "lost": self.sent - answered.total() + answered[0],
            "goodput": len(good) / seconds,
            "p50": share(good, 0.5),
            "p99": share(good, 0.99),
            "refused_p99": share(refused, 0.99),
        }


def share(ordered: list[float], part: float) -> float | None:
    """The value in milliseconds below which this part of the ordered seconds lies."""
    return 1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else None


async def closed(plan: dict[str, Any], request: bytes) -> dict[str, Any]:
    """So many clients, each with one request at a time."""
    loop = asyncio.get_running_loop()
    tally, done = Tally(), asyncio.Event()
    begun = time.perf_counter()
    end, most = begun + plan["seconds"], plan.get("requests", sys.maxsize)
    working: set[Line] = set()

    def told(line: Line, status: int) -> None:
        now = time.perf_counter()
        tally.note(status, now - line.due)
        if now < end and tally.sent < most and line.open:
            tally.sent += 1
            line.ask(now)
        else:
            working.discard(line)
            if not working:
                done.set()

    for _ in range(plan["clients"]):
        _, line = await loop.create_connection(lambda: Line(request, told), "127.0.0.1", plan["port"])
        working.add(line)
    begun = time.perf_counter()
    end = begun + plan["seconds"]
    for line in list(working):
        tally.sent += 1
        line.ask(time.perf_counter())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), plan["seconds"] + GRACE)
    return tally.told(time.perf_counter() - begun)


async def opened(plan: dict[str, Any], request: bytes) -> dict[str, Any]:
    """Requests at even times, over connections that are open before the first is due."""
    loop = asyncio.get_running_loop()
    tally = Tally()
    idle: list[Line] = []
    waiting: deque[float] = deque()
    opening: set[asyncio.Task[None]] = set()

    async def another() -> None:
        try:
            _, line = await loop.create_connection(lambda: Line(request, told), "127.0.0.1", plan["port"])
        except OSError:
            return
        free(line)

    def free(line: Line) -> None:
        if waiting:
            line.ask(waiting.popleft())
        else:
            idle.append(line)

    def told(line: Line, status: int) -> None:
        tally.note(status, time.perf_counter() - line.due)
        if line.open:
            free(line)
        else:  # the server closed it: a client would open another
            task = asyncio.create_task(another())
            opening.add(task)
            task.add_done_callback(opening.discard)

    for _ in range(LINES):
        await another()
    begun = time.perf_counter()
    for number in range(int(plan["rate"] * plan["seconds"])):
        due = begun + number / plan["rate"]
        pause = due - time.perf_counter()
        if pause > 0.0002 or number % 64 == 0:
            await asyncio.sleep(max(0.0, pause))
        tally.sent += 1
        while idle and not idle[-1].open:
            idle.pop()
        if idle:
            idle.pop().ask(due)
        else:
            waiting.append(due)
    last = time.perf_counter()
    while tally.answered < tally.sent and time.perf_counter() < last + GRACE:
        await asyncio.sleep(0.01)
    # Up to the last answer, so that a backlog that is worked off afterwards is no goodput of its own.
    return {**tally.told(time.perf_counter() - begun), "late": last - begun - plan["seconds"]}


def main() -> None:
    plan = json.load(sys.stdin)
    request = base64.b64decode(plan["head"]) + base64.b64decode(plan["body"])
    work = opened(plan, request) if "rate" in plan else closed(plan, request)
    try:
        import uvloop
    except ImportError:
        result = asyncio.run(work)
    else:
        result = uvloop.run(work)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
