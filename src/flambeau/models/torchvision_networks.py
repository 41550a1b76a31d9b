"""The classification networks of torchvision by the names of their builders: AlexNet, VGG, GoogLeNet, ResNet, ViT, ...

As published they take colour pictures of about 224x224 pixels and give 1,000 scores. Here the first convolution takes
the pictures' channels, the last layer gives a score for each class, and small pictures get a small stem: where the
published network would shrink 28x28 pixels to one or none, its first parts keep the size instead.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from flambeau.core import Facts
from flambeau.errors import ModelError, did_you_mean
from flambeau.models.frozen import Frozen, head_of, transfer
from flambeau.models.published import NOT_STATED, TORCHVISION
from flambeau.models.weights import Weights, fetch, read

STEMS = ("auto", "small", "standard")

PATCH = 4
"""The side of a ViT's patches in its small stem, as is usual for pictures of 32x32."""

Make = Callable[[Callable[..., nn.Module], Facts, bool], nn.Module]
"""Calls a builder of torchvision for the data, with a small stem or without; the channels are seen to elsewhere."""

Convert = Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]
"""Published weights under the names, and in the shapes, of a network that was built."""


@dataclass(frozen=True, slots=True)
class Network:
    """One of torchvision's classification networks, fitted to the pictures and the classes.

    Attributes:
        name: That of the builder in ``torchvision.models``.

    Example:
        >>> network = Network("resnet18")({"classes": ["cat", "dog"], "size": [28, 28], "channels": 1})
        >>> network(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 2])
    """

    name: str

    def __call__(self, facts: Facts, *, stem: str = "auto", pretrained: bool | str = False) -> nn.Module:
        """Builds it with random weights, as torchvision draws them.

        Args:
            facts: ``classes``, ``size`` ``[height, width]`` in pixels, ``channels``.
            stem: ``standard`` as published, ``small`` for small pictures; ``auto`` is small where a side of the
                pictures is below 64 pixels (75 for ``inception_v3``) and no weights are asked for.
            pretrained: Training begins from torchvision's weights: its default ones, or those of this name there.

        Returns:
            A network from float32 ``(N, C, H, W)`` to logits ``(N, K)``.

        Raises:
            ModelError: An argument is out of range, or the network cannot be built for pictures of this size.
        """
        import torchvision

        family = family_of(self.name)
        small = self.settle(facts, {"stem": stem, "pretrained": pretrained})["stem"] == "small"
        if pretrained and small:
            raise ModelError(
                "The weights are for the standard stem.",
                where="model.stem",
                received="small",
                remedy="Leave out model.stem or model.pretrained.",
            )
        network = family.make(torchvision.models.get_model_builder(self.name), facts, small)
        _set_stem(network, facts["channels"], family.keep if small else ())
        if pretrained and facts["channels"] != 3:
            raise ModelError(
                "The weights are for colour pictures.",
                where=self.name,
                received=f"{facts['channels']} channels",
                remedy="Leave images.channels at auto, by which grey pictures become colour pictures.",
            )
        return network

    def listed(self) -> dict[str, Any]:
        """What it is, for a list of networks."""
        found = TORCHVISION[self.name]
        weights = {"publisher": "torchvision", "side": found.side, "megabytes": found.megabytes}
        return {
            "about": f"Of torchvision: {family_of(self.name).paper}.",
            "parameters": found.parameters,
            "weights": {**weights, "licence": found.licence},
        }

    def settle(self, facts: Facts, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments with what ``auto`` means for the data, and the name of the weights."""
        stem, entry = arguments.get("stem", "auto"), self._entry(arguments)
        if stem not in STEMS:
            raise ModelError(
                f"{self.name} has no such stem; {did_you_mean(str(stem), STEMS)}",
                where="model.stem",
                received=repr(stem),
            )
        if stem == "auto":
            small = min(facts["size"]) < family_of(self.name).below and entry is None
            stem = "small" if small else "standard"
        return {**arguments, "stem": stem, **({} if entry is None else {"pretrained": entry.name})}

    def inputs(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Size and normalisation of the pictures that the weights asked for are meant for."""
        entry = self._entry(arguments)
        if entry is None:
            return {}
        meant = entry.transforms()
        half = family_of(self.name).half
        mean, std = ([0.5] * 3, [0.5] * 3) if half else (list(meant.mean), list(meant.std))
        return {"size": [*meant.crop_size, *meant.crop_size][:2], "channels": 3, "mean": mean, "std": std}

    def fetch(self, arguments: Mapping[str, Any]) -> str | None:
        """Fetches the weights asked for into the cache, unless they are there; says which they are."""
        found = self.weights(arguments)
        if found is None:
            return None
        fetch(found)
        return f"{found.name} of torchvision, {found.path}; licence of the weights: {found.licence}"

    def begin(self, network: nn.Module, facts: Facts, arguments: Mapping[str, Any]) -> None:
        """Puts the weights asked for into a network that this built, all but the last layer's."""
        found = self.weights(arguments)
        if found is None:
            return
        inner = network.network if isinstance(network, Frozen) else network
        tensors = family_of(self.name).convert(inner, read(found))
        transfer(network, tensors, where=found.path, without=[head_of(network)])

    def weights(self, arguments: Mapping[str, Any]) -> Weights | None:
        """The file of the weights asked for."""
        entry = self._entry(arguments)
        if entry is None:
            return None
        licence = entry.meta.get("license", NOT_STATED)
        return Weights(f"{type(entry).__name__}.{entry.name}", entry.url, entry.meta["_file_size"], licence)

    def _entry(self, arguments: Mapping[str, Any]) -> Any:
        """torchvision's own entry of the weights asked for, or None."""
        asked = arguments.get("pretrained", False)
        if asked is False:
            return None
        import torchvision

        known = torchvision.models.get_model_weights(self.name)
        # Some weights are of a part of the network only; they have no classes.
        names = [entry.name for entry in known if entry.meta["categories"]]
        if asked is not True and asked not in names:
            raise ModelError(
                f"torchvision has no such weights for {self.name}; {did_you_mean(str(asked), names)}",
                where="model.pretrained",
                received=repr(asked),
            )
        return known.DEFAULT if asked is True else known[asked]


def __getattr__(name: str) -> Network:
    if name in TORCHVISION:
        return Network(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _plain(**arguments: Any) -> Make:
    """Calls the builder with the number of classes and these arguments."""
    return lambda made_by, facts, small: made_by(num_classes=len(facts["classes"]), **arguments)


_PLAIN = _plain()


def _vgg(made_by: Callable[..., nn.Module], facts: Facts, small: bool) -> nn.Module:
    """In a small stem the first pooling is left out, and the head sees one pixel.

    The published head sees 7x7. What is left of a small picture would be copied to as many pixels, each with its own
    2,097,152 weights in the first linear layer.
    """
    network: nn.Module = made_by(num_classes=len(facts["classes"]))
    if small:
        pool = next(name for name, layer in network.named_modules() if isinstance(layer, nn.MaxPool2d))
        network.set_submodule(pool, nn.Identity())
        network.set_submodule("avgpool", nn.AdaptiveAvgPool2d(1))
        network.set_submodule("classifier.0", nn.Linear(512, 4096))
    return network


def _densenet_names(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published files are older than the names of today's layers: ``norm.1`` has become ``norm1``."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2", name): value for name, value in weights.items()}


def _vit_positions(network: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Positions for pictures of another size than the published, between those of the published."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    found: dict[str, Tensor] = interpolate_embeddings(network.image_size, network.patch_size, OrderedDict(weights))
    return found


def _vit(made_by: Callable[..., nn.Module], facts: Facts, small: bool) -> nn.Module:
    """The positions are learnt for one size of square pictures; a small stem cuts them into patches of 4x4."""
    published = int(made_by.__name__.rpartition("_")[2])
    patch = PATCH if small else published
    height, width = facts["size"]
    if height != width or height % patch:
        raise _wrong_size(made_by.__name__, facts, "square pictures", lambda small: PATCH if small else published)
    # The builder does not let its patches be changed; from so large pictures it makes the same number of them.
    vit: Any = made_by(num_classes=len(facts["classes"]), image_size=height // patch * published)
    if small:
        vit.image_size, vit.patch_size = height, patch
        vit.conv_proj = nn.Conv2d(facts["channels"], vit.hidden_dim, patch, patch)
    network: nn.Module = vit
    return network


def _maxvit(made_by: Callable[..., nn.Module], facts: Facts, small: bool) -> nn.Module:
    """Its windows divide the maps of every stage: at 224x224 pixels they are 7x7, at others as large as can be."""
    from torchvision.models.maxvit import MaxVit

    # To what comes after a small stem, which keeps the size, the pictures look twice as large.
    height, width = (side * (2 if small else 1) for side in facts["size"])
    if height % 32 or width % 32:
        raise _wrong_size(made_by.__name__, facts, "pictures", lambda small: 16 if small else 32)
    network: nn.Module = MaxVit(
        input_size=(height, width),
        partition_size=gcd(height, width) // 32,
        stem_channels=64,
        block_channels=[64, 128, 256, 512],
        block_layers=[2, 2, 5, 2],
        head_dim=32,
        stochastic_depth_prob=0.2,
        num_classes=len(facts["classes"]),
    )
    return network


def _wrong_size(name: str, facts: Facts, kind: str, step: Callable[[bool], int]) -> ModelError:
    """What to say where both sides must be divisible by a step, which is another one in a small stem."""
    (height, width), below = facts["size"], family_of(name).below
    longest = max(height, width)
    fitting = [side for side in range(PATCH, 2 * longest + below) if side % step(side < below) == 0]
    nearest = min(fitting, key=lambda side: abs(side - longest))
    forced = height == width == nearest
    return ModelError(
        f"{name} cannot be built for pictures of this size.",
        where=name,
        expected=f"{kind} with sides divisible by {step(False)}, or by {step(True)} with a small stem",
        received=f"pictures of {height} x {width} pixels",
        remedy=('Set model.stem = "auto"' if forced else f"Set images.size = {nearest}")
        + ", or choose a network that takes any size, such as resnet18.",
    )


class _NumbersOnProcessor(TorchFunctionMode):
    """Keeps tensors that a constructor calculates with off the meta device, which holds no values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return func(*args, **(kwargs | {"device": "cpu"} if func in (torch.arange, torch.tensor) else kwargs))


def _regnet(made_by: Callable[..., nn.Module], facts: Facts, small: bool) -> nn.Module:
    """The widths of a RegNet follow from a formula, which torchvision evaluates with tensors."""
    with _NumbersOnProcessor():
        return made_by(num_classes=len(facts["classes"]))


@dataclass(frozen=True, slots=True)
class Family:
    """How networks that are built alike are made to fit.

    Attributes:
        paper: Where they were published.
        keep: The parts that a small stem keeps at the pictures' full size: their convolutions get a stride of 1, that
            of the first layer a kernel of 3x3 at most, and pooling is left out.
        below: ``stem = "auto"`` is small where a side of the pictures is below so many pixels.
        make: Calls the builder.
        convert: Makes published weights fit what was built.
        half: With weights torchvision sets ``transform_input``, which turns its usual normalisation into one with mean
            and standard deviation of 0.5.
    """

    paper: str
    keep: tuple[str, ...] = ()
    below: int = 64
    make: Make = _PLAIN
    convert: Convert = lambda network, weights: weights
    half: bool = False


# Auxiliary heads are left out: they were to help gradients through networks that had no batch normalisation, which
# torchvision's have, and "Rethinking the Inception Architecture" found that the lower one changes nothing. Where
# torchvision would draw the weights otherwise in future, it is told to draw them as it always has.
_NO_AUXILIARY = _plain(aux_logits=False, init_weights=True)

_RESNET_STEM = ("conv1", "maxpool")

FAMILIES = {
    "alexnet": Family("Krizhevsky 2014, arXiv 1404.5997", ("features.0", "features.2")),
    "convnext": Family("Liu et al. 2022, arXiv 2201.03545", ("features.0",)),
    "densenet": Family(
        "Huang et al. 2017, arXiv 1608.06993", ("features.conv0", "features.pool0"), convert=_densenet_names
    ),
    "efficientnet_b": Family("Tan and Le 2019, arXiv 1905.11946", ("features.0", "features.2")),
    "efficientnet_v2": Family("Tan and Le 2021, arXiv 2104.00298", ("features.0", "features.2")),
    "googlenet": Family("Szegedy et al. 2015, arXiv 1409.4842", ("conv1", "maxpool1"), make=_NO_AUXILIARY, half=True),
    "inception": Family(
        "Szegedy et al. 2016, arXiv 1512.00567",
        ("Conv2d_1a_3x3", "maxpool1", "maxpool2"),
        below=75,
        make=_NO_AUXILIARY,
        half=True,
    ),
    "maxvit": Family("Tu et al. 2022, arXiv 2204.01697", ("stem",), make=_maxvit),
    "mnasnet": Family("Tan et al. 2019, arXiv 1807.11626", ("layers.0", "layers.8")),
    "mobilenet_v2": Family("Sandler et al. 2018, arXiv 1801.04381", ("features.0", "features.2")),
    "mobilenet_v3_large": Family("Howard et al. 2019, arXiv 1905.02244", ("features.0", "features.2")),
    "mobilenet_v3_small": Family("Howard et al. 2019, arXiv 1905.02244", ("features.0", "features.1")),
    "regnet": Family("Radosavovic et al. 2020, arXiv 2003.13678", ("stem", "trunk_output.block1"), make=_regnet),
    "resnet": Family("He et al. 2016, arXiv 1512.03385", _RESNET_STEM),
    "resnext": Family("Xie et al. 2017, arXiv 1611.05431", _RESNET_STEM),
    "shufflenet": Family("Ma et al. 2018, arXiv 1807.11164", ("conv1", "maxpool")),
    "squeezenet": Family("Iandola et al. 2016, arXiv 1602.07360", ("features.0", "features.2")),
    "swin_v2": Family("Liu et al. 2022, arXiv 2111.09883", ("features.0",)),
    "swin": Family("Liu et al. 2021, arXiv 2103.14030", ("features.0",)),
    "vgg": Family("Simonyan and Zisserman 2015, arXiv 1409.1556", make=_vgg),
    "vit": Family("Dosovitskiy et al. 2021, arXiv 2010.11929", make=_vit, convert=_vit_positions),
    "wide_resnet": Family("Zagoruyko and Komodakis 2016, arXiv 1605.07146", _RESNET_STEM),
}
"""By the beginning of the names; the first that fits. Most halve a picture five times, and a small stem leaves out two
of these: 32x32 pixels end as 4x4. Saved models are built anew by this table, so an entry does not change."""


def family_of(name: str) -> Family:
    """The family of a network of torchvision."""
    return next(family for beginning, family in FAMILIES.items() if name.startswith(beginning))


def _set_stem(network: nn.Module, channels: int, keep: Iterable[str]) -> None:
    """Gives the first convolution its channels, and lets the parts named keep the size of what they get."""
    first: Any
    name, first = next((name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d))
    kernel, padding = first.kernel_size, first.padding
    if any(name.startswith(part) for part in keep) and max(kernel) > 3:
        kernel, padding = (3, 3), (1, 1)
    if (channels, kernel) != (first.in_channels, first.kernel_size):
        bias = first.bias is not None
        network.set_submodule(name, nn.Conv2d(channels, first.out_channels, kernel, first.stride, padding, bias=bias))
    for part in keep:
        for layer in network.get_submodule(part).modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
        if isinstance(network.get_submodule(part), nn.MaxPool2d):
            network.set_submodule(part, nn.Identity())
