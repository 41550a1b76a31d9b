"""Weights handed on from network to network by name, and networks of which only the last layer learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from flambeau.errors import ModelError


class Frozen(nn.Module):
    """A network without its last layer, kept in evaluation mode and without gradients, and that layer, which learns.

    So what the first part makes of a picture never changes, and needs computing only once.

    Args:
        network: From float32 ``(N, C, H, W)`` to logits ``(N, K)``; its last layer is linear. It is taken apart.

    Attributes:
        backbone: From pictures to features ``(N, F)``.
        head: From features to logits.
        head_name: What the head is called in the network.

    Raises:
        ModelError: The last layer is not linear.

    Example:
        >>> network = Frozen(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)))
        >>> features = network.backbone(torch.zeros(5, 3, 2, 2))
        >>> torch.equal(network(features), network(torch.zeros(5, 3, 2, 2)))
        True
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.head_name = head_of(network)
        head = network.get_submodule(self.head_name)
        if not isinstance(head, nn.Linear):
            raise ModelError(
                "Only a network whose last layer is linear can be frozen.",
                where="model.freeze",
                received=f"{self.head_name}, {type(head).__name__}",
                remedy="Set model.freeze = false, or choose another network, such as resnet18.",
            )
        network.set_submodule(self.head_name, nn.Identity())
        self.backbone = network.requires_grad_(False).eval()
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, K)`` of pictures ``(N, C, H, W)``, or of their features ``(N, F)``."""
        features = images if images.dim() == 2 else self.backbone(images)
        logits: Tensor = self.head(features)
        return logits

    def train(self, mode: bool = True) -> Frozen:
        """Training mode for the last layer alone: the norms of the others keep their statistics."""
        super().train(mode)
        self.backbone.eval()
        return self


def head_of(model: nn.Module) -> str:
    """The name of the last layer with weights, which gives the scores; as it is where nothing is frozen.

    Example:
        >>> head_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.Softmax(1)))
        '2'
    """
    names: list[str] = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return _plain(model, names[-1])


def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model, by the names that they have where nothing is frozen."""
    return {_plain(model, name): value for name, value in model.state_dict().items()}


def _plain(model: nn.Module, name: str) -> str:
    for path, part in model.named_modules():
        if isinstance(part, Frozen):
            prefix = f"{path}." if path else ""
            if name.startswith(f"{prefix}backbone."):
                return prefix + name.removeprefix(f"{prefix}backbone.")
            if name.startswith(f"{prefix}head"):
                return prefix + part.head_name + name.removeprefix(f"{prefix}head")
    return name


@torch.no_grad()
def transfer(model: nn.Module, weights: Mapping[str, Tensor], *, where: object, without: Iterable[str] = ()) -> None:
    """Puts weights into a model by name. What else there is in the weights is left out.

    Args:
        model: Is changed in place, or not at all.
        weights: By the names of :func:`plain_weights`. Counters of batches, which old files lack, may be missing.
        where: Where they come from, for errors.
        without: Layers and buffers that are to stay as they are.

    Raises:
        ModelError: A weight is missing or has another shape; each is named.
    """
    kept = tuple(without)
    wanted = {
        name: value
        for name, value in plain_weights(model).items()
        if not name.startswith(tuple(f"{part}." for part in kept)) and name not in kept
        if name in weights or not name.endswith("num_batches_tracked")
    }
    wrong = [name for name, value in wanted.items() if name not in weights or weights[name].shape != value.shape]
    if wrong:
        told = [
            f"{name} {_by(weights[name])} instead of {_by(wanted[name])}" if name in weights else f"{name} is missing"
            for name in wrong[:5]
        ]
        raise ModelError(
            f"{len(wrong)} of {len(wanted)} weights do not fit the network: {'; '.join(told)}"
            + (f"; and {len(wrong) - 5} more." if len(wrong) > 5 else "."),
            where=where,
            remedy="Use the network, its arguments and the size of pictures that the weights were made with.",
        )
    for name, value in wanted.items():
        value.copy_(weights[name])


def _by(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
