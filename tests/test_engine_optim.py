"""Optimisers by name: each follows its formula, and weight decay spares what it should."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn

from flambeau.engine.optim import optimizer
from flambeau.recipe import OptimizerPart, parse
from flambeau.tasks.common import optimizer_checks

NAMES = get_args(OptimizerPart.model_fields["name"].annotation)
GRADIENTS = (1.0, -0.5, 2.0, 0.25)


def path(name: str, start: float = 1.0, **arguments: Any) -> list[float]:
    """Where a single weight goes under the gradients."""
    weight = nn.Parameter(torch.full((1, 1), start, dtype=torch.float64))
    rule = optimizer(name, **arguments)([("weight", weight)])
    found = []
    for gradient in GRADIENTS:
        weight.grad = torch.full_like(weight, gradient)
        rule.step()
        found.append(weight.item())
    return found


def sgd(lr: float = 0.1, momentum: float = 0.9) -> list[float]:
    w, v, found = 1.0, 0.0, []
    for g in GRADIENTS:
        v = momentum * v + g
        w -= lr * v
        found.append(w)
    return found


def nesterov(lr: float = 0.1, momentum: float = 0.9) -> list[float]:
    w, v, found = 1.0, 0.0, []
    for g in GRADIENTS:
        v = momentum * v + g
        w -= lr * (g + momentum * v)
        found.append(w)
    return found


def adagrad(lr: float = 0.1) -> list[float]:
    w, s, found = 1.0, 0.0, []
    for g in GRADIENTS:
        s += g * g
        w -= lr * g / (s**0.5 + 1e-10)
        found.append(w)
    return found


def rmsprop(lr: float = 0.1, momentum: float = 0.0) -> list[float]:
    w, s, v, found = 1.0, 0.0, 0.0, []
    for g in GRADIENTS:
        s = 0.99 * s + 0.01 * g * g
        v = momentum * v + g / (s**0.5 + 1e-8)
        w -= lr * v
        found.append(w)
    return found


def adadelta(lr: float = 1.0) -> list[float]:
    w, s, d, found = 1.0, 0.0, 0.0, []
    for g in GRADIENTS:
        s = 0.9 * s + 0.1 * g * g
        change = ((d + 1e-6) / (s + 1e-6)) ** 0.5 * g
        d = 0.9 * d + 0.1 * change * change
        w -= lr * change
        found.append(w)
    return found


def adam(lr: float = 0.1, decay: float = 0.0) -> list[float]:
    w, m, s, found = 1.0, 0.0, 0.0, []
    for t, g in enumerate(GRADIENTS, start=1):
        w -= lr * decay * w
        m, s = 0.8 * m + 0.2 * g, 0.95 * s + 0.05 * g * g
        w -= lr * (m / (1 - 0.8**t)) / ((s / (1 - 0.95**t)) ** 0.5 + 1e-8)
        found.append(w)
    return found


BETAS = (0.8, 0.95)
FORMULAS = {
    "sgd": (path("sgd", lr=0.1, momentum=0.9), sgd()),
    "nesterov": (path("sgd", lr=0.1, momentum=0.9, nesterov=True), nesterov()),
    "adagrad": (path("adagrad", lr=0.1), adagrad()),
    "adadelta": (path("adadelta", lr=1.0), adadelta()),
    "rmsprop": (path("rmsprop", lr=0.1), rmsprop()),
    "rmsprop with momentum": (path("rmsprop", lr=0.1, momentum=0.5), rmsprop(momentum=0.5)),
    "adam": (path("adam", lr=0.1, betas=BETAS), adam()),
    "adamw": (path("adamw", lr=0.1, betas=BETAS, weight_decay=0.2), adam(decay=0.2)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_rules_follow_their_formulas(name: str) -> None:
    found, wanted = FORMULAS[name]
    assert found == pytest.approx(wanted, rel=1e-9)


def test_every_name_is_tried() -> None:
    assert set(NAMES) == set(FORMULAS) - {"nesterov", "rmsprop with momentum"}


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_spares_biases_and_the_schedule_finds_its_base(name: str) -> None:
    weight, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    rule = optimizer(name, lr=0.1, weight_decay=0.5)([("weight", weight), ("bias", bias)])
    weight.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    rule.step()
    assert bias.equal(torch.ones(2))
    assert (weight < 1).all()
    assert [group["initial_lr"] for group in rule.param_groups] == [0.1, 0.1]


@pytest.mark.parametrize(
    ("part", "mistake"),
    [
        ({"name": "adam", "momentum": 0.9}, "momentum"),
        ({"name": "sgd", "nesterov": True}, "nesterov"),
        ({"name": "rmsprop", "momentum": 0.9, "nesterov": True}, "nesterov"),
        ({"name": "rmsprop", "momentum": 0.9}, None),
        ({"name": "sgd", "momentum": 0.9, "nesterov": True}, None),
    ],
)
def test_what_goes_with_what(part: dict[str, Any], mistake: str | None) -> None:
    found = optimizer_checks(parse({"optimizer": part}))
    assert len(found) == (mistake is not None)
    assert mistake is None or mistake in found[0]
