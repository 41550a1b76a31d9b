"""The loss: one number that says how wrong the scores are.

It is the negative logarithm of the probability that the network gave the right class, as a mean over the batch: 0 for
certainty, log(10) = 2.3 for guessing among ten, without limit for being sure of something wrong.
"""

from __future__ import annotations

import numpy as np

from flambeau.eject.numpy_parts.tensor import Array, Tensor


def log_softmax(scores: Tensor) -> Tensor:
    """Logarithms of probabilities: softmax makes scores positive with exp, and divides them by their sum.

    exp(1000) is infinite. Subtracting the largest score from all of them changes no quotient, and now no exp is above
    1. And log(exp(a) / sum) is taken as a - log(sum), so that a small probability does not become log(0).
    """
    shifted = scores.data - scores.data.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return Tensor(logs, [(scores, lambda g: g - np.exp(logs) * g.sum(axis=1, keepdims=True))])


def negative_log_likelihood(logs: Tensor, wanted: Array) -> Tensor:
    """The mean over the batch; wanted is (N, classes), what part of each picture is to be of each class."""
    return (logs * wanted).sum() * (-1 / len(wanted))
