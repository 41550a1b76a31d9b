"""Chance without a generator.

What is drawn for a picture is a hash of the seed, the epoch and the picture's number: scrambled so well that it passes
for chance, and the same in any order, on any machine. The steps are those of SplitMix64 (Steele, Lea and Flood, 2014),
in whole numbers of 64 bits that wrap around.
"""

from __future__ import annotations

import numpy as np

from flambeau.eject.numpy_parts.settings import SEED, SHIFT
from flambeau.eject.numpy_parts.tensor import Array

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def scrambled(seed: int, numbers: Array) -> Array:
    """A number of 64 bits for each of these."""
    state = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN) + np.uint64(seed)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(FIRST)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(SECOND)
    return state ^ (state >> np.uint64(31))


def key(*parts: int) -> int:
    """One number of 64 bits for several, each scrambled together with those before it."""
    state = np.array([len(parts)], np.uint64)
    for part in parts:
        state = scrambled(0, state + np.uint64(part))
    return int(state[0])


def shuffled(epoch: int, n: int) -> Array:
    """The order of an epoch: the pictures sorted by their scrambled numbers."""
    return np.argsort(scrambled(key(SEED, epoch, 13), np.arange(n)).view(np.int64), kind="stable")


def lots(epoch: int, rows: Array, use: int, n: int) -> Array:
    """Numbers in [0, 1), n for each picture, (len(rows), n); `use` tells different uses apart."""
    columns = scrambled(key(use), np.arange(n))
    bits = scrambled(key(use, n), scrambled(key(SEED, epoch, use), rows)[:, None] ^ columns)
    return (bits >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def mirrored(pictures: Array, epoch: int, rows: Array) -> Array:
    """Half of the pictures with left and right exchanged: they show the same, and the network gets to see more."""
    chosen = lots(epoch, rows, use=1, n=1)[:, :, None, None] < 0.5
    return np.where(chosen, pictures[..., ::-1], pictures)


def moved(pictures: Array, epoch: int, rows: Array) -> Array:
    """Each picture moved by up to SHIFT pixels; what comes into view repeats the edge."""
    height, width = pictures.shape[2:]
    moves = (lots(epoch, rows, use=2, n=2) * np.float32(2 * SHIFT + 1)).astype(np.int64) - SHIFT
    y = np.clip(np.arange(height) - moves[:, :1], 0, height - 1)
    x = np.clip(np.arange(width) - moves[:, 1:], 0, width - 1)
    places = y[:, None, :, None] * width + x[:, None, None, :]
    flat = pictures.reshape(*pictures.shape[:2], -1)
    return np.take_along_axis(flat, places.reshape(len(rows), 1, -1), axis=2).reshape(pictures.shape)
