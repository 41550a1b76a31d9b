"""The stretches of a run: the first as its recipe says, and one more for each time that a finished run went on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flambeau.engine.schedule import SCHEDULES, Schedule, in_segments, scaled, step_down
from flambeau.recipe import Recipe

TAIL = 0.1
"""The rate, as a part of the recipe's, that an appended segment starts at when the first one ended near zero."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of training.

    Attributes:
        first_epoch: From 0.
        epochs: How many it was planned for.
        schedule: The learning rate's course over those epochs.
        warmup: Epochs of rising rate at its start.
        factor: What the recipe's learning rate is multiplied by throughout.
        every: For the schedule ``step``: epochs between two reductions.
        drop: What the rate is multiplied by at each.
    """

    first_epoch: int
    epochs: int
    schedule: str
    warmup: float
    factor: float = 1.0
    every: float = 0.0
    drop: float = 1.0

    @property
    def end(self) -> int:
        """The epoch that it ends before."""
        return self.first_epoch + self.epochs

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        rate = "" if self.factor == 1 else f", starting at {self.factor:g} times the recipe's learning rate"
        return f"epochs {self.first_epoch + 1} to {self.end}, {self.schedule} schedule{rate}"


def first(recipe: Recipe) -> Segment:
    """The segment that a recipe asks for."""
    part = recipe.schedule
    if part.name == "step":
        return Segment(0, recipe.train.epochs, "step", part.warmup, every=part.every, drop=part.factor)
    # What a plateau takes off the rate is in the state of the run, not in the course of the schedule.
    name = "constant" if part.name == "plateau" else part.name
    return Segment(0, recipe.train.epochs, name, part.warmup)


def appended(recipe: Recipe, first_epoch: int, epochs: int, before: Segment | None = None) -> Segment:
    """The segment that goes on after a finished run.

    A constant rate stays what it was, and one that went down in steps stays where it is. After a schedule that ended
    near zero, going on at full rate would undo what was learnt; so the rate starts at a tenth and falls to zero along
    a cosine.

    Args:
        recipe: The run's.
        first_epoch: Where it begins, from 0.
        epochs: How many there are to be.
        before: The segment that it follows; None stands for the first one.
    """
    part = recipe.schedule
    if part.name in ("constant", "plateau"):
        return Segment(first_epoch, epochs, "constant", 0.0)
    if part.name == "step":
        if before is not None and before.schedule == "constant":
            return Segment(first_epoch, epochs, "constant", 0.0, before.factor)
        return Segment(first_epoch, epochs, "constant", 0.0, part.factor ** (math.ceil(first_epoch / part.every) - 1))
    return Segment(first_epoch, epochs, "cosine", 0.0, TAIL)


def schedule_of(segments: Sequence[Segment], steps_per_epoch: int) -> Schedule:
    """The learning rate's factor by step, over all segments."""
    parts: list[tuple[int, Schedule]] = []
    for segment, after in zip(segments, [*segments[1:], None], strict=True):
        done = (after.first_epoch if after else segment.end) - segment.first_epoch
        planned = _course(segment, steps_per_epoch)
        parts.append((done * steps_per_epoch, scaled(planned, segment.factor) if segment.factor != 1 else planned))
    return in_segments(parts)


def _course(segment: Segment, steps_per_epoch: int) -> Schedule:
    steps, warmup = segment.epochs * steps_per_epoch, round(segment.warmup * steps_per_epoch)
    if segment.schedule == "step":
        return step_down(steps, warmup, every=max(1, round(segment.every * steps_per_epoch)), factor=segment.drop)
    return SCHEDULES[segment.schedule](steps, warmup)
