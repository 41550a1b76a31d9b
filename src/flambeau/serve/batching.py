"""Requests that wait for the network, computed together.

While one batch is computed, others come in; all of them are the next one. So nothing is waited for when the server is
idle, and batches grow by themselves when it is not.

What takes long is computed on a thread, beside which the server goes on. What does not is computed on the event loop's:
two threads that each want Python's lock every few microseconds lose a third of their time by handing it over.
There a request takes several rounds of the loop from its first byte to its last, and each round would find the few that
just then have come that far. So computing is put off while more come, until half of all are there.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from flambeau.errors import FlambeauError

Compute = Callable[[Sequence[Any]], list[list[Any]]]
"""Takes the examples of several requests, gives the answers of each."""

Watch = Callable[[int, float], None]
"""Told the rows and the seconds of each batch, on the event loop."""


QUICK = 0.002
"""Seconds of a job, as it goes in a batch, below which it is computed on the event loop's thread."""

AWAY = 0.02
"""Seconds for which that thread does nothing else, at a guess."""


class Overloaded(FlambeauError):
    """More requests wait than are taken on.

    Args:
        seconds: When to come back, at a guess.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__("The server has more requests waiting than it takes on.", remedy=f"Try again in {seconds} s.")
        self.seconds = seconds


@dataclass(slots=True, eq=False)
class Job:
    """The examples of one request, waiting.

    Attributes:
        examples: As the engine reads them.
        rows: How many.
        until: When nobody waits any more, on the monotonic clock.
        done: The answers, or what went wrong.
        given_up: The client has gone, so that there is nothing to compute.
    """

    examples: Any
    rows: int
    until: float
    done: asyncio.Future[list[Any]]
    given_up: bool = False


class Batcher:
    """The jobs that wait, and a thread for those that take long. All methods are for the event loop's thread.

    Args:
        compute: Called on either thread, never on both at a time.
        rows: The most rows of a batch; a job of more has one of its own.
        limit: The most jobs that wait or are computed.
        watch: Told of batches.
    """

    def __init__(self, compute: Compute, rows: int, limit: int, watch: Watch = lambda rows, seconds: None) -> None:
        self._compute = compute
        self._rows = rows
        self._limit = limit
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._coming: list[Job] = []
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._handed = 0
        self._pace = inf
        self._since: float | None = None
        self.waiting = 0
        self._thread = threading.Thread(target=self._work, name="flambeau-compute", daemon=True)
        self._thread.start()

    def require_room(self) -> None:
        """Raises :class:`Overloaded` when another job would be too many."""
        if self.waiting >= self._limit:
            raise Overloaded(1 if self._pace == inf else max(1, round(self.waiting * self._pace)))

    def healthy(self, patience: float) -> bool:
        """Whether the thread lives, and no batch has taken longer than so many seconds."""
        since = self._since
        return self._thread.is_alive() and (since is None or time.monotonic() - since < patience)

    def submit(self, examples: Any, rows: int, until: float, alone: bool = False) -> Job:
        """A job for the examples, which the caller gives back by :meth:`leave`.

        Args:
            examples: As the engine reads them.
            rows: How many.
            until: When nobody waits any more, on the monotonic clock.
            alone: No others can come in the same round of the event loop.

        Raises:
            Overloaded: Too many wait already.
        """
        self.require_room()
        job = Job(examples, rows, until, self._loop.create_future())
        self.waiting += 1
        self._coming.append(job)
        if alone and len(self._coming) == 1:
            self._begin()
        elif len(self._coming) == 1:
            self._loop.call_soon(self._look, 0)
        return job

    def leave(self, job: Job) -> None:
        """Nobody waits for the job any more; it is not computed if that has not begun."""
        job.given_up = True
        self.waiting -= 1

    async def close(self, patience: float) -> bool:
        """Computes what waits, then ends the thread; returns whether it has ended in so many seconds."""
        self._hand_over()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, patience)
        return not self._thread.is_alive()

    def _look(self, before: int) -> None:
        """Begins once half of all jobs are here, or a round of the event loop has brought no more."""
        if before < len(self._coming) < min(self._rows, self.waiting / 2):
            self._loop.call_soon(self._look, len(self._coming))
        elif self._coming:
            self._begin()

    def _begin(self) -> None:
        """Computes what has come, or has the thread do it."""
        if self._handed or self._pace >= QUICK:
            self._hand_over()
            return
        jobs, rows = self._coming, 0
        most = max(1, min(self._rows, int(AWAY / max(self._pace, 1e-9))))
        count = 0
        while count < len(jobs) and (count == 0 or rows + jobs[count].rows <= most):
            rows += jobs[count].rows
            count += 1
        batch, self._coming = jobs[:count], jobs[count:]
        self._deliver(*self._computed(batch))
        if self._coming:
            self._loop.call_soon(self._begin)

    def _hand_over(self) -> None:
        for job in self._coming:
            self._jobs.put(job)
        self._handed += len(self._coming)
        self._coming = []

    def _work(self) -> None:
        kept: Job | None = None
        while True:
            first = kept or self._jobs.get()
            if first is None:
                return
            batch, kept, ended = self._gathered(first)
            self._run(batch)
            if ended:
                return

    def _gathered(self, first: Job) -> tuple[list[Job], Job | None, bool]:
        """What waits, as far as it fits; the job that did not; and whether the end was met."""
        batch, rows = [first], first.rows
        while rows < self._rows:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, None, True
            if rows + job.rows > self._rows:
                return batch, job, False
            batch.append(job)
            rows += job.rows
        return batch, None, False

    def _run(self, batch: list[Job]) -> None:
        """A batch on the thread."""
        self._since = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(self._take_back, len(batch), *self._computed(batch))
        except RuntimeError:
            return  # the loop has been closed: nobody is left to answer
        finally:
            self._since = None

    def _take_back(self, count: int, jobs: list[Job], results: list[list[Any] | Exception], seconds: float) -> None:
        self._handed -= count
        self._deliver(jobs, results, seconds)

    def _computed(self, batch: list[Job]) -> tuple[list[Job], list[list[Any] | Exception], float]:
        """The jobs that somebody still waits for, what came of each, and the seconds that it took."""
        begun = time.monotonic()
        live = [job for job in batch if not job.given_up and job.until > begun]
        results = self._results(live) if live else []
        return live, results, time.monotonic() - begun

    def _results(self, jobs: list[Job]) -> list[list[Any] | Exception]:
        """The answers of each job. Where a batch fails, each job is tried alone, so that only the culprit fails."""
        try:
            return list(self._compute([job.examples for job in jobs]))
        except Exception as error:
            if len(jobs) == 1:
                return [error]
        return [result for job in jobs for result in self._results([job])]

    def _deliver(self, jobs: list[Job], results: list[list[Any] | Exception], seconds: float) -> None:
        if jobs:
            pace = seconds / len(jobs)
            self._pace = pace if self._pace == inf else self._pace + 0.1 * (pace - self._pace)
            self._watch(sum(job.rows for job in jobs), seconds)
        for job, result in zip(jobs, results, strict=True):
            if job.done.done():
                continue
            if isinstance(result, Exception):
                job.done.set_exception(result)
            else:
                job.done.set_result(result)
