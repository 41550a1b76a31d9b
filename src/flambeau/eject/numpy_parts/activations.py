"""Activations.

Without something bent between them, layers on layers of linear maps would be one linear map. Each of these works on
every number by itself, so its gradient is the incoming one times its own slope.
"""

from __future__ import annotations

import math

import numpy as np

from flambeau.eject.numpy_parts.tensor import Array, Tensor


def relu(x: Tensor) -> Tensor:
    return Tensor(np.maximum(x.data, 0), [(x, lambda g: g * (x.data > 0))])


def leaky_relu(x: Tensor) -> Tensor:
    slope = np.where(x.data > 0, 1, 0.01)
    return Tensor(x.data * slope, [(x, lambda g: g * slope)])


def elu(x: Tensor) -> Tensor:
    y = np.where(x.data > 0, x.data, np.expm1(np.minimum(x.data, 0)))
    return Tensor(y, [(x, lambda g: g * np.where(x.data > 0, 1, y + 1))])


def selu(x: Tensor) -> Tensor:
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    low = alpha * np.expm1(np.minimum(x.data, 0))
    slope = scale * np.where(x.data > 0, 1, low + alpha)
    return Tensor(scale * np.where(x.data > 0, x.data, low), [(x, lambda g: g * slope)])


def gelu(x: Tensor) -> Tensor:
    """x times the probability that a normally distributed number is below x."""
    below: Array = 0.5 * (1 + np.vectorize(math.erf)(x.data / math.sqrt(2)))
    density = np.exp(-(x.data**2) / 2) / math.sqrt(2 * math.pi)
    return Tensor(x.data * below, [(x, lambda g: g * (below + x.data * density))])


def sigmoid(x: Tensor) -> Tensor:
    y = _logistic(x.data)
    return Tensor(y, [(x, lambda g: g * y * (1 - y))])


def silu(x: Tensor) -> Tensor:
    gate = _logistic(x.data)
    return Tensor(x.data * gate, [(x, lambda g: g * gate * (1 + x.data * (1 - gate)))])


def softplus(x: Tensor) -> Tensor:
    return Tensor(np.logaddexp(0, x.data), [(x, lambda g: g * _logistic(x.data))])


def mish(x: Tensor) -> Tensor:
    gate = np.tanh(np.logaddexp(0, x.data))
    slope = gate + x.data * (1 - gate**2) * _logistic(x.data)
    return Tensor(x.data * gate, [(x, lambda g: g * slope)])


def tanh(x: Tensor) -> Tensor:
    y = np.tanh(x.data)
    return Tensor(y, [(x, lambda g: g * (1 - y**2))])


def _logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)), by way of tanh, which does not overflow."""
    y: Array = 0.5 * (1 + np.tanh(0.5 * x))
    return y
