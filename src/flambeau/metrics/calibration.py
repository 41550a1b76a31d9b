"""Whether a probability of 80 % comes true eight times in ten: calibration error, and the temperature that lowers it.

Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from flambeau.errors import DataError

BINS = 15
LOWEST, HIGHEST = 0.05, 20.0


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence and accuracy in bins of equal width over [0, 1].

    Attributes:
        confidence: The mean confidence of each bin, NaN where it is empty.
        accuracy: The fraction of correct predictions in each bin, NaN where it is empty.
        count: Predictions in each bin.
    """

    confidence: list[float]
    accuracy: list[float]
    count: list[int]


def hits(truth: Tensor, predicted: Tensor) -> Tensor:
    """Whether predictions are right, bool ``(N,)``; of distributions the share that the predicted class has, ``(N,)``.

    Args:
        truth: True classes, ``(N,)`` int64, or distributions over the classes, ``(N, K)`` floating point.
        predicted: Predicted classes, ``(N,)`` int64.

    Example:
        >>> hits(torch.tensor([[0.75, 0.25]]), torch.tensor([1])).tolist()
        [0.25]
    """
    return truth.gather(1, predicted[:, None]).squeeze(1) if truth.is_floating_point() else predicted == truth


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T in [0.05, 20] that minimises the cross-entropy of ``softmax(logits / T)``.

    The cross-entropy is convex in 1/T, so Newton's method kept inside a bracket finds the one minimum; the arithmetic
    is float64 and nothing is drawn at random.

    Args:
        logits: ``(N, K)`` floating point, of data that the model was not trained on.
        labels: True classes, ``(N,)`` int64, or distributions, ``(N, K)`` floating point.

    Raises:
        DataError: There are no rows, or a logit is not finite.

    Example:
        >>> round(fit_temperature(torch.tensor([[4.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])), 3)
        3.641
    """
    if not len(labels):
        raise DataError("A temperature cannot be fitted on no rows.", remedy="Validate on at least one row.")
    scores = logits.detach().cpu().double()
    if not bool(torch.isfinite(scores).all()):
        raise DataError(
            "A temperature cannot be fitted, because some logits are not finite.", remedy="Lower the learning rate."
        )
    truth = labels.detach().cpu()
    inverse, low, high = 1.0, 1 / HIGHEST, 1 / LOWEST
    slope, curvature = _derivatives(scores, truth, inverse)
    if slope == 0:
        return 1.0
    end = high if slope < 0 else low
    if _derivatives(scores, truth, end)[0] * slope >= 0:
        return 1 / end
    for _ in range(100):
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else low
        following = step if low < step < high else (low + high) / 2
        if abs(following - inverse) <= 1e-12 * inverse:
            break
        inverse = following
        slope, curvature = _derivatives(scores, truth, inverse)
    return 1 / inverse


def _derivatives(logits: Tensor, labels: Tensor, inverse: float) -> tuple[float, float]:
    """The first and second derivative of the mean cross-entropy by the inverse temperature."""
    # Both are unchanged when a row is shifted, and taking its maximum to 0 keeps large logits from cancelling.
    shifted = logits - logits.amax(1, keepdim=True)
    probabilities = (shifted * inverse).softmax(1)
    mean = (probabilities * shifted).sum(1)
    variance = (probabilities * (shifted - mean[:, None]).square()).sum(1)
    soft = labels.is_floating_point()
    own = (labels * shifted).sum(1) if soft else shifted.gather(1, labels[:, None]).squeeze(1)
    return float((mean - own).mean()), float(variance.mean())


def cross_entropy(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> float:
    """The mean cross-entropy of ``softmax(logits / temperature)`` in nats, in float64 (NaN of no rows).

    Args:
        logits: ``(N, K)`` floating point.
        labels: True classes, ``(N,)`` int64, or distributions, ``(N, K)`` floating point.
        temperature: What the logits are divided by.
    """
    truth = labels.detach().cpu()
    truth = truth.double() if truth.is_floating_point() else truth
    return float(F.cross_entropy(logits.detach().cpu().double() / temperature, truth))


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """The mean distance of confidence and accuracy over bins of equal width, weighted by what they hold.

    Confidence is the largest probability of a row. The result lies in [0, 1], 0 is perfect; NaN of no rows. Where truth
    is a distribution, a prediction is right to the share that its class has.

    Args:
        probabilities: ``(N, K)`` floating point.
        labels: True classes, ``(N,)`` int64, or distributions, ``(N, K)`` floating point.
        bins: Into how many bins [0, 1] is cut.

    Example:
        >>> expected_calibration_error(torch.tensor([[0.75, 0.25]] * 2), torch.tensor([0, 1]))
        0.25
    """
    if not len(labels):
        return float("nan")
    confidence, right, _ = _binned(probabilities, labels, bins)
    return float((confidence - right).abs().sum()) / len(labels)


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Confidence against accuracy, bin by bin; what a reliability diagram shows.

    Args:
        probabilities: ``(N, K)`` floating point.
        labels: True classes, ``(N,)`` int64, or distributions, ``(N, K)`` floating point.
        bins: Into how many bins [0, 1] is cut.

    Example:
        >>> reliability(torch.tensor([[0.75, 0.25]] * 2), torch.tensor([0, 1]), bins=2).accuracy[1]
        0.5
    """
    confidence, right, count = _binned(probabilities, labels, bins)
    return Reliability(
        confidence=(confidence / count).tolist(), accuracy=(right / count).tolist(), count=[int(n) for n in count]
    )


def bin_sums(confidence: Tensor, right: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of confidence (its dtype), of what is right (int64, or its dtype) and of predictions (int64), ``(bins,)``.

    Args:
        confidence: ``(N,)`` in [0, 1]; a confidence of 1 belongs to the last bin.
        right: As :func:`hits` gives it, ``(N,)``.
        bins: Into how many bins [0, 1] is cut.
    """
    place = (confidence * bins).long().clamp(0, bins - 1)
    # A sum over a one-hot matrix has a fixed order, where scattered additions on a GPU have none.
    member = place[:, None] == torch.arange(bins, device=confidence.device)
    sums = (member * confidence[:, None]).sum(0)
    return sums, (member * right[:, None]).sum(0), member.sum(0)


def _binned(probabilities: Tensor, labels: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    confidence, predicted = probabilities.detach().cpu().double().max(1)
    sums, right, count = bin_sums(confidence, hits(labels.detach().cpu(), predicted), bins)
    return sums, right.double(), count.double()
