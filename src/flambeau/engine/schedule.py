"""Learning-rate schedules: functions of the step alone, so that a resume has nothing of theirs to restore."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Schedule = Callable[[int], float]
"""The factor by which the base learning rate is multiplied, at a step counted from 0."""


def constant(steps: int, warmup: int = 0) -> Schedule:
    """The base rate throughout, after a linear rise over ``warmup`` steps."""
    return _after_warmup(lambda step: 1.0, warmup)


def cosine(steps: int, warmup: int = 0) -> Schedule:
    """Half a cosine from the base rate to zero (Loshchilov and Hutter, arXiv 1608.03983, without restarts).

    Example:
        >>> rate = cosine(100)
        >>> rate(0), round(rate(50), 3), round(rate(100), 3)
        (1.0, 0.5, 0.0)
    """
    return _after_warmup(lambda step: _fallen(step, warmup, steps), warmup)


def one_cycle(steps: int, warmup: int = 0) -> Schedule:
    """A linear rise to the base rate and a cosine fall to nearly zero (after Smith, arXiv 1803.09820).

    Args:
        steps: Length of the run.
        warmup: Length of the rise; 0 means three tenths of the run.
    """
    peak = warmup or max(1, round(0.3 * steps))
    return lambda step: (step + 1) / (peak + 1) if step < peak else _fallen(step, peak, steps)


def step_down(steps: int, warmup: int = 0, *, every: int, factor: float) -> Schedule:
    """The base rate, multiplied by a factor again and again, each time after so many steps.

    Example:
        >>> rate = step_down(100, every=30, factor=0.1)
        >>> rate(29), rate(30), round(rate(99), 6)
        (1.0, 0.1, 0.001)
    """
    return _after_warmup(lambda step: factor ** (step // every), warmup)


def in_segments(segments: Sequence[tuple[int, Schedule]]) -> Schedule:
    """Schedules one after another: each is ``(steps, schedule)`` and counts its own steps from 0.

    Example:
        >>> rate = in_segments([(10, constant(10)), (10, cosine(10))])
        >>> rate(9), rate(10), round(rate(15), 3)
        (1.0, 1.0, 0.5)
    """

    def rate(step: int) -> float:
        for steps, schedule in segments[:-1]:
            if step < steps:
                return schedule(step)
            step -= steps
        return segments[-1][1](step)

    return rate


def scaled(schedule: Schedule, factor: float) -> Schedule:
    """A schedule whose every value is multiplied by a factor."""
    return lambda step: factor * schedule(step)


SCHEDULES: dict[str, Callable[[int, int], Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "one-cycle": one_cycle,
}


def _fallen(step: int, first: int, last: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - first) / max(1, last - first))))


def _after_warmup(schedule: Schedule, warmup: int) -> Schedule:
    return lambda step: (step + 1) / (warmup + 1) if step < warmup else schedule(step)
