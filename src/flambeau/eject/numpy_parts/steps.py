"""The step: from gradients to other weights.

The gradient points to where the loss grows fastest, so every weight goes a little way against it. The learning rate
says how far.
"""

from __future__ import annotations

import math

import numpy as np

from flambeau.eject.numpy_parts.settings import BETA1, BETA2, MOMENTUM, WEIGHT_DECAY
from flambeau.eject.numpy_parts.tensor import Array, Tensor


def sgd(p: dict[str, Tensor], rate: float) -> None:
    """Stochastic gradient descent: stochastic, since the gradient is that of one batch and not of all the data."""
    for tensor in p.values():
        gradient = tensor.grad
        if tensor.data.ndim > 1:  # only: decay
            gradient = gradient + WEIGHT_DECAY * tensor.data  # only: decay
        tensor.data -= rate * gradient


def sgd_with_momentum(p: dict[str, Tensor], rate: float, speed: dict[str, Array]) -> None:
    """As a ball rolls: each step is the last one, slowed a little, plus the gradient. `speed` lives between steps."""
    for name, tensor in p.items():
        gradient = tensor.grad
        if tensor.data.ndim > 1:  # only: decay
            gradient = gradient + WEIGHT_DECAY * tensor.data  # only: decay
        speed[name] = MOMENTUM * speed[name] + gradient if name in speed else gradient
        tensor.data -= rate * speed[name]  # only: not nesterov
        # Nesterov: the gradient counts once more, as if it had been taken where the momentum leads.  # only: nesterov
        tensor.data -= rate * (gradient + MOMENTUM * speed[name])  # only: nesterov


def adam(p: dict[str, Tensor], rate: float, moments: dict[str, tuple[Array, Array]], step: int) -> None:
    """Adam: each weight has a step size of its own, its mean gradient divided by how large gradients usually are.

    Both are running means that begin at 0; dividing by 1 - beta ** step makes up for that.
    """
    for name, tensor in p.items():
        gradient = tensor.grad
        if tensor.data.ndim > 1:  # only: decoupled
            # Weights shrink, so that only what is needed again and again stays. Biases do not.  # only: decoupled
            tensor.data *= 1 - rate * WEIGHT_DECAY  # only: decoupled
        if tensor.data.ndim > 1:  # only: coupled
            gradient = gradient + WEIGHT_DECAY * tensor.data  # only: coupled
        first, second = moments.get(name, (np.zeros_like(gradient), np.zeros_like(gradient)))
        first = BETA1 * first + (1 - BETA1) * gradient
        second = BETA2 * second + (1 - BETA2) * gradient**2
        moments[name] = first, second
        size = np.sqrt(second / (1 - BETA2**step)) + 1e-8
        tensor.data -= rate / (1 - BETA1**step) * first / size


def clip(p: dict[str, Tensor], longest: float) -> None:
    """Shortens the gradient of all weights together where it is longer than this, and keeps its direction."""
    length = math.sqrt(sum(float((tensor.grad**2).sum()) for tensor in p.values()))
    for tensor in p.values():
        tensor.grad = tensor.grad * min(1.0, longest / (length + 1e-6))


def warm(step: int, warmup: int) -> float:
    """A linear rise from nearly nothing to 1 over the first steps, while the weights are still random."""
    return min(1.0, (step + 1) / (warmup + 1))


def cosine(step: int, steps: int, warmup: int) -> float:
    """Half a cosine from 1 to 0, after a linear rise: large steps to get near, small ones to settle."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def step_down(step: int, every: int, factor: float, warmup: int) -> float:
    """1, and after so many steps a fixed part of it, again and again; before that a linear rise."""
    return (step + 1) / (warmup + 1) if step < warmup else factor ** (step // every)
