"""Grad-CAM: it points at what decided, and leaves the network alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from flambeau.models.gradcam import grad_cam


class BrightSide(nn.Module):
    """Class 0 is what is bright on the left, class 1 on the right; known by hand, so that the answer is known too."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.bright = nn.Conv2d(1, 2, 1)
        self.act = nn.ReLU(inplace)
        with torch.no_grad():
            self.bright.weight.fill_(1.0)
            self.bright.bias.fill_(-100.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.act(self.bright(images))
        half = images.shape[3] // 2
        return torch.stack([maps[:, 0, :, :half].sum((1, 2)), maps[:, 1, :, half:].sum((1, 2))], 1)


@pytest.mark.parametrize("inplace", [False, True])
def test_the_heat_lies_on_what_spoke_for_the_class(inplace: bool) -> None:
    picture = torch.zeros(1, 1, 12, 12, dtype=torch.uint8)
    picture[0, 0, 3, 8] = 255
    heat = grad_cam(BrightSide(inplace), picture, torch.tensor([1]))
    assert heat is not None
    assert divmod(int(heat.flatten().argmax()), 12) == (3, 8)
    assert heat.max() == 1
    assert heat[0, :, :6].max() == 0


def test_nothing_spoke_for_the_class_gives_zeros() -> None:
    heat = grad_cam(BrightSide(), torch.zeros(2, 1, 12, 12), torch.tensor([0, 1]))
    assert heat is not None
    assert heat.eq(0).all()


def test_a_network_without_maps_has_no_answer() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    assert grad_cam(network, torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64)) is None


def test_the_last_map_with_places_is_taken_and_the_network_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pictures = torch.randint(0, 256, (3, 3, 20, 16), dtype=torch.uint8)
    state = torch.get_rng_state()
    heat = grad_cam(network, pictures, torch.tensor([0, 1, 1]))
    assert heat is not None
    assert heat.shape == (3, 20, 16)
    assert network.training
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in network.parameters())
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert torch.get_rng_state().equal(state)
