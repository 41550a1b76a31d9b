"""Layers.

A layer is a function of its input and its weights. One that is made of operations which know their gradients needs no
gradient of its own; for the others it is written here.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from flambeau.eject.numpy_parts.tensor import Array, Tensor

CHANCE = np.random.default_rng(0)


def flatten(x: Tensor) -> Tensor:
    """Each picture as one long row of numbers."""
    return x.reshape(len(x.data), -1)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Every output is a weighted sum of all inputs: (N, inputs) and (outputs, inputs) to (N, outputs)."""
    return x @ weight.transposed() + bias


def conv2d(x: Tensor, weight: Tensor, bias: Tensor, padding: int = 0) -> Tensor:
    """Slides O small filters (O, C, k, k) over pictures (N, C, H, W): maps (N, O, H', W') of how well each fits where.

    im2col: the k x k window at each place is copied into a column of one large matrix. All the sliding is then a
    single product of matrices, which processors are best at; the price is that a pixel is stored up to k * k times.
    """
    n, channels, height, width = x.data.shape
    size = weight.data.shape[-1]
    padded = np.pad(x.data, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, (size, size), axis=(2, 3))  # (N, C, H', W', k, k), a view: no copy yet
    down, right = windows.shape[2:4]
    columns = windows.transpose(1, 4, 5, 0, 2, 3).reshape(channels * size * size, n * down * right)
    filters = weight.data.reshape(-1, channels * size * size)
    maps = (filters @ columns + bias.data[:, None]).reshape(-1, n, down, right).swapaxes(0, 1)

    def by_filter(g: Array) -> Array:
        return g.swapaxes(0, 1).reshape(len(filters), -1)

    def to_input(g: Array) -> Array:
        # col2im: each copy of a pixel has a gradient, and they are added up where they were copied from.
        copies = (filters.T @ by_filter(g)).reshape(channels, size, size, n, down, right)
        total = np.zeros((channels, n, *padded.shape[2:]))
        for i, j in np.ndindex(size, size):
            total[:, :, i : i + down, j : j + right] += copies[:, i, j]
        return total.swapaxes(0, 1)[:, :, padding : padding + height, padding : padding + width]

    to_weight = (weight, lambda g: (by_filter(g) @ columns.T).reshape(weight.data.shape))
    return Tensor(maps, [(x, to_input), to_weight, (bias, lambda g: g.sum(axis=(0, 2, 3)))])


def max_pool(x: Tensor, size: int) -> Tensor:
    """The largest number of each square of size x size; only that one gets the gradient, for only it mattered."""
    squares = sliding_window_view(x.data, (size, size), axis=(2, 3))[:, :, ::size, ::size]
    winners = squares.reshape(*squares.shape[:4], -1).argmax(axis=-1)
    picture, channel, down, right = np.ogrid[tuple(map(slice, winners.shape))]
    places = picture, channel, down * size + winners // size, right * size + winners % size

    def to_input(g: Array) -> Array:
        total = np.zeros_like(x.data)
        total[places] = g
        return total

    return Tensor(x.data[places], [(x, to_input)])


def dropout(x: Tensor, chance: float, training: bool) -> Tensor:
    """Switches each number off by chance while training, and makes the others larger, so that the mean stays."""
    return x * ((CHANCE.random(x.data.shape) >= chance) / (1 - chance)) if training else x


def mean(x: Tensor, axis: int) -> Tensor:
    """The mean along an axis, which is kept with length 1."""
    length = x.data.shape[axis]
    return Tensor(x.data.mean(axis, keepdims=True), [(x, lambda g: np.broadcast_to(g / length, x.data.shape))])


def inverse_root(x: Tensor) -> Tensor:
    """1 / sqrt(x), for every number by itself."""
    y = x.data**-0.5
    return Tensor(y, [(x, lambda g: g * -0.5 * y**3)])


def batch_norm(x: Tensor, weight: Tensor, bias: Tensor, running: tuple[Array, Array], training: bool) -> Tensor:
    """Gives each feature (a column) mean 0 and variance 1 over the batch, then a scale and a shift that are learnt.

    A picture that is asked about later has no batch. For it, means and variances are tracked here while training.
    """
    if training:
        middle = mean(x, axis=0)
        centred = x + middle * -1
        variance = mean(centred * centred, axis=0)
        for tracked, seen in zip(running, (middle.data, variance.data * len(x.data) / (len(x.data) - 1)), strict=True):
            tracked += 0.1 * (seen[0] - tracked)
    else:
        centred, variance = x + Tensor(-running[0]), Tensor(running[1])
    return centred * inverse_root(variance + Tensor(np.array(1e-5))) * weight + bias


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Gives the features of each picture (a row) mean 0 and variance 1, then a scale and a shift that are learnt."""
    centred = x + mean(x, axis=1) * -1
    variance = mean(centred * centred, axis=1)
    return centred * inverse_root(variance + Tensor(np.array(1e-5))) * weight + bias
