"""The convolutional network of the classic CIFAR-10 introduction, layer for layer."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from flambeau.core import Facts
from flambeau.models.shapes import feature_map

KERNEL = 5
POOL = 2


def tutorial_cifar10(facts: Facts) -> nn.Module:
    """Two 5x5 convolutions with max pooling, three linear layers: 3-6-16 channels, then 400-120-84-10 for CIFAR-10.

    The channels of the picture, the size of the flattened map and the number of classes follow the data. The layers
    that hold weights are made in the tutorial's order with PyTorch's default initialisation.

    Args:
        facts: ``classes``, ``size`` ``[height, width]`` in pixels (16 or more), ``channels``.

    Returns:
        A network from float32 ``(N, C, H, W)`` to logits ``(N, K)``.

    Raises:
        ModelError: When the pictures are too small for a layer; it names the layer and both shapes.

    Example:
        >>> import torch
        >>> network = tutorial_cifar10({"classes": list("abc"), "size": [32, 32], "channels": 3})
        >>> network(torch.zeros(5, 3, 32, 32)).shape, network.fc1.in_features
        (torch.Size([5, 3]), 400)
    """
    steps = (("conv1", 6, KERNEL, 1), ("pool1", 6, POOL, POOL), ("conv2", 16, KERNEL, 1), ("pool2", 16, POOL, POOL))
    height, width = feature_map("tutorial-cifar10", facts, steps)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(facts["channels"], 6, KERNEL),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(POOL, POOL),
        conv2=nn.Conv2d(6, 16, KERNEL),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(POOL, POOL),
        flatten=nn.Flatten(),
        fc1=nn.Linear(16 * height * width, 120),
        relu3=nn.ReLU(),
        fc2=nn.Linear(120, 84),
        relu4=nn.ReLU(),
        fc3=nn.Linear(84, len(facts["classes"])),
    )
    return nn.Sequential(layers)
