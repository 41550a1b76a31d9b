"""Each operation on pictures against torchvision's on the same picture, and mixing against its definition."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as theirs

from flambeau.core import Draw
from flambeau.data.augment import colour, draws, geometry, picture_transform, randaugment
from flambeau.data.augment.mixing import beta_quantiles, cutmix, mixed_targets, mixup, rectangle
from flambeau.recipe import Augment

CLOSE = 0.02
"""How far a value between 0 and 255 may be from torchvision's, which computes in [0, 1]."""


def pictures(n: int = 12, channels: int = 3, height: int = 14, width: int = 18) -> Tensor:
    """Random pictures over a slope, some of them with few different values, uint8."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randint(0, 160, (n, channels, height, width), generator=generator)
    made = noise + torch.linspace(0, 95, width).long()
    made[0], made[1], made[2] = 77, made[1] // 90 * 90, made[2] // 3
    return made.to(torch.uint8)


AMOUNTS = torch.linspace(0.1, 1.9, 12)
BY_FACTOR: list[tuple[Callable[..., Tensor], Callable[..., Tensor]]] = [
    (colour.brightness, theirs.adjust_brightness),
    (colour.contrast, theirs.adjust_contrast),
    (colour.saturation, theirs.adjust_saturation),
    (colour.sharpness, theirs.adjust_sharpness),
]


@pytest.mark.parametrize(("ours", "reference"), BY_FACTOR, ids=lambda value: value.__name__)
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_torchvisions(ours: Callable[..., Tensor], reference: Callable[..., Tensor], channels: int) -> None:
    images = pictures(channels=channels)
    expected = [255 * reference(p / 255, float(a)) for p, a in zip(images, AMOUNTS, strict=True)]
    torch.testing.assert_close(ours(images, AMOUNTS), torch.stack(expected), atol=CLOSE, rtol=0)


def test_hues_are_torchvisions() -> None:
    images, turns = pictures(), torch.linspace(-0.5, 0.5, 12)
    expected = [255 * theirs.adjust_hue(p / 255, float(turn)) for p, turn in zip(images, turns, strict=True)]
    torch.testing.assert_close(colour.hue(images, turns), torch.stack(expected), atol=CLOSE, rtol=0)
    grey = pictures(channels=1)
    assert torch.equal(colour.hue(grey, turns), grey.float())


@pytest.mark.parametrize("channels", [1, 3])
def test_operations_on_levels_are_torchvisions(channels: int) -> None:
    images = pictures(channels=channels)
    bits, thresholds = torch.arange(12) % 8 + 1, torch.linspace(0, 255, 12)
    for number, picture in enumerate(images):
        assert torch.equal(
            colour.posterize(images, bits)[number].byte(), theirs.posterize(picture, int(bits[number]))
        ), number
        limit = float(thresholds[number])
        assert torch.equal(colour.solarize(images, thresholds)[number].byte(), theirs.solarize(picture, limit)), number
        assert torch.equal(colour.equalize(images)[number].byte(), theirs.equalize(picture)), number
    expected = torch.stack([255 * theirs.autocontrast(picture / 255) for picture in images])
    torch.testing.assert_close(colour.autocontrast(images), expected, atol=CLOSE, rtol=0)


def around(picture: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """torchvision's change of a picture whose edges go on outside it; far enough not to meet its own filling."""
    wide = F.pad(picture[None].float() / 255, (30, 30, 30, 30), mode="replicate")[0]
    return 255 * change(wide)[:, 30:-30, 30:-30]


