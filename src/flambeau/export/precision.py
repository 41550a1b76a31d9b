"""Weights stored in half precision: a file of half the size that still computes in float32."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from flambeau.program import Graph, Program


class HalfStored(nn.Module):
    """A module whose float32 weights lie in float16 and are made float32 when it runs.

    Args:
        inner: The module; its own weights are left out.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._inner = (inner,)  # in a tuple, so that its float32 weights are not registered as this module's
        weights = {**dict(inner.named_parameters()), **dict(inner.named_buffers())}
        self._names = {name.replace(".", "/"): name for name, value in weights.items() if _shrinks(value)}
        self._whole = {name.replace(".", "/"): name for name in weights if name not in self._names.values()}
        for key, name in {**self._names, **self._whole}.items():
            value = weights[name].detach()
            self.register_buffer(f"w/{key}", value.half() if key in self._names else value)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the module gives."""
        values = {name: self.get_buffer(f"w/{key}").float() for key, name in self._names.items()}
        values |= {name: self.get_buffer(f"w/{key}") for key, name in self._whole.items()}
        made: tuple[Tensor, ...] = torch.func.functional_call(self._inner[0], values, inputs)
        return made


def _shrinks(value: Tensor) -> bool:
    """Whether a tensor is one of the large ones that half precision is meant for; the few small ones stay exact."""
    return value.dtype == torch.float32 and value.dim() > 1


def in_half(program: Program) -> Program:
    """The program with its weights stored in float16."""
    graphs = tuple(
        Graph(graph.name, HalfStored(graph.module).eval(), graph.inputs, graph.outputs) for graph in program.graphs
    )
    return replace(program, graphs=graphs)
