"""Weights that begin as a recipe says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

import flambeau
from flambeau.core import Record, State
from flambeau.models.initialize import RULES, initialize
from flambeau.recipe import InitialPart


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 5), nn.BatchNorm2d(32), nn.Flatten(), nn.Linear(400, 300), nn.Linear(300, 300, bias=False)
    )


def test_the_recipe_knows_every_rule() -> None:
    assert set(get_args(InitialPart.model_fields["name"].annotation)) == {"default", *RULES}


DEVIATIONS = {
    "kaiming-normal": math.sqrt(2 / 400),
    "kaiming-uniform": math.sqrt(2 / 400),
    "xavier-normal": math.sqrt(2 / 700),
    "xavier-uniform": math.sqrt(2 / 700),
    "lecun-normal": math.sqrt(1 / 400),
    "orthogonal": 1 / math.sqrt(400),
    "truncated-normal": 0.88 * 0.1,
}


@pytest.mark.parametrize("rule", RULES)
def test_weights_have_the_deviation_of_their_rule(rule: str) -> None:
    made = network()
    made[1].weight.data.fill_(3.0)
    assert initialize(made, rule, 0.1) == 3
    weight = made[3].weight.detach()
    assert weight.std().item() == pytest.approx(DEVIATIONS[rule], rel=0.03)
    assert abs(weight.mean().item()) < 0.002
    assert made[0].bias.eq(0).all() and made[3].bias.eq(0).all()
    assert made[1].weight.eq(3.0).all(), "A norm keeps its scale."


def test_orthogonal_weights_are_and_truncated_ones_end() -> None:
    made = network()
    initialize(made, "orthogonal")
    square = made[4].weight.detach()
    assert torch.allclose(square @ square.T, torch.eye(300), atol=1e-4)
    initialize(made, "truncated-normal", 0.1)
    assert made[4].weight.abs().max() <= 0.2


def test_a_table_that_is_the_output_layer_too_is_left_alone() -> None:
    table, head = nn.Embedding(7, 4), nn.Linear(4, 7)
    head.weight = table.weight
    before = table.weight.detach().clone()
    assert initialize(nn.Sequential(table, head), "xavier-normal") == 0
    assert table.weight.equal(before)


def test_a_run_begins_so_and_says_so(tmp_path: Path) -> None:
    seen = {}

    def keep(record: Record, state: State) -> None:
        if record.kind == "epoch-start" and not seen:
            seen.update({name: value.clone() for name, value in state.model.state_dict().items()})

    settings = ["model.name=mlp", "initial.name=orthogonal", "train.epochs=1", "log.tensorboard=false"]
    run = flambeau.train("digits", settings=settings, observers=[keep], out=tmp_path / "run", quiet=True)
    matrices = [value for name, value in seen.items() if name.endswith("weight") and value.dim() == 2]
    for matrix in matrices:
        short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        assert torch.allclose(short @ short.T, torch.eye(len(short)), atol=1e-4)
    assert len(matrices) >= 2 and run.recipe.initial.name == "orthogonal"
