"""The Fréchet distance between two clouds of features, from sums that add up over batches.

Heusel et al. 2017 ("GANs trained by a two time-scale update rule converge to a local Nash equilibrium", arXiv
1706.08500) take the features of an Inception network trained on ImageNet; which features are compared is the caller's
to choose here, and numbers that were measured with different ones cannot be compared.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def start(features: int, device: torch.device) -> dict[str, Tensor]:
    """Empty sums of a cloud of points with so many coordinates: ``count`` (), ``sum`` (d,), ``products`` (d, d)."""
    real = torch.float32 if device.type == "mps" else torch.float64  # Metal has no float64
    return {
        "count": torch.zeros((), dtype=torch.int64, device=device),
        "sum": torch.zeros(features, dtype=real, device=device),
        "products": torch.zeros(features, features, dtype=real, device=device),
    }


def add(sums: Mapping[str, Tensor], points: Tensor) -> None:
    """Adds points ``(n, d)`` of any floating-point dtype to the sums, in place."""
    points = points.to(sums["sum"].dtype)
    sums["count"] += len(points)
    sums["sum"] += points.sum(0)
    sums["products"] += points.T @ points


def moments(sums: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Mean ``(d,)`` and covariance ``(d, d)`` (divided by n - 1) of what was added, both float64 on the CPU.

    Example:
        >>> sums = start(1, torch.device("cpu"))
        >>> add(sums, torch.tensor([[1.0], [3.0]]))
        >>> [value.tolist() for value in moments(sums)]
        [[2.0], [[2.0]]]
    """
    count = int(sums["count"])
    total, products = (sums[name].detach().cpu().double() for name in ("sum", "products"))
    mean = total / max(1, count)
    covariance = (products - count * torch.outer(mean, mean)) / max(1, count - 1)
    return mean, (covariance + covariance.T) / 2


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The squared Fréchet distance between normal distributions fitted to two clouds; NaN below two points each.

    ``|m1 - m2|² + tr(C1 + C2 - 2 (C1^½ C2 C1^½)^½)``: the same trace as that of ``(C1 C2)^½``, but of a symmetric
    matrix, whose eigenvalues are real whatever the rounding.

    Args:
        one: Sums as :func:`start` and :func:`add` make them.
        other: The same of the other cloud.

    Example:
        >>> near, far = start(1, torch.device("cpu")), start(1, torch.device("cpu"))
        >>> add(near, torch.tensor([[-1.0], [1.0]])), add(far, torch.tensor([[2.0], [4.0]]))
        (None, None)
        >>> round(distance(near, far), 6)
        9.0
    """
    if min(int(one["count"]), int(other["count"])) < 2:
        return float("nan")
    (mean, covariance), (other_mean, other_covariance) = moments(one), moments(other)
    root = _root(covariance)
    product = root @ other_covariance @ root
    shared = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    apart = (mean - other_mean).square().sum()
    return max(0.0, float(apart + covariance.trace() + other_covariance.trace() - 2 * shared))


def diversity(made: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> float:
    """How far apart made points lie from each other, as a fraction of how far real ones do; NaN where neither is known.

    The mean squared distance of two points is twice the trace of their covariance, so the sums say it without a look
    at any pair. 1 is as varied as the data; near 0 all points are nearly the same one.

    Args:
        made: Sums of what is judged.
        real: Sums of what it is compared with.
    """
    if min(int(made["count"]), int(real["count"])) < 2:
        return float("nan")
    spread = float(moments(real)[1].trace())
    return (max(0.0, float(moments(made)[1].trace())) / spread) ** 0.5 if spread > 0 else float("nan")


def effective(counts: Tensor) -> float:
    """How many classes are in use: the exponential of the entropy of how often each occurs; NaN for none.

    Args:
        counts: ``(K,)`` int64.

    Example:
        >>> round(effective(torch.tensor([5, 5, 0])), 6), effective(torch.tensor([9, 0, 0]))
        (2.0, 1.0)
    """
    total = int(counts.sum())
    if not total:
        return float("nan")
    shares = counts[counts > 0].double() / total
    return float((-(shares * shares.log()).sum()).exp())


def _root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric matrix without negative eigenvalues, but for rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
