"""Muon: momentum made orthogonal, for the weights between the first layer and the last (Keller Jordan 2024)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that drives singular values towards 1, from "Muon: An optimizer for hidden layers" (2024)."""

ROUNDS = 5

LIKE_ADAM = 0.2
"""An orthogonal update is scaled so that its entries are about as large as Adam's (Liu et al., arXiv 2502.16982)."""


class Muon(torch.optim.Optimizer):
    """Weights of hidden layers by Muon, all others by AdamW, in one optimiser with one learning rate for both.

    PyTorch's own ``torch.optim.Muon`` takes matrices only, and works in bfloat16, which many processors have no
    instructions for: there one step can take a hundred times as long. This one keeps the parameters' own type, and
    takes the filters of convolutions as matrices ``(outputs, inputs · height · width)``.

    Args:
        groups: Groups of parameters; in those with ``orthogonal = True`` every one has two dimensions or more.
        lr: The learning rate.
        momentum: Of the orthogonal groups, in Nesterov's form.
        betas: Of the others.
        weight_decay: Taken off weights by themselves, as AdamW does.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay, "orthogonal": False}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            rule = self._orthogonal if group["orthogonal"] else self._adaptive
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    rule(parameter, parameter.grad, group)

    def _orthogonal(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        mean = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        direction = orthogonal(gradient.lerp(mean, group["momentum"]).flatten(1))
        size = LIKE_ADAM * math.sqrt(max(direction.shape))
        parameter.add_(direction.view_as(parameter), alpha=-group["lr"] * size)

    def _adaptive(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        spread = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(1e-8)
        parameter.addcdiv_(state["mean"], spread, value=-group["lr"] / (1 - first ** state["step"]))


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the nearest matrix whose singular values are all 1, by a few rounds of Newton-Schulz.

    Args:
        matrix: ``(rows, columns)``, of a floating type.

    Returns:
        Of the same shape, with singular values between about 0.7 and 1.2 where the matrix had any.

    Example:
        >>> values = torch.linalg.svdvals(orthogonal(torch.tensor([[3.0, 0.0], [4.0, 5.0]])))
        >>> bool((values > 0.6).all() and (values < 1.3).all())
        True
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    made: Tensor = x.T if tall else x
    return made
