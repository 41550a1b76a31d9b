"""The loop: forward, backward, step, again and again."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flambeau.eject.numpy_parts.chance import mirrored, moved, shuffled
from flambeau.eject.numpy_parts.losses import log_softmax, negative_log_likelihood
from flambeau.eject.numpy_parts.reading import Part, from_cifar, from_idx, from_npz
from flambeau.eject.numpy_parts.settings import (
    BATCH_SIZE,
    CLIP,
    DATA,
    EPOCHS,
    EVERY,
    FOLDER,
    LEARNING_RATE,
    MEAN,
    SMOOTHING,
    STD,
    STEP_EVERY,
    STEP_FACTOR,
    STEPS,
    WARMUP,
    WEIGHTS,
    network,
)
from flambeau.eject.numpy_parts.steps import adam, clip, cosine, sgd, sgd_with_momentum, step_down, warm
from flambeau.eject.numpy_parts.tensor import Array, Tensor


def prepared(pictures: Array) -> Tensor:
    """Bytes as numbers in [0, 1], then shifted and scaled as in the run."""  # only: normalized
    """Bytes as numbers in [0, 1]."""  # only: not normalized
    x = pictures / 255
    x = (x - MEAN) / STD  # only: normalized
    return Tensor(x)


def batches(n: int) -> Iterator[tuple[int, Array]]:
    """For each step its epoch and the numbers of its pictures."""
    for epoch in range(EPOCHS):
        order = shuffled(epoch, n)  # only: shuffle
        order = np.arange(n)  # only: not shuffle
        order = order[:-1]  # a batch of a single picture is left out  # only: single
        for first in range(0, len(order), BATCH_SIZE):
            yield epoch, order[first : first + BATCH_SIZE]


def train(p: dict[str, Tensor], pictures: Array, labels: Array) -> Iterator[float]:
    """Changes the weights p step by step, and gives the loss of each batch before its step."""
    speed: dict[str, Array] = {}  # only: momentum
    moments: dict[str, tuple[Array, Array]] = {}  # only: adam
    for step, (epoch, rows) in enumerate(batches(len(labels))):
        batch = pictures[rows]
        batch = mirrored(batch, epoch, rows)  # only: mirror
        batch = moved(batch, epoch, rows)  # only: shift
        scores = network(prepared(batch), p, training=True)  # only: modes
        scores = network(prepared(batch), p)  # only: not modes
        wanted = np.eye(scores.data.shape[1])[labels[rows]]  # 1 for the right class, 0 for all others
        # A part of that is spread evenly over all classes, so that no score need grow without end.  # only: smoothing
        wanted = (1 - SMOOTHING) * wanted + SMOOTHING / wanted.shape[1]  # only: smoothing
        loss = negative_log_likelihood(log_softmax(scores), wanted)  # only: not nll
        loss = negative_log_likelihood(scores, wanted)  # only: nll
        for tensor in p.values():
            tensor.grad = np.zeros(())  # gradients add up, so each step begins without any
        loss.backward()
        clip(p, CLIP)  # only: clip
        rate = LEARNING_RATE  # only: constant
        rate = LEARNING_RATE * warm(step, WARMUP)  # only: warm
        rate = LEARNING_RATE * cosine(step, STEPS, WARMUP)  # only: cosine
        rate = LEARNING_RATE * step_down(step, STEP_EVERY, STEP_FACTOR, WARMUP)  # only: step
        sgd(p, rate)  # only: sgd
        sgd_with_momentum(p, rate, speed)  # only: momentum
        adam(p, rate, moments, step + 1)  # only: adam
        yield float(loss.data)


def accuracy(p: dict[str, Tensor], pictures: Array, labels: Array) -> float:
    """The part of the pictures whose own class has the highest score."""
    right = 0
    for first in range(0, len(labels), 256):
        scores = network(prepared(pictures[first : first + 256]), p)
        right += int((scores.data.argmax(axis=1) == labels[first : first + 256]).sum())
    return right / len(labels)


def load(folder: Path) -> tuple[Part, Part]:
    train, test = from_idx(folder)  # only: idx
    train, test = from_cifar(folder)  # only: cifar
    # The run kept some of the training pictures apart for validation; these are the others, in its order.  # only: rows
    rows = np.load(DATA)["rows"]  # only: rows
    train = train[0][rows], train[1][rows]  # only: rows
    return train, test


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=STEPS, help=f"stop after so many of {STEPS:,} steps")
    parser.add_argument("--losses", type=Path, help="write the loss of every step to this file, one a line")
    parser.add_argument("--data", type=Path, default=FOLDER, help="the folder of the data's files")  # only: files
    asked = parser.parse_args()
    (pictures, labels), test = load(asked.data)  # only: files
    (pictures, labels), test = from_npz(DATA)  # only: not files
    p = {name: Tensor(values.astype(np.float64), learns=True) for name, values in np.load(WEIGHTS).items()}
    losses = []
    for step, loss in zip(range(1, asked.steps + 1), train(p, pictures, labels), strict=False):
        losses.append(loss)
        if step % EVERY == 0:
            print(f"step {step:,} of {STEPS:,}, loss {loss:.6f}", flush=True)
    if asked.losses:
        asked.losses.write_text("".join(f"{loss!r}\n" for loss in losses), encoding="utf-8")
    print(f"test accuracy {accuracy(p, *test):.2%} of {len(test[1]):,} pictures")
