"""What is inside a network to look at: the filters of its first layer, and what each layer makes of an example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flambeau.models.fit import dry_run
from flambeau.models.hooks import leaves_of, watched


@dataclass(frozen=True, slots=True)
class Activation:
    """What a layer made of an example.

    Attributes:
        name: The layer's path in the network.
        kind: Its class.
        values: Its output for the first example, without the batch dimension.
    """

    name: str
    kind: str
    values: Tensor


def activations(network: nn.Module, example: Callable[[], object]) -> list[Activation]:
    """The outputs of the layers of a network for one example, in the order in which they ran.

    Layers are modules without children; of one that runs several times the last output counts. The network is left as
    it was.

    Args:
        network: Any module.
        example: Sends one example through the network, or through a model that it is a part of.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> [(a.name, tuple(a.values.shape)) for a in activations(network, lambda: network(torch.ones(1, 2)))]
        [('0', (3,)), ('1', (3,))]
    """
    found: dict[str, Activation] = {}

    def keep(name: str, module: nn.Module, inputs: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor) and first.dim() >= 2 and first.is_floating_point():
            found.pop(name, None)
            # A copy: a later layer may work in place.
            found[name] = Activation(name, type(module).__name__, first[0].detach().to("cpu", copy=True))

    with watched(leaves_of(network), keep), dry_run(network):
        example()
    return list(found.values())


def first_filters(network: nn.Module, picture: Sequence[int]) -> tuple[str, Tensor] | None:
    """What the first layer with weights looks for, as pictures.

    Args:
        network: Its first layer with weights is a convolution over 1 or 3 channels, or a linear layer over all pixels.
        picture: Channels, height and width of what the network takes.

    Returns:
        The layer's name and its weights ``(N, C, h, w)`` with C of 1 or 3; or None where they are no pictures.

    Example:
        >>> name, filters = first_filters(nn.Sequential(nn.Conv2d(3, 8, 5)), (3, 32, 32))
        >>> filters.shape
        torch.Size([8, 3, 5, 5])
    """
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.dim() < 2:
            continue
        shape = tuple(picture)
        if isinstance(module, nn.Conv2d) and weight.shape[1] in (1, 3) and min(weight.shape[2:]) > 1:
            return name, weight.detach().cpu()
        if isinstance(module, nn.Linear) and len(shape) == 3 and shape[0] in (1, 3):
            channels, height, width = shape
            if module.in_features == channels * height * width:
                return name, weight.detach().cpu().view(-1, channels, height, width)
        return None
    return None


def as_pictures(values: Tensor) -> Tensor:
    """Values ``(N, C, H, W)`` as pictures, uint8 of the same shape: in each the least is 0 and the greatest 255."""
    flat = values.to(torch.float32).flatten(1)
    least, greatest = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    scaled = (flat - least) / (greatest - least).clamp(min=torch.finfo(torch.float32).tiny)
    return (scaled * 255).round().to(torch.uint8).view(values.shape)
