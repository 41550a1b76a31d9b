"""Optimisers by name: each follows its formula, and weight decay spares what it should."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn

from flambeau.engine.muon import orthogonal
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
    assert set(NAMES) == set(FORMULAS) - {"nesterov", "rmsprop with momentum"} | {"muon"}


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(96, 20), nn.Linear(20, 3))


def stepped(model: nn.Module, rule: torch.optim.Optimizer, steps: int = 3) -> nn.Module:
    """The model after some steps on the same data."""
    data = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        rule.zero_grad()
        model(data).square().sum().backward()
        rule.step()
    return model


def test_muon_takes_the_weights_between_the_first_and_the_last() -> None:
    named = list(layers().named_parameters())
    names = {id(parameter): name for name, parameter in named}
    rule = optimizer("muon", lr=0.1, weight_decay=0.1)(named)
    groups = {
        (group["orthogonal"], group["weight_decay"]): [names[id(p)] for p in group["params"]]
        for group in rule.param_groups
    }
    assert groups == {
        (False, 0.1): ["0.weight", "4.weight"],
        (False, 0.0): ["0.bias", "1.bias", "3.bias", "4.bias"],
        (True, 0.1): ["1.weight", "3.weight"],
    }


def test_what_muon_leaves_out_goes_by_adamw() -> None:
    first, second = nn.Linear(8, 4), nn.Linear(8, 4)
    second.load_state_dict(first.state_dict())
    data = torch.randn(16, 8, generator=torch.Generator().manual_seed(2))
    for model, name in ((first, "muon"), (second, "adamw")):
        rule = optimizer(name, lr=0.05, weight_decay=0.1)(list(model.named_parameters()))
        for _ in range(5):
            rule.zero_grad()
            model(data).square().sum().backward()
            rule.step()
    assert torch.allclose(first.weight, second.weight, atol=1e-6)
    assert torch.allclose(first.bias, second.bias, atol=1e-6)


def test_muon_steps_as_that_of_torch() -> None:
    ours, theirs = (torch.nn.Parameter(torch.ones(20, 96)) for _ in range(2))
    ends = [nn.Parameter(torch.zeros(1, 1)) for _ in range(2)]
    mine = optimizer("muon", lr=0.01, weight_decay=0.1)([("first", ends[0]), ("hidden", ours), ("last", ends[1])])
    rule = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for seed in range(3):
        gradient = torch.randn(20, 96, generator=torch.Generator().manual_seed(seed))
        ours.grad, theirs.grad = gradient, gradient.clone()
        mine.step()
        rule.step()
    moved, wanted = ours.detach() - 1, theirs.detach() - 1
    # Theirs counts in bfloat16, which has three digits.
    assert torch.cosine_similarity(moved.flatten(), wanted.flatten(), dim=0) > 0.999
    assert moved.norm() == pytest.approx(wanted.norm().item(), rel=0.02)


@pytest.mark.parametrize("shape", [(6, 36), (36, 6), (5, 5), (1, 9)])
def test_an_orthogonal_update_has_even_singular_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    found = orthogonal(matrix)
    values = torch.linalg.svdvals(found)
    assert found.shape == matrix.shape and values.min() > 0.5 and values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.cosine_similarity(found.flatten(), (left @ right).flatten(), dim=0) > 0.95
    assert orthogonal(torch.zeros(shape)).equal(torch.zeros(shape))


def test_muon_goes_on_from_its_state() -> None:
    through, first = layers(), layers()
    stepped(through, optimizer("muon", lr=0.01)(list(through.named_parameters())), 4)
    rule = optimizer("muon", lr=0.01)(list(first.named_parameters()))
    stepped(first, rule, 2)
    second, again = layers(), None
    second.load_state_dict(first.state_dict())
    again = optimizer("muon", lr=0.01)(list(second.named_parameters()))
    again.load_state_dict(rule.state_dict())
    stepped(second, again, 2)
    assert all(map(torch.equal, second.state_dict().values(), through.state_dict().values()))


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_spares_biases_and_the_schedule_finds_its_base(name: str) -> None:
    weight, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    rule = optimizer(name, lr=0.1, weight_decay=0.5)([("weight", weight), ("bias", bias)])
    weight.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
    rule.step()
    assert bias.equal(torch.ones(2))
    assert (weight < 1).all()
    assert [group["lr"] for group in rule.param_groups] == [0.1, 0.1]


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
