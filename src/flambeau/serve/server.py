"""What all requests of a server share, and how an operation on a model becomes an answer."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from flambeau.errors import BadRows, FlambeauError, UsageError
from flambeau.serve.aside import Aside
from flambeau.serve.batching import Overloaded
from flambeau.serve.bodies import Bodies, ClientGone, Refused
from flambeau.serve.engines import Unread
from flambeau.serve.front.refusals import not_ready
from flambeau.serve.limits import Limits
from flambeau.serve.protocol import Crowd
from flambeau.serve.repository import Repository, Served
from flambeau.serve.telemetry import Telemetry
from flambeau.serve.tensors import to_json
from flambeau.serve.turns import Turns

Made = TypeVar("Made")

JSON = "application/json"

SMALL = 64 << 10
"""Bytes of a body whose inputs are read where they are computed; those of larger ones are read on other threads."""

ASIDE = 4
"""Pieces of long work, such as saliency maps and new examples, that are done or wait."""

PATIENCE = 0.05
"""Seconds of waiting for an answer after which it is watched whether the client is still there."""


class Server:
    """What all requests share.

    Args:
        repository: The models.
        limits: Of the server.
        telemetry: What is counted.
        readers: Threads that decode files.
        tell: Told in a sentence of what must not be overlooked.
    """

    def __init__(
        self, repository: Repository, limits: Limits, telemetry: Telemetry, readers: int, tell: Callable[[str], None]
    ) -> None:
        self.repository = repository
        self.limits = limits
        self.telemetry = telemetry
        self.bodies = Bodies(limits)
        self.turns = Turns(limits.rows)
        self.crowd = Crowd(limits.queue * len(repository.names), telemetry.turned_away)
        self.draining = False
        self.aside = Aside(ASIDE, limits.deadline)
        self.tell = tell
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="flambeau-read")

    @property
    def ready(self) -> bool:
        """Whether requests are to be sent here: not while the server ends, or a model's thread is stuck."""
        return not self.draining and self.repository.healthy()

    def find(self, name: str, version: str | None) -> Served:
        """A model, or a refusal with 404."""
        try:
            return self.repository.find(name, version)
        except UsageError as error:
            raise Refused(404, error.problem, where=error.where, remedy=error.remedy) from error

    def bug(self, error: Exception, where: str) -> Response:
        """The answer to what should not have happened, which is told with its traceback."""
        told = "".join(traceback.format_exception(error))
        self.tell(f"This is a bug in Flambeau, or in the model's own code: {where}.\n{told}")
        return Response(to_json({"error": "The server failed; its log says why.", "details": {}}), 500, None, JSON)

    async def in_thread(self, call: Callable[[], Made]) -> Made:
        """The result of a call on a reading thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, call)

    async def answers(self, served: Served, rows: Sequence[Any], request: Request, size: int) -> list[Any]:
        """The answers to raw rows: read, joined with others that wait, computed, decoded.

        Raises:
            BadRows: Some cannot be read.
            Overloaded: Too many requests wait.
            Refused: The deadline is over.
            ClientGone: Nobody waits any more.
        """
        until = time.monotonic() + self.limits.deadline
        served.batcher.require_room()
        small = size <= SMALL
        examples = Unread(rows) if small else await self.in_thread(partial(served.engine.read, rows))
        job = served.batcher.submit(examples, len(rows), until, small and self.crowd.inside == 1)
        try:
            return await while_connected(request, job.done, until)
        except TimeoutError as error:
            raise Refused(504, not_ready(self.limits.deadline)) from error
        finally:
            served.batcher.leave(job)


async def while_connected(request: Request, work: Awaitable[Made], until: float = inf) -> Made:
    """The result of some work, which is given up when the client goes.

    Args:
        request: The client's.
        work: Is cancelled when it is given up.
        until: When it is given up as well, on the monotonic clock.

    Raises:
        ClientGone: It went.
        TimeoutError: The time is over.
    """
    task = asyncio.ensure_future(work)
    gone: asyncio.Future[Any] | None = None
    try:
        if not task.done():
            await asyncio.wait([task], timeout=min(PATIENCE, until - time.monotonic()))
        if not task.done():
            gone = asyncio.ensure_future(_left(request))
            left = None if until == inf else until - time.monotonic()
            await asyncio.wait([task, gone], timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone if gone is not None and gone.done() else TimeoutError
    finally:
        task.cancel()
        if gone is not None:
            gone.cancel()


async def _left(request: Request) -> None:
    """Returns when the client goes."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def problem_response(error: FlambeauError) -> Response:
    """An error as an answer: its sentence under ``error``, where clients of the protocol look for it."""
    status, headers = 400, {}
    if isinstance(error, Refused):
        status, headers = error.status, error.headers
    elif isinstance(error, Overloaded):
        status, headers = 503, {"retry-after": str(error.seconds)}
    told = _of_rows(error) if isinstance(error, BadRows) else {"error": str(error), "details": error.as_dict()}
    return Response(to_json(told), status, headers, JSON)


def _of_rows(error: BadRows) -> dict[str, Any]:
    """What is wrong with some inputs, by their numbers. Remedies are left out: they are for training data."""
    rows = {
        number: {name: value for name, value in one.as_dict().items() if name not in ("where", "remedy")}
        for number, one in error.rows.items()
    }
    listed = [f"input {number}: {row['problem']}" for number, row in list(rows.items())[: BadRows.SHOWN]]
    return {"error": " ".join(listed), "details": {"type": "BadRows", "problem": listed[0], "rows": rows}}


Handler = Callable[[Served], Awaitable[Response]]


async def measured(server: Server, operation: str, name: str, version: str | None, handle: Handler) -> Response:
    """Runs an operation on a model; whatever goes wrong becomes an answer, and everything is counted."""
    begun = time.monotonic()
    known = name if name in server.repository.names else "unknown"
    try:
        served = server.find(name, version)
        with served.used():
            response = await handle(served)
    except ClientGone:
        server.telemetry.gone()
        return Response(status_code=499)
    except FlambeauError as error:
        response = problem_response(error)
    except Exception as error:
        response = server.bug(error, f"{operation} with {known}")
    server.telemetry.request(known, operation, response.status_code, time.monotonic() - begun)
    return response
