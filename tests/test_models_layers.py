"""Activations, dropout and normalisation by name: in compact, in mlp, and as layers of a sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from flambeau.errors import ModelError
from flambeau.models.compact import compact
from flambeau.models.layers import ACTIVATIONS, MAP_NORMS, map_norm
from flambeau.models.mlp import mlp
from flambeau.models.sequential import sequential

FACTS = {"classes": ["a", "b", "c"], "size": [12, 12], "channels": 3}


@pytest.mark.parametrize("norm", MAP_NORMS)
@pytest.mark.parametrize("activation", ["gelu", "selu"])
def test_compact_is_made_of_what_is_named(norm: str, activation: str) -> None:
    network = compact(FACTS, width=6, activation=activation, norm=norm)
    logits = network(torch.randn(2, 3, 12, 12))
    logits.sum().backward()
    assert logits.shape == (2, 3) and logits.isfinite().all()
    kinds = {type(module) for module in network.modules()}
    assert ACTIVATIONS[activation] in kinds and nn.ReLU not in kinds and type(map_norm(norm, 6)) in kinds
    biased = {module.bias is not None for module in network.modules() if isinstance(module, nn.Conv2d)}
    assert biased == {norm in ("none", "local-response")}
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_mlp_takes_every_activation(name: str) -> None:
    network = mlp(FACTS, widths=[4], activation=name)
    assert network(torch.randn(2, 3, 12, 12)).shape == (2, 3)


def test_groups_divide_the_channels() -> None:
    assert [map_norm("group", channels).num_groups for channels in (1, 5, 12, 24, 48)] == [1, 5, 6, 8, 8]


@pytest.mark.parametrize("builder", [compact, mlp])
@pytest.mark.parametrize("wrong", [{"activation": "gellu"}, {"norm": "bach"}])
def test_a_misspelt_name_is_suggested(builder: Any, wrong: dict[str, str]) -> None:
    with pytest.raises(ModelError) as caught:
        builder(FACTS, **wrong)
    assert caught.value.where == f"model.{next(iter(wrong))}" and "Did you mean" in str(caught.value.remedy)


NORMS: list[dict[str, Any]] = [
    {"type": "BatchNorm2d"},
    {"type": "GroupNorm", "num_groups": 2},
    {"type": "InstanceNorm2d"},
    {"type": "LayerNorm"},
    {"type": "LocalResponseNorm", "size": 3},
]


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: str(norm["type"]))
def test_a_sequence_takes_every_normalisation_without_its_sizes(norm: dict[str, Any]) -> None:
    layers = [{"type": "Conv2d", "out_channels": 4, "kernel_size": 3}, norm, {"type": "SELU"}, {"type": "AlphaDropout"}]
    layers += [{"type": "Flatten"}, {"type": "Linear", "out_features": "classes"}]
    assert sequential(FACTS, layers=layers)(torch.randn(2, 3, 12, 12)).shape == (2, 3)
