"""The Fréchet distance from sums, against formulas written out and worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from flambeau.metrics import frechet

CPU = torch.device("cpu")


def sums(points: Tensor, *, parts: int = 1) -> dict[str, Tensor]:
    made = frechet.start(points.shape[1], CPU)
    for part in points.tensor_split(parts):
        frechet.add(made, part)
    return made


def cloud(seed: int, n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return scale * torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing + shift


def direct(one: Tensor, other: Tensor) -> float:
    """The formula of Dowson and Landau, with the eigenvalues of the product of the covariances as they are."""
    apart = (one.mean(0) - other.mean(0)).square().sum()
    first, second = torch.cov(one.T), torch.cov(other.T)
    roots = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt()
    return float(apart + first.trace() + second.trace() - 2 * roots.sum())


@pytest.mark.parametrize("seed", range(5))
def test_distance_is_that_of_the_direct_formula(seed: int) -> None:
    one, other = cloud(seed, 400, 12), cloud(seed + 50, 300, 12, scale=1.7, shift=0.4)
    assert frechet.distance(sums(one), sums(other)) == pytest.approx(direct(one, other), rel=1e-9)


def test_distance_of_diagonal_covariances_is_worked_out_by_hand() -> None:
    # Four points at (±a, ±b) have the covariance diag(a², b²) · 4/3.
    def corners(a: float, b: float) -> Tensor:
        return torch.tensor([[a, b], [a, -b], [-a, b], [-a, -b]], dtype=torch.float64)

    wanted = 4 / 3 * ((3 - 1) ** 2 + (2 - 5) ** 2) + 1.0
    shifted = corners(1, 5) + torch.tensor([0.6, 0.8])
    assert frechet.distance(sums(corners(3, 2)), sums(shifted)) == pytest.approx(wanted)


def test_distance_is_symmetric_and_nothing_to_itself() -> None:
    one, other = sums(cloud(1, 90, 8)), sums(cloud(2, 90, 8))
    assert frechet.distance(one, other) == pytest.approx(frechet.distance(other, one), rel=1e-9)
    assert frechet.distance(one, one) == pytest.approx(0, abs=1e-9)


def test_fewer_points_than_features_make_no_nan() -> None:
    one, other = cloud(3, 6, 32), cloud(4, 7, 32)
    found = frechet.distance(sums(one), sums(other))
    # The direct formula takes square roots of eigenvalues that are nothing but rounding, hence the tolerance.
    assert math.isfinite(found) and found == pytest.approx(direct(one, other), rel=1e-5)


def test_sums_add_up_over_batches_of_any_size() -> None:
    points = cloud(5, 101, 6)
    whole, parted = sums(points), sums(points, parts=7)
    mean, covariance = frechet.moments(parted)
    torch.testing.assert_close(mean, points.mean(0))
    torch.testing.assert_close(covariance, torch.cov(points.T))
    assert frechet.distance(whole, parted) == pytest.approx(0, abs=1e-9)


def test_a_far_away_cloud_keeps_its_covariance() -> None:
    points = cloud(6, 500, 4) + 1000.0
    torch.testing.assert_close(frechet.moments(sums(points.float()))[1], torch.cov(points.T), rtol=1e-3, atol=1e-3)


def test_one_point_has_no_distance() -> None:
    one, several = sums(cloud(7, 1, 3)), sums(cloud(8, 9, 3))
    assert math.isnan(frechet.distance(one, several)) and math.isnan(frechet.diversity(one, several))


def test_diversity_is_the_ratio_of_mean_distances() -> None:
    real, made = cloud(9, 60, 5), cloud(10, 60, 5, scale=0.3)

    def spread(points: Tensor) -> float:
        return float(torch.cdist(points, points).square().sum() / (len(points) * (len(points) - 1)))

    found = frechet.diversity(sums(made), sums(real))
    assert found == pytest.approx(math.sqrt(spread(made) / spread(real)))
    assert frechet.diversity(sums(torch.ones(20, 5)), sums(real)) == pytest.approx(0, abs=1e-6)


def test_effective_number_of_classes() -> None:
    assert frechet.effective(torch.tensor([7, 7, 7, 7])) == pytest.approx(4)
    assert 1 < frechet.effective(torch.tensor([97, 1, 1, 1])) < 1.3
    assert math.isnan(frechet.effective(torch.zeros(3, dtype=torch.int64)))