def test_rotation_is_torchvisions() -> None:
    images, degrees = pictures(), torch.linspace(-180, 180, 12)
    ours = geometry.rotate(images, degrees)
    for number, picture in enumerate(images):
        expected = around(picture, lambda p, n=number: theirs.rotate(p, float(degrees[n]), InterpolationMode.BILINEAR))
        torch.testing.assert_close(ours[number], expected, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("name", ["skew-x", "skew-y", "move-x", "move-y"])
def test_skewing_and_moving_are_torchvisions(name: str) -> None:
    images, strength = pictures(), torch.linspace(-1, 1, 12)
    ours = randaugment.OPERATIONS[name](images, strength)
    height, width = images.shape[-2:]
    for number, picture in enumerate(images):
        value = float(strength[number])
        angle = float(torch.rad2deg(torch.atan(torch.tensor(0.3 * value))))
        shear = [angle if name == "skew-x" else 0.0, angle if name == "skew-y" else 0.0]

        def change(wide: Tensor, shear: list[float] = shear, value: float = value) -> Tensor:
            if name.startswith("skew"):
                return theirs.affine(wide, 0.0, [0, 0], 1.0, shear, InterpolationMode.BILINEAR)
            across, down = (150 / 331 * width * value, 0.0) if name == "move-x" else (0.0, 150 / 331 * height * value)
            rows, columns = torch.arange(wide.shape[1]) + down, torch.arange(wide.shape[2]) + across
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            grid = torch.stack([(2 * x + 1) / wide.shape[2] - 1, (2 * y + 1) / wide.shape[1] - 1], -1)
            return F.grid_sample(wide[None], grid[None], padding_mode="border", align_corners=False)[0]

        torch.testing.assert_close(ours[number], around(picture, change), atol=CLOSE, rtol=0)


def test_rand_augment_does_its_operations_in_turn_and_row_by_row() -> None:
    images, rows = pictures(12), torch.arange(40, 52)
    draw = Draw(3, 1, rows)
    ours = randaugment.rand_augment(images, draw, 2, 15)
    for number in range(len(images)):
        one = images[number : number + 1].float()
        for turn in range(2):
            which, strength = draws(draw, randaugment._OPERATION + turn, 2)[number]
            operation = list(randaugment.OPERATIONS.values())[int(which * len(randaugment.OPERATIONS))]
            one = operation(one, ((2 * strength - 1) * 0.5).reshape(1))
        torch.testing.assert_close(ours[number], one[0], atol=CLOSE, rtol=0)


def test_every_operation_is_drawn_and_stays_in_range() -> None:
    seen = (draws(Draw(0, 0, torch.arange(500)), randaugment._OPERATION, 2)[:, 0] * 14).long()
    assert len(randaugment.OPERATIONS) == 14 and set(seen.tolist()) == set(range(14))
    images = pictures(500)
    varied = randaugment.rand_augment(images, Draw(0, 0, torch.arange(500)), 3, 30)
    assert varied.dtype == torch.float32 and varied.min() >= 0 and varied.max() <= 255.001
    assert torch.equal(randaugment.rand_augment(images, Draw(0, 0, torch.arange(500)), 0, 30), images.float())


def test_what_is_done_on_an_accelerator_is_what_is_done_here() -> None:
    """Elsewhere an operation is done to all pictures and kept for some; the kept ones are the same."""
    images, strength = pictures(), torch.linspace(-1, 1, 12)
    chosen = torch.arange(12) % 3 == 0
    for operation in randaugment.OPERATIONS.values():
        here = randaugment.where(chosen, operation, images.float(), strength)
        there = torch.where(chosen.view(-1, 1, 1, 1), operation(images.float(), strength), images.float())
        assert torch.equal(here, there)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_shares_have_the_beta_distribution(alpha: float) -> None:
    scipy = pytest.importorskip("scipy.stats")
    uniform = torch.linspace(0, 1, 2001)[:-1]
    expected = torch.from_numpy(scipy.beta(alpha, alpha).ppf(uniform.double().numpy())).float()
    torch.testing.assert_close(beta_quantiles(alpha, uniform), expected, atol=1e-4, rtol=0)


def test_mixup_averages_with_the_mirrored_position_and_so_do_the_targets() -> None:
    values, share = torch.arange(12.0).view(4, 3), torch.tensor([1.0, 0.75, 0.5, 0.0])
    mixed = mixup(values, share)
    for row in range(4):
        expected = share[row] * values[row] + (1 - share[row]) * values[3 - row]
        assert torch.equal(mixed[row], expected)
    targets = mixed_targets(torch.tensor([0, 1, 1, 2]), 3, share)
    assert targets.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert mixed_targets(torch.tensor([0, 1, 2]), 3, torch.tensor([0.25, 0.5, 1.0])).tolist() == [
        [0.25, 0, 0.75],
        [0, 1, 0],
        [0, 0, 1],
    ]


def test_cutmix_puts_a_rectangle_of_the_partner_in_and_counts_its_pixels() -> None:
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 10, 20)
    generator = torch.Generator().manual_seed(0)
    share, down, right = torch.rand(3, 6, generator=generator)
    mixed, kept = cutmix(images, share, down, right)
    for row in range(6):
        own = mixed[row] == row
        assert bool((own | (mixed[row] == 5 - row)).all()) and torch.equal(own[0], own[1])
        assert float(own[0].float().mean()) == pytest.approx(float(kept[row]))
        ys, xs = (~own[0]).nonzero().unbind(1)
        assert len(ys) == (ys.max() - ys.min() + 1) * (xs.max() - xs.min() + 1), "it is a rectangle"
    centre = torch.tensor([0.5])
    _, kept = cutmix(images[:1], torch.tensor([0.75]), centre, centre)
    assert float(kept) == pytest.approx(0.75, abs=0.06), "whole in the middle"


