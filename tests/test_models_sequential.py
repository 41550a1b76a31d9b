"""A network written as a list of tables."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import torch
from torch import nn

from flambeau.errors import ModelError, RecipeError
from flambeau.models.classifier import check_fit
from flambeau.models.sequential import check_layers, layer_types, sequential

FACTS = {"classes": list("abcd"), "size": [28, 20], "channels": 1}

LENET = """
[[layers]]
name = "conv1"
type = "Conv2d"
out_channels = 6
kernel_size = [5, 5]
[[layers]]
type = "BatchNorm2d"
[[layers]]
type = "GroupNorm"
num_groups = 2
[[layers]]
name = "act"
type = "ReLU"
[[layers]]
type = "MaxPool2d"
kernel_size = 2
[[layers]]
type = "Flatten"
[[layers]]
type = "LayerNorm"
[[layers]]
name = "head"
type = "Linear"
out_features = "classes"
"""


def test_input_sizes_are_worked_out_and_names_kept() -> None:
    network = sequential(FACTS, layers=tomllib.loads(LENET)["layers"])
    check_fit(network, FACTS)
    assert [name for name, _ in network.named_children()] == ["conv1", "1", "2", "act", "4", "5", "6", "head"]
    assert network.get_submodule("1").num_features == 6
    assert network.get_submodule("2").num_channels == 6
    assert network.get_submodule("6").normalized_shape == (6 * 12 * 8,)
    assert network.get_submodule("head").in_features == 6 * 12 * 8
    assert network.get_submodule("head").out_features == 4


def test_weights_under_a_seed_equal_those_of_the_sequence_by_hand() -> None:
    layers: list[Any] = [
        {"type": "Conv2d", "out_channels": 3, "kernel_size": 3},
        {"type": "Dropout", "p": 0.5},
        {"type": "Flatten"},
        {"type": "Linear", "out_features": "classes"},
    ]
    torch.manual_seed(3)
    ours = sequential(FACTS, layers=layers)
    torch.manual_seed(3)
    theirs = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(3 * 26 * 18, 4))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert all(parameter.device.type == "cpu" for parameter in ours.parameters())


def test_all_mistakes_are_reported_together() -> None:
    layers: list[Any] = [
        {"name": "conv1", "type": "conv2d", "out_channels": 6},
        {"name": "conv1", "type": "Linear", "out_featurs": 3},
        {"name": "a.b", "type": "Flatten"},
        {"type": "CrossEntropyLoss"},
        {"name": "x"},
        {"name": "append", "type": "ReLU"},
        "Linear",
    ]
    with pytest.raises(RecipeError) as caught:
        sequential(FACTS, layers=layers)
    text = str(caught.value)
    for part in (
        "model.layers[0] (conv1): 'conv2d' is not a layer",
        "Did you mean Conv2d?",
        "'conv1' is taken",
        "Did you mean out_features or in_features?",
        "the argument 'out_features' is missing",
        "model.layers[2].name: 'a.b'",
        "'CrossEntropyLoss' is not a layer",
        "model.layers[4] (x): the layer needs a type",
        "'append' cannot name a layer",
        "model.layers[6]: a table",
    ):
        assert part in text


@pytest.mark.parametrize("layers", [[], None, "Linear", {"type": "Linear"}])
def test_something_else_than_a_list_of_tables_is_a_mistake(layers: object) -> None:
    assert check_layers(layers) == ["model.layers: a list of tables is needed, one [[model.layers]] for each layer"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"type": "Linear", "in_features": 5, "out_features": 3}], "layer 0 .*cannot take"),
        ([{"type": "Conv2d", "out_channels": 2, "kernel_size": 99}], "layer 0 .*cannot take"),
        ([{"name": "act", "type": "ReLU"}, {"name": "c", "type": "Dropout", "p": 3}], "layer c .*cannot be made"),
        ([{"name": "g", "type": "GroupNorm", "num_groups": 2}], "layer g .*cannot be made"),
    ],
)
def test_what_cannot_be_made_names_the_layer(layers: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        sequential(FACTS, layers=layers)


def test_only_layers_may_stand_in_a_sequence() -> None:
    types = layer_types()
    assert {"Conv2d", "Linear", "MaxPool2d", "Dropout2d", "Unflatten", "LSTM"} & set(types) == {
        "Conv2d",
        "Linear",
        "MaxPool2d",
        "Dropout2d",
        "Unflatten",
    }
    assert all(issubclass(kind, nn.Module) and kind.__module__.startswith("torch.nn") for kind in types.values())
    assert not [name for name in types if name.endswith("Loss") or "Lazy" in name or "Container" in name]
