"""Shapes, formulas, parameters and multiply-adds of a network's layers, held against PyTorch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from flambeau.models.compact import compact
from flambeau.models.inspection import layers, totals
from flambeau.models.lenet import lenet
from flambeau.models.mlp import mlp
from flambeau.models.tutorial import tutorial_cifar10

FACTS = {"classes": list("abcdefghij"), "size": [32, 32], "channels": 3}


def counted_by_pytorch(network: nn.Module, example: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(example)
    # Its flops count a multiplication and an addition as two.
    return int(counter.get_total_flops()) // 2


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (mlp(FACTS), (1, 3, 32, 32)),
        (lenet(FACTS), (1, 3, 32, 32)),
        (tutorial_cifar10(FACTS), (1, 3, 32, 32)),
        (compact(FACTS, width=4), (1, 3, 32, 32)),
        (nn.Conv2d(4, 8, (3, 5), stride=2, padding=(1, 2), groups=2, bias=False), (1, 4, 17, 30)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (1, 4, 9, 7)),
        (nn.Conv1d(3, 5, 3, dilation=2), (1, 3, 20)),
        (nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 2)), (1, 7, 6)),
    ],
)
def test_multiply_adds_and_parameters_agree_with_pytorch(network: nn.Module, shape: tuple[int, ...]) -> None:
    example = torch.randn(shape)
    rows = layers(network, example)
    sums = totals(network, rows)
    assert sums.multiply_adds == counted_by_pytorch(network, example)
    assert sums.parameters == sum(p.numel() for p in network.parameters()) == sum(row.parameters for row in rows)
    assert sums.uncounted == ()


@pytest.mark.parametrize(
    ("layer", "shape", "formula"),
    [
        (nn.Conv2d(1, 6, 5, padding=2), (1, 1, 28, 28), "(28 + 2·2 − 5) / 1 + 1 = 28"),
        (nn.Conv2d(1, 6, 5), (1, 1, 28, 28), "(28 − 5) / 1 + 1 = 24"),
        (nn.Conv2d(1, 6, 3, dilation=2), (1, 1, 28, 28), "(28 − (2·(3 − 1) + 1)) / 1 + 1 = 24"),
        (nn.Conv2d(1, 6, 3, padding="same"), (1, 1, 9, 7), "padding 'same' gives 9 x 7"),
        (nn.Conv2d(1, 6, 5), (1, 1, 28, 20), "height (28 − 5) / 1 + 1 = 24; width (20 − 5) / 1 + 1 = 16"),
        (nn.MaxPool2d(2), (1, 1, 27, 27), "⌊(27 − 2) / 2⌋ + 1 = 13"),
        (nn.MaxPool2d(2, ceil_mode=True), (1, 1, 27, 27), "⌈(27 − 2) / 2⌉ + 1 = 14"),
        (
            nn.MaxPool2d(2, stride=3, padding=1, ceil_mode=True),
            (1, 1, 5, 5),
            "⌈(5 + 2·1 − 2) / 3⌉ = 2 (no window starts in the padding)",
        ),
        (nn.AvgPool2d(3, stride=2, padding=1), (1, 1, 9, 9), "(9 + 2·1 − 3) / 2 + 1 = 5"),
        (nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1), (1, 1, 9, 9), "(9 − 1)·2 − 2·1 + 3 = 17"),
        (nn.AdaptiveAvgPool2d(2), (1, 1, 9, 9), "2 x 2 from maps of any size"),
        (nn.Flatten(), (1, 16, 5, 5), "16·5·5 = 400"),
        (nn.Linear(400, 120), (1, 400), "400 features in, 120 out"),
        (nn.ReLU(), (1, 400), "unchanged"),
        (nn.BatchNorm2d(3), (1, 3, 4, 4), "unchanged"),
        (nn.Upsample(scale_factor=2), (1, 3, 4, 4), ""),
    ],
)
def test_formulas_carry_the_numbers(layer: nn.Module, shape: tuple[int, ...], formula: str) -> None:
    [row] = layers(layer, torch.randn(shape))
    assert row.formula == formula
    assert row.input == shape and row.output == tuple(layer.eval()(torch.randn(shape)).shape)


def test_rows_come_in_the_order_of_running_with_the_names_of_the_weights() -> None:
    rows = layers(tutorial_cifar10(FACTS), torch.zeros(1, 3, 32, 32))
    assert [row.name for row in rows if row.parameters] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert [row.output for row in rows if row.type == "MaxPool2d"] == [(1, 6, 14, 14), (1, 16, 5, 5)]
    assert rows[0].arguments == "3, 6, kernel_size=(5, 5), stride=(1, 1)"


class Scale(nn.Module):
    """A module that owns a parameter and has a child, which runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.child = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.child(self.child(x * self.scale))
        return y


def test_shared_layers_count_their_parameters_once_and_unknown_ones_are_named() -> None:
    network = nn.Sequential(Scale())
    rows = layers(network, torch.zeros(1, 3))
    assert [(row.name, row.parameters, row.multiply_adds) for row in rows] == [
        ("0.child", 12, 9),
        ("0.child", 0, 9),
        ("0", 3, None),
    ]
    sums = totals(network, rows)
    assert (sums.parameters, sums.bytes, sums.multiply_adds, sums.uncounted) == (15, 60, 18, ("0",))


def test_inspection_leaves_the_network_as_it_was() -> None:
    network = compact(FACTS, width=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    layers(network, torch.randn(1, 3, 32, 32))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
