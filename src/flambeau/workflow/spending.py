"""Where the time of a run goes, and which part of it is more than it should be.

Times are those of the processor, taken without waiting for a device: where a GPU computes beside it, waiting for it
counts as training, and preparing batches meanwhile may have cost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace

from flambeau.core import Batch, Observer, Record, State, Stream
from flambeau.engine.loop import Plan

TRAINING = ("train", "data", "validate", "log", "checkpoint", "snapshot")
"""What training spends time on; only the first is what it is for."""

TOO_MUCH = 0.1
"""The part of that time from which on something beside training is worth a word."""

TOO_SHORT = 10.0
"""Seconds of training below which shares say little: whatever is done once an epoch weighs too much."""

_DOING = {
    "data": ("Preparing batches", "A lighter augmentation or smaller examples help."),
    "validate": ("Validation", "A larger train.eval_batch_size or a smaller data.validation helps."),
    "log": ("Logging", "A larger log.every, or log.tensorboard = false, helps."),
    "checkpoint": ("Writing checkpoints", "A run folder on a faster disk helps."),
    "snapshot": ("Pictures of the progress", "They are made after each epoch; larger epochs have fewer."),
}

Groups = Mapping[str, Sequence[Observer]]
"""Observers by what their time is counted as."""


class Clock:
    """Adds up where the time of training goes.

    Args:
        seconds: By purpose; is added to.
    """

    def __init__(self, seconds: MutableMapping[str, float]) -> None:
        self.seconds = seconds
        self._mark = time.monotonic()
        self._loading = 0.0

    def timing(self, plan: Plan) -> Plan:
        """The plan with a stream that notes how long batches are waited for."""

        def epoch(number: int, start: int) -> Iterator[Batch]:
            batches = iter(plan.stream.epoch(number, start))
            while True:
                before = time.monotonic()
                batch = next(batches, None)
                self._loading += time.monotonic() - before
                if batch is None:
                    return
                yield batch

        return replace(plan, stream=Stream(epoch, plan.stream.length))

    def lap(self, purpose: str) -> None:
        """Counts the time since the last lap, but what batches were waited for, as spent on a purpose."""
        now = time.monotonic()
        self._add(purpose, now - self._mark - self._loading)
        if self._loading:
            self._add("data", self._loading)
        self._mark, self._loading = now, 0.0

    def show(self, groups: Groups, record: Record, state: State) -> None:
        """Shows a record to all observers, and counts the time of each group."""
        for purpose, observers in groups.items():
            for observe in observers:
                observe(record, state)
            self.lap(purpose)

    def _add(self, purpose: str, seconds: float) -> None:
        self.seconds[purpose] = self.seconds.get(purpose, 0.0) + seconds


def bottlenecks(seconds: Mapping[str, float]) -> list[str]:
    """What beside training took more than a tenth of its time, the most first, each with what helps.

    Args:
        seconds: By purpose.

    Example:
        >>> bottlenecks({"train": 70.0, "data": 30.0, "validate": 4.0, "setup": 90.0})[0]
        'Preparing batches took 29 % of the time of training. A lighter augmentation or smaller examples help.'
    """
    spent = {name: seconds.get(name, 0.0) for name in TRAINING}
    whole = sum(spent.values())
    if whole < TOO_SHORT:
        return []
    much = sorted((name for name in _DOING if spent[name] > TOO_MUCH * whole), key=lambda name: -spent[name])
    return [
        f"{_DOING[name][0]} took {100 * spent[name] / whole:.0f} % of the time of training. {_DOING[name][1]}"
        for name in much
    ]
