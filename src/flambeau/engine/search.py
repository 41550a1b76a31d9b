"""The search for a learning rate: a short run in which the rate grows until the loss does.

After Smith, "Cyclical learning rates for training neural networks" (arXiv 1506.01186).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from flambeau.core import Batch, State, Stream
from flambeau.engine.update import Rules, update
from flambeau.errors import TrainingError

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 120
"""The rates that are tried, and in how many steps, each the same factor above the one before."""

SMOOTHING = 0.9
"""The decay of the average over the losses of the steps."""

PART = 5.0
"""The rate at which the loss is lowest is divided by this."""

WORSE = 3.0
"""The search ends when the smoothed loss is this many times the lowest; what comes then teaches nothing more."""


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found.

    Attributes:
        rate: The chosen learning rate.
        points: Each rate that was tried, the loss of its batch and the smoothed loss.
    """

    rate: float
    points: tuple[tuple[float, float, float], ...]


def search(state: State, stream: Stream, rules: Rules) -> Search:
    """Tries growing learning rates, one a batch, and chooses one.

    Args:
        state: One to be thrown away, whose optimisers have a base rate of 1.
        stream: The training batches; taken again from the start where they are too few.
        rules: As training will have them; the schedule and the averaged weights are left out.

    Raises:
        TrainingError: The loss did not fall at any rate.
    """
    growth = (HIGHEST / LOWEST) ** (1 / (STEPS - 1))
    growing = replace(rules, schedule=lambda step: LOWEST * growth**step, ema=None)
    first = state.phases[0].name
    points: list[tuple[float, float, float]] = []
    average = 0.0
    state.model.train()
    for step, batch in zip(range(STEPS), _endless(stream), strict=False):
        try:
            loss = float(update(state, batch, growing).losses.get(first, math.nan))
        except TrainingError:
            break  # a gradient that is not finite is where this leads to
        if not math.isfinite(loss):
            break
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        points.append((growing.schedule(step), loss, average / (1 - SMOOTHING ** (step + 1))))
        if points[-1][2] > WORSE * min(smooth for _, _, smooth in points):
            break
    return Search(choose(points), tuple(points))


def choose(points: Sequence[tuple[float, float, float]]) -> float:
    """A fifth of the rate at which the smoothed loss is lowest, rounded to two digits.

    Beyond that rate the loss no longer falls, and a whole run needs some distance from it. (The rate of the steepest
    fall, which others take, was too low for adaptive optimisers, whose loss begins to fall at rates that lead nowhere.)

    Raises:
        TrainingError: It fell by less than a twentieth.

    Example:
        >>> losses = [2.3, 2.3, 2.2, 1.4, 0.9, 0.8, 3.0]
        >>> choose([(10.0**-n, 0.0, loss) for n, loss in zip(range(6, -1, -1), losses)])
        0.02
    """
    smoothed = [smooth for _, _, smooth in points]
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__, default=0)
    if not smoothed or smoothed[lowest] > smoothed[0] - 0.05 * abs(smoothed[0]):
        raise TrainingError(
            "No learning rate was found: the loss did not fall at any.",
            where="optimizer.lr",
            received="auto",
            remedy="Set optimizer.lr to a number, such as 0.001 for adamw or 0.05 for sgd.",
        )
    return float(f"{points[lowest][0] / PART:.1e}")


def _endless(stream: Stream) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from stream.epoch(epoch, 0)
        epoch += 1
