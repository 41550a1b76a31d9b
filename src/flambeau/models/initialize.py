"""How the weights of linear and convolutional layers begin, where a recipe wants them to begin otherwise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)

RULES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "kaiming-normal": lambda weight, std: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "kaiming-uniform": lambda weight, std: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "xavier-normal": lambda weight, std: nn.init.xavier_normal_(weight),
    "xavier-uniform": lambda weight, std: nn.init.xavier_uniform_(weight),
    "lecun-normal": lambda weight, std: nn.init.kaiming_normal_(weight, nonlinearity="linear"),
    "orthogonal": lambda weight, std: nn.init.orthogonal_(weight),
    "truncated-normal": lambda weight, std: nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std),
}


@torch.no_grad()
def initialize(network: nn.Module, rule: str, std: float = 0.02) -> int:
    """Draws the weights of all linear and convolutional layers anew, and sets their biases to 0.

    Embeddings, recurrent layers and norms are left as they began, and so is a weight that two layers share with
    something else than such a layer.

    Args:
        network: Is changed in place.
        rule: A name in :data:`RULES`. Kaiming's is for ReLU: variance 2 / inputs (He et al. 2015); Xavier's is for
            activations that are linear around 0: variance 2 / (inputs + outputs) (Glorot and Bengio 2010); LeCun's,
            1 / inputs, is for SELU.
        std: The deviation of ``truncated-normal``, which is cut off at twice that.

    Returns:
        How many weights there were.

    Example:
        >>> initialize(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), "xavier-uniform")
        2
    """
    taken = {
        id(parameter)
        for module in network.modules()
        if not isinstance(module, LAYERS)
        for parameter in module.parameters(recurse=False)
    }
    count = 0
    for module in network.modules():
        if isinstance(module, LAYERS) and id(module.weight) not in taken:
            RULES[rule](module.weight, std)
            taken.add(id(module.weight))
            count += 1
            if module.bias is not None:
                module.bias.zero_()
    return count
