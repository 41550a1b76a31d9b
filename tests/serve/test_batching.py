"""Jobs that wait are computed together; nothing waits when nothing else does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from flambeau.serve.batching import Batcher, Overloaded


class Gate:
    """Doubles numbers, one batch at each time it is let."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.batches: list[list[list[int]]] = []

    def __call__(self, parts: Sequence[list[int]]) -> list[list[int]]:
        self.open.wait(5)
        self.batches.append(list(parts))
        if any(number < 0 for part in parts for number in part):
            raise ValueError("negative")
        return [[2 * number for number in part] for part in parts]


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


async def answer(batcher: Batcher, examples: Any, rows: int, until: float) -> list[Any]:
    """As a request waits for its answer."""
    job = batcher.submit(examples, rows, until)
    try:
        async with asyncio.timeout(until - time.monotonic()):
            return await job.done
    finally:
        batcher.leave(job)


async def _filled(batcher: Batcher, gate: Gate, parts: list[list[int]]) -> list[asyncio.Task[list[Any]]]:
    """A job that is computed and these, which wait behind it."""
    tasks = [asyncio.create_task(answer(batcher, [0], 1, soon()))]
    await asyncio.sleep(0.05)
    tasks += [asyncio.create_task(answer(batcher, part, len(part), soon())) for part in parts]
    await asyncio.sleep(0.05)
    gate.open.set()
    return tasks


def test_what_waits_is_computed_together_up_to_the_rows_of_a_batch() -> None:
    async def main() -> None:
        gate = Gate()
        seen: list[int] = []
        batcher = Batcher(gate, 4, 100, lambda rows, seconds: seen.append(rows))
        tasks = await _filled(batcher, gate, [[1], [2, 3], [4, 5], [6], [7, 8, 9, 10, 11, 12], [13]])
        found = await asyncio.gather(*tasks)
        assert found == [[0], [2], [4, 6], [8, 10], [12], [14, 16, 18, 20, 22, 24], [26]]
        assert gate.batches == [[[0]], [[1], [2, 3]], [[4, 5], [6]], [[7, 8, 9, 10, 11, 12]], [[13]]]
        assert seen == [1, 3, 3, 6, 1]
        assert batcher.waiting == 0
        assert await batcher.close(5)

    asyncio.run(main())


def test_a_job_that_fails_fails_alone() -> None:
    async def main() -> None:
        gate = Gate()
        batcher = Batcher(gate, 8, 100)
        tasks = await _filled(batcher, gate, [[1], [-1], [2]])
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert found[0:2] == [[0], [2]]
        assert isinstance(found[2], ValueError)
        assert found[3] == [4]
        assert await batcher.close(5)

    asyncio.run(main())


def test_a_job_too_many_is_refused_at_once_and_a_late_one_is_given_up() -> None:
    async def main() -> None:
        gate = Gate()
        batcher = Batcher(gate, 8, 2)
        first = asyncio.create_task(answer(batcher, [1], 1, soon()))
        await asyncio.sleep(0.05)
        late = asyncio.create_task(answer(batcher, [2], 1, soon(0.1)))
        await asyncio.sleep(0.02)
        with pytest.raises(Overloaded) as refused:
            await answer(batcher, [3], 1, soon())
        assert refused.value.seconds >= 1
        with pytest.raises(TimeoutError):
            await late
        assert batcher.waiting == 1
        gate.open.set()
        assert await first == [2]
        assert await batcher.close(5)
        assert gate.batches == [[[1]]]

    asyncio.run(main())


def test_half_of_all_is_waited_for_while_more_come_in_each_round() -> None:
    batches: list[list[int]] = []

    def compute(parts: Sequence[int]) -> list[list[int]]:
        batches.append(list(parts))
        return [[part] for part in parts]

    async def main() -> None:
        batcher = Batcher(compute, 64, 100)
        await answer(batcher, 0, 1, soon())
        leaving = [batcher.submit(number, 1, soon()) for number in range(1, 7)]  # their answers are not out yet
        await asyncio.sleep(0.05)
        coming = []
        for number in range(7, 14):
            coming.append(batcher.submit(number, 1, soon()))
            await asyncio.sleep(0)
        assert batches[1:] == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]
        for _ in range(3):
            await asyncio.sleep(0)  # nobody else comes
        assert batches[3:] == [[13]]
        for job in leaving + coming:
            batcher.leave(job)
        assert batcher.waiting == 0
        assert await batcher.close(5)

    asyncio.run(main())


def test_closing_computes_what_waits() -> None:
    async def main() -> None:
        gate = Gate()
        batcher = Batcher(gate, 1, 100)
        tasks = await _filled(batcher, gate, [[1], [2]])
        assert await batcher.close(5)
        assert await asyncio.gather(*tasks) == [[0], [2], [4]]

    asyncio.run(main())


def test_what_takes_little_is_computed_where_it_comes_with_what_comes_in_the_same_round() -> None:
    threads: list[int] = []
    batches: list[list[int]] = []
    pause = 0.0

    def compute(parts: Sequence[int]) -> list[list[int]]:
        threads.append(threading.get_ident())
        batches.append(list(parts))
        time.sleep(pause)
        return [[part] for part in parts]

    async def main() -> None:
        nonlocal pause
        here = threading.get_ident()
        batcher = Batcher(compute, 3, 100)
        assert await answer(batcher, 0, 1, soon()) == [0]  # nobody knows yet how long it takes
        found = await asyncio.gather(*(answer(batcher, number, 1, soon()) for number in range(1, 6)))
        assert found == [[1], [2], [3], [4], [5]]
        job = batcher.submit(6, 1, soon(), alone=True)
        assert job.done.result() == [6]
        batcher.leave(job)
        assert batches == [[0], [1, 2, 3], [4, 5], [6]]
        assert [thread == here for thread in threads] == [False, True, True, True]
        pause = 0.2  # from now on it takes long
        await answer(batcher, 7, 1, soon())
        await answer(batcher, 8, 1, soon())
        assert [thread == here for thread in threads[4:]] == [True, False]
        late = [asyncio.create_task(answer(batcher, number, 1, soon())) for number in (9, 10)]
        await asyncio.sleep(0.05)
        pause = 0.0
        assert await answer(batcher, 11, 1, soon()) == [11]
        assert await asyncio.gather(*late) == [[9], [10]]
        assert here not in threads[5:]
        assert await batcher.close(5)

    asyncio.run(main())
