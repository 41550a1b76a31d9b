"""Work that takes long and must not hold up requests: new examples, saliency maps. One at a time, and few may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from flambeau.serve.batching import Overloaded
from flambeau.serve.bodies import Refused
from flambeau.serve.front.refusals import not_ready

Made = TypeVar("Made")


class Aside:
    """A thread for such work. For the event loop's thread.

    Args:
        most: Pieces of work that are done or wait; one more is refused with 503.
        deadline: Seconds from asking to having.
    """

    def __init__(self, most: int, deadline: float) -> None:
        self._most = most
        self._deadline = deadline
        self._taken = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="flambeau-aside")

    async def run(self, call: Callable[[], Made]) -> Made:
        """The result of a call.

        Raises:
            Overloaded: Too many wait.
            Refused: It was not ready in time. What has begun is finished all the same, and counts until then.
        """
        if self._taken >= self._most:
            raise Overloaded(2)
        self._taken += 1
        loop = asyncio.get_running_loop()
        work: Future[Made] = self._pool.submit(call)
        work.add_done_callback(lambda done: loop.call_soon_threadsafe(self._finished))
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.wrap_future(work)
        except TimeoutError as error:
            raise Refused(504, not_ready(self._deadline)) from error

    def _finished(self) -> None:
        self._taken -= 1
