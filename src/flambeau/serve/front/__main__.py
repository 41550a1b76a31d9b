"""The process in front: ``python -m flambeau.serve.front ORDER``, where the order is an :class:`Order`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import signal
import socket
import sys
from pathlib import Path

from flambeau.serve.front.admission import Admission
from flambeau.serve.front.connections import Client, Front
from flambeau.serve.front.order import DRAIN, DRAINED, READY, Order
from flambeau.serve.limits import allow_connections
from flambeau.serve.looping import run

REPORT = 0.05
"""Seconds between two reports of what has been counted."""

FLUSH = 5.0
"""Seconds in which answers must have left, once the server has given the last of them."""


async def serve(order: Order) -> None:
    """Takes connections until the server's process says that it ends, or is gone."""
    loop = asyncio.get_running_loop()
    admission: Admission[Client] = Admission(order.limits.queue, order.limits.rows)
    front = Front(order.limits, order.address, admission)
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=order.control))
    listening = socket.socket(fileno=order.listening)
    server = await loop.create_server(lambda: Client(front), sock=listening, backlog=1024)
    writer.write(READY)
    reporting = asyncio.create_task(_report(front, writer))
    gc.collect()
    gc.freeze()
    drained = False
    while line := await reader.readline():
        if line == DRAIN:
            server.close()
            for client in admission.open():
                client.let_in()
            writer.write(DRAINED)
            drained = True
    reporting.cancel()
    until = loop.time() + FLUSH
    while drained and any(client.busy for client in front.clients) and loop.time() < until:
        await asyncio.sleep(0.005)


async def _report(front: Front, writer: asyncio.StreamWriter) -> None:
    """Tells what changes: requests refused since the last report, those that waited in vain, and those that wait."""
    told = (0, 0, 0)
    while True:
        await asyncio.sleep(REPORT)
        now = (front.refused, front.late, front.admission.waiting)
        if now != told:
            writer.write(b"counts %d %d %d\n" % (now[0] - told[0], now[1] - told[1], now[2]))
            told = now


def main(argument: str) -> None:
    """Ends when the server's process does, and not by itself: signals to a whole group are for that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    order = Order.of_json(argument)
    allow_connections(order.limits)
    with contextlib.suppress(ConnectionError):
        run(serve(order))
    # A server that was killed leaves its socket behind.
    shutil.rmtree(Path(order.address).parent, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
