"""Weights as PyTorch's own ``.pth`` file, for use with plain PyTorch."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flambeau import files
from flambeau.model import Model


def export(model: Model, out: Path) -> dict[str, Any]:
    """Writes the network's state dict; ``torch.load(out, weights_only=True)`` reads it.

    The names are those of the bare network. What normalises its input is not among them, for plain networks have no
    place for it; it is returned in words and numbers instead.

    Returns:
        ``out``, ``tensors`` (how many), ``preprocessing`` (size, channels, mean and std of pixels in [0, 1]).
    """
    inner = getattr(model.network, "network", None)
    network = inner if isinstance(inner, nn.Module) else model.network
    weights = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    files.write(out, buffer.getvalue())
    wanted = ("size", "channels", "mean", "std", "classes")
    preprocessing = {name: model.facts[name] for name in wanted if name in model.facts}
    return {"out": str(out), "tensors": len(weights), "preprocessing": preprocessing}
