"""Pictures that are darker or brighter than all training pictures are doubted, and no others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import flambeau
from flambeau.data.brightness import MARGIN, brightness, doubts, ranges


def flat(value: int, n: int = 1, channels: int = 1) -> Tensor:
    return torch.full((n, channels, 6, 5), value, dtype=torch.uint8)


def test_whole_and_border() -> None:
    picture = flat(0, channels=3)
    picture[:, :, 1:-1, 1:-1] = 255
    [[whole, border]] = brightness(picture).tolist()
    assert (whole, border) == (pytest.approx(12 / 30), 0)


def test_row_by_row_as_together() -> None:
    pictures = torch.randint(0, 256, (50, 3, 7, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert brightness(pictures).equal(torch.cat([brightness(one) for one in pictures.split(1)]))


@pytest.mark.parametrize(
    ("value", "doubted"), [(100, None), (150, None), (150 + 255 * MARGIN - 1, None), (170, "brighter"), (80, "darker")]
)
def test_beyond_the_training_range_by_a_margin(value: float, doubted: str | None) -> None:
    known = ranges(torch.cat([flat(100), flat(150)]))
    [found] = doubts(flat(int(value)), known)
    assert (found is None) if doubted is None else (doubted in str(found))


def test_nothing_known_nothing_doubted() -> None:
    assert doubts(flat(255, n=3), {}) == [None] * 3
    assert ranges(flat(0, n=0)) == {}


@pytest.mark.parametrize("name", ["digits", "fashion-mnist-mini"])
def test_inverted_pictures_are_doubted_and_real_ones_are_not(name: str) -> None:
    splits = flambeau.datasets.load(name).splits
    train, test = splits["train"].tensor("image"), splits.get("test", splits["train"]).tensor("image")
    known = ranges(train)
    assert not any(doubts(test, known))
    assert all(doubts(255 - test, known))
