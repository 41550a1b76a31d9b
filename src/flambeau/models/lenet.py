"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition"), with today's layers."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from flambeau.core import Facts
from flambeau.models.shapes import feature_map

KERNEL = 5
POOL = 2
PADDED_BELOW = 32


def lenet(facts: Facts) -> nn.Module:
    """LeNet-5 with ReLU and max pooling: 10 parameter tensors, a first weight of 6x1x5x5 on grey pictures.

    The paper centres 28x28 digits in 32x32 fields; here pictures below 32 pixels get two pixels of padding in the first
    convolution instead, which yields the same maps. The head follows the size of the pictures.

    Args:
        facts: ``classes``, ``size`` ``[height, width]`` in pixels (12 or more), ``channels``.

    Returns:
        A network from float32 ``(N, C, H, W)`` to logits ``(N, K)``.

    Raises:
        ModelError: When the pictures are too small for a layer; it names the layer and both shapes.

    Example:
        >>> network = lenet({"classes": list(range(10)), "size": [28, 28], "channels": 1})
        >>> len(list(network.parameters())), tuple(network.conv1.weight.shape)
        (10, (6, 1, 5, 5))
    """
    padding = 2 if min(facts["size"]) < PADDED_BELOW else 0
    steps = (("conv1", 6, KERNEL, 1), ("pool1", 6, POOL, POOL), ("conv2", 16, KERNEL, 1), ("pool2", 16, POOL, POOL))
    height, width = feature_map("lenet", facts, steps, padding)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(facts["channels"], 6, KERNEL, padding=padding),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(POOL),
        conv2=nn.Conv2d(6, 16, KERNEL),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(POOL),
        flatten=nn.Flatten(),
        fc1=nn.Linear(16 * height * width, 120),
        relu3=nn.ReLU(),
        fc2=nn.Linear(120, 84),
        relu4=nn.ReLU(),
        fc3=nn.Linear(84, len(facts["classes"])),
    )
    return nn.Sequential(layers)
