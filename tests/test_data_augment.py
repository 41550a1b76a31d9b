from __future__ import annotations

import pytest
import torch

from flambeau.core import Draw
from flambeau.data.augment import draws, picture_transform
from flambeau.data.augment.geometry import crop, mirror, shift
from flambeau.recipe import Augment

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))]


def pictures(n: int, channels: int = 3, side: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, channels, side, side), generator=generator, dtype=torch.uint8)


def test_draws_are_uniform() -> None:
    numbers = draws(Draw(0, 0, torch.arange(200_000)), 1, 3)
    assert numbers.dtype == torch.float32 and numbers.min() >= 0 and numbers.max() < 1
    for column in numbers.unbind(1):
        counts = torch.histc(column, 64, 0, 1)
        # A chi-squared statistic with 63 degrees of freedom: 63 on average, below 120 except once in 20,000 times.
        assert float(((counts - 3125) ** 2 / 3125).sum()) < 120


def test_draws_are_unrelated_between_rows_columns_streams_epochs_and_seeds() -> None:
    rows = torch.arange(100_000)
    base = draws(Draw(0, 0, rows), 1, 2)
    others = [
        base[:, 1],
        draws(Draw(0, 0, rows + 1), 1, 2)[:, 0],
        draws(Draw(0, 0, rows), 2, 2)[:, 0],
        draws(Draw(0, 1, rows), 1, 2)[:, 0],
        draws(Draw(1, 0, rows), 1, 2)[:, 0],
    ]
    for other in others:
        # The correlation of 100,000 independent pairs has a standard deviation of 0.0032.
        assert abs(float(torch.corrcoef(torch.stack([base[:, 0], other]))[0, 1])) < 0.016


@pytest.mark.parametrize("device", DEVICES)
def test_draws_are_pinned_on_every_device(device: str) -> None:
    numbers = draws(Draw(7, 2, torch.tensor([0, 1, 59_999], device=device)), 3, 2)
    assert (numbers.cpu() * (1 << 24)).long().tolist() == PINNED


PINNED = [[11917768, 14987723], [11209925, 13554448], [2720120, 12398519]]


VARIED = [
    Augment(),
    Augment(shift=3),
    Augment(crop=0.6),
    Augment(shift=2, crop=0.8),
    Augment(rotate=30),
    Augment(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2),
    Augment(randaugment=3, magnitude=20),
    Augment(cutout=0.5),
    Augment(preset="light"),
    Augment(preset="strong", mixup=0, cutmix=0),
]


@pytest.mark.parametrize("augment", VARIED)
def test_augmentation_depends_on_seed_epoch_and_row_only(augment: Augment) -> None:
    images, rows = pictures(30), torch.arange(100, 130)
    transform = picture_transform(augment, mirrored=True)
    assert transform is not None
    together = transform({"image": images, "row": rows}, Draw(5, 3, rows))["image"]
    mixed = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    for part in mixed.split(7):
        alone = transform({"image": images[part]}, Draw(5, 3, rows[part]))["image"]
        assert torch.equal(alone, together[part])
    assert not torch.equal(transform({"image": images}, Draw(5, 4, rows))["image"], together)
    assert not torch.equal(transform({"image": images}, Draw(6, 3, rows))["image"], together)


def test_no_transform_when_nothing_is_asked_for() -> None:
    assert picture_transform(Augment(), mirrored=False) is None


def test_half_of_the_pictures_are_mirrored() -> None:
    images, rows = pictures(4000, 1, 4), torch.arange(4000)
    transform = picture_transform(Augment(), mirrored=True)
    assert transform is not None
    after = transform({"image": images}, Draw(0, 0, rows))["image"]
    turned = (after == images.flip(-1)).flatten(1).all(1)
    kept = (after == images).flatten(1).all(1)
    assert bool((turned | kept).all()) and abs(float(turned.double().mean()) - 0.5) < 0.04
    assert torch.equal(mirror(images, turned & ~kept), after)


def test_shift_repeats_the_edge() -> None:
    images = pictures(9, 2, 6)
    down = torch.tensor([0, 1, -1, 2, -2, 0, 0, 6, -9])
    right = torch.tensor([0, 0, 0, 1, -1, 3, -3, 0, 9])
    moved = shift(images, down, right)
    assert moved.dtype == torch.uint8
    padded = torch.nn.functional.pad(images.float(), (10, 10, 10, 10), mode="replicate").to(torch.uint8)
    for number in range(9):
        y, x = 10 - int(down[number]), 10 - int(right[number])
        assert torch.equal(moved[number], padded[number, :, y : y + 6, x : x + 6])


def test_shift_stays_within_its_pixels_and_uses_all_of_them() -> None:
    images = torch.zeros(3000, 1, 9, 9, dtype=torch.uint8)
    images[:, 0, 4, 4] = 255
    transform = picture_transform(Augment(shift=2), mirrored=False)
    assert transform is not None
    places = transform({"image": images}, Draw(0, 0, torch.arange(3000)))["image"].flatten(1).argmax(1)
    assert {(int(place) // 9 - 4, int(place) % 9 - 4) for place in places} == {
        (y, x) for y in range(-2, 3) for x in range(-2, 3)
    }


def test_crop_of_everything_is_the_picture_and_crop_enlarges() -> None:
    images = pictures(3)
    one, zero = torch.ones(3), torch.zeros(3)
    assert torch.allclose(crop(images, one, zero, zero), images.float(), atol=1e-2)
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    half = torch.tensor([0.5])
    left, right = crop(ramp, half, zero[:1], zero[:1]), crop(ramp, half, zero[:1], one[:1])
    assert left.max() < 4 <= right.max() and torch.allclose(right - left, torch.full((8, 8), 4.0), atol=0.3)
