"""Pictures that are darker or brighter than all training pictures are doubted, and no others."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import flambeau
from flambeau.data.brightness import MARGIN, brightness, doubts, ranges


def flat(value: int, n: int = 1, channels: int = 1) -> NDArray[np.uint8]:
    return np.full((n, channels, 6, 5), value, dtype=np.uint8)


@pytest.mark.parametrize("side", [(1, 1), (1, 4), (3, 1), (2, 2)])
def test_small_pictures_are_all_border(side: tuple[int, int]) -> None:
    [[whole, border]] = brightness(np.full((1, 3, *side), 51, dtype=np.uint8)).tolist()
    assert whole == border == pytest.approx(0.2)


def test_whole_and_border() -> None:
    picture = flat(0, channels=3)
    picture[:, :, 1:-1, 1:-1] = 255
    [[whole, border]] = brightness(picture).tolist()
    assert (whole, border) == (pytest.approx(12 / 30), 0)


def test_row_by_row_as_together() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (50, 3, 7, 9), dtype=np.uint8)
    assert np.array_equal(brightness(pictures), np.concatenate([brightness(one[None]) for one in pictures]))


@pytest.mark.parametrize(
    ("value", "doubted"), [(100, None), (150, None), (150 + 255 * MARGIN - 1, None), (170, "brighter"), (80, "darker")]
)
def test_beyond_the_training_range_by_a_margin(value: float, doubted: str | None) -> None:
    known = ranges(np.concatenate([flat(100), flat(150)]))
    [found] = doubts(flat(int(value)), known)
    assert (found is None) if doubted is None else (doubted in str(found))


def test_nothing_known_nothing_doubted() -> None:
    assert doubts(flat(255, n=3), {}) == [None] * 3
    assert ranges(flat(0, n=0)) == {}


@pytest.mark.parametrize("name", ["digits", "fashion-mnist-mini"])
def test_inverted_pictures_are_doubted_and_real_ones_are_not(name: str) -> None:
    splits = flambeau.datasets.load(name).splits
    train, test = (split.tensor("image").numpy() for split in (splits["train"], splits.get("test", splits["train"])))
    known = ranges(train)
    assert not any(doubts(test, known))
    assert all(doubts(255 - test, known))