def test_cutout_blots_out_a_rectangle_in_the_mean_colour() -> None:
    images, rows = pictures(height=20, width=20), torch.arange(12)
    transform = picture_transform(Augment(mirror=False, cutout=0.5), mirrored=False)
    assert transform is not None
    after = transform({"image": images}, Draw(0, 0, rows))["image"]
    for row in range(1, 12):
        changed = (after[row] != images[row]).any(0)
        assert 0.05 < float(changed.float().mean()) <= 0.27
        inside = rectangle(20, 20, torch.tensor([0.5]), *draws(Draw(0, 0, rows[row : row + 1]), 6, 2).unbind(1))[0]
        assert not bool((changed & ~inside).any())
        means = images[row].float().mean((1, 2))
        torch.testing.assert_close(after[row][:, inside], means.unsqueeze(1).expand(-1, int(inside.sum())))


@pytest.mark.parametrize("augment", [Augment(mixup=0.4), Augment(cutmix=1.0), Augment(mixup=0.4, cutmix=1.0)])
def test_mixing_depends_on_the_row_and_on_who_is_mirrored(augment: Augment) -> None:
    images, labels, rows = pictures(8), torch.arange(8) % 3, torch.arange(8)
    transform = picture_transform(augment, False, 3)
    assert transform is not None
    mixed = transform({"image": images, "label": labels}, Draw(1, 2, rows))
    torch.testing.assert_close(mixed["target"].sum(1), torch.ones(8))
    assert torch.equal(mixed["label"], labels)
    # The two outermost meet whatever is between them.
    outer = torch.tensor([0, 7])
    pair = transform({"image": images[outer], "label": labels[outer]}, Draw(1, 2, rows[outer]))
    assert torch.equal(pair["image"], mixed["image"][outer]) and torch.equal(pair["target"], mixed["target"][outer])
    alone = transform({"image": images[:1], "label": labels[:1]}, Draw(1, 2, rows[:1]))
    torch.testing.assert_close(alone["image"], images[:1].float())
    assert alone["target"].tolist() == [[1.0, 0.0, 0.0]]


def test_a_preset_sets_what_is_not_said() -> None:
    assert Augment(preset="none") == Augment(preset="none", mirror=False)
    light = Augment(preset="light", rotate=20)
    assert light.rotate == 20 and light.crop == Augment(preset="light").crop < 1
    assert Augment.model_validate(light.model_dump()) == light
    assert Augment(preset="strong").mixes and not light.mixes
