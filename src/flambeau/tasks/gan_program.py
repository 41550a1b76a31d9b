"""A generator as a graph: noise to pictures as they are stored."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flambeau.columns import Columns
from flambeau.core import Batch, Facts
from flambeau.errors import UsageError
from flambeau.models.fit import dry_run
from flambeau.models.gan import Gan, pixels, scaled
from flambeau.program import Call, Compared, Graph, Port, Program, Wish

Predict = Callable[[nn.Module, Batch], dict[str, Tensor]]


class Drawing(nn.Module):
    """The generator with its pictures as they are stored, uint8 ``(N, H, W, C)``, of noise ``(N, Z)``."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, noise: Tensor) -> tuple[Tensor]:
        return (pixels(self.generator(noise)).permute(0, 2, 3, 1).contiguous(),)


class Called(nn.Module):
    """A generator whose graph is run by a call: pictures in [-1, 1], though in 256 steps only."""

    def __init__(self, call: Call, *, singly: bool) -> None:
        super().__init__()
        self._call, self._singly = call, singly

    def forward(self, noise: Tensor) -> Tensor:
        parts = torch.split(noise, 1) if self._singly else [noise]
        made = torch.cat([self._call("model", {"noise": part})["pictures"] for part in parts])
        return scaled(made.permute(0, 3, 1, 2))


def program(predict: Predict, model: nn.Module, facts: Facts, wish: Wish) -> Program:
    """One graph, the generator: noise to pictures. ``static`` makes one at a time.

    Raises:
        UsageError: Another size of pictures is wanted than the generator makes.
    """
    if not isinstance(model, Gan):
        raise TypeError("Only a model that this task built has a generator.")
    rows, size = 1 if wish.static else 2, facts["noise"]
    with dry_run(model):
        sides = model.generator(torch.zeros(2, size)).shape[2:]
    if list(sides) != list(facts["size"]):
        raise UsageError("The size is for models that take pictures in, and this one makes them.", where="--size")
    noise = Port("noise", torch.randn(rows, size), (None if wish.static else "N", None), "standard normal numbers")
    pictures = {"pictures": f"uint8 (N, {sides[0]}, {sides[1]}, {facts['channels']})"}
    card = {"front": "noise", "static": wish.static, "noise": size, "answer": {"kind": "pictures"}}

    def run(call: Call, raw: Columns | None, batch: Batch) -> dict[str, Tensor]:
        stand_in = copy.copy(model)
        stand_in._modules = {**model._modules, "generator": Called(call, singly=wish.static)}
        with dry_run(stand_in):
            return predict(stand_in, batch)

    return Program(
        (Graph("model", Drawing(model.generator).eval(), (noise,), pictures),),
        run,
        # Where a number lies half-way between two, either is right.
        (Compared("pictures", within=1.0),),
        card,
        trials=lambda: [("model", {"noise": _noise(n, size)}) for n in ((1,) if wish.static else (1, 3, 16))],
        point=math.inf,
    )


def _noise(rows: int, size: int) -> Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(rows))
