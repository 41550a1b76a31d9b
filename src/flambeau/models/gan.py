"""Generators of pictures and the discriminators they are trained against, each pair one network."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from flambeau.core import Facts, device_of
from flambeau.errors import ModelError
from flambeau.models.compact import compact
from flambeau.models.fit import dry_run

SMALLEST = 4
"""DCGAN starts from a map whose shorter side has at least so many places, and fewer than twice as many."""

SLOPE = 0.2
"""Of the discriminators' leaky ReLU below zero (Radford et al. 2015)."""

LARGEST = 32
"""Pictures are brought to at most about this side before their features are taken."""

FEATURE_WIDTH = 16


class Adversaries(nn.Module):
    """A generator and a discriminator side by side; what builds a GAN for this task returns one of these, or the like.

    Args:
        generator: From noise ``(N, Z)`` to pictures ``(N, C, H, W)`` in [-1, 1].
        discriminator: From such pictures to logits ``(N,)`` or ``(N, 1)`` of being real.
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator

    def forward(self, noise: Tensor) -> Tensor:
        """Logits of the pictures that are made of noise ``(N, Z)`` being real."""
        logits: Tensor = self.discriminator(self.generator(noise))
        return logits


class Gan(nn.Module):
    """A generator and a discriminator as one network, called with whatever is to be judged.

    Args:
        network: Has a ``generator`` and a ``discriminator`` as :class:`Adversaries` says.
        facts: ``noise`` (Z), ``size``, ``channels``, ``classes``.

    Attributes:
        features: The network by whose features samples and pictures are compared; no part of the training.
        noise: Z.

    Raises:
        ModelError: The network has no such parts, or what they give has other shapes.

    Example:
        >>> facts = {"size": [28, 28], "channels": 1, "noise": 16, "classes": []}
        >>> judged = Gan(dcgan(facts, width=8), facts)(noise=torch.zeros(2, 16))
        >>> judged["pictures"].shape, judged["fake"].shape
        (torch.Size([2, 1, 28, 28]), torch.Size([2]))
    """

    def __init__(self, network: nn.Module, facts: Facts) -> None:
        super().__init__()
        self.generator, self.discriminator = _parts(network, facts)
        self.features = Features(facts)
        self.noise = int(facts["noise"])

    def forward(
        self, images: Tensor | None = None, noise: Tensor | None = None, *, compare: bool = False
    ) -> dict[str, Tensor]:
        """What is given is judged, real pictures and made ones each as a batch of their own for batch normalisation.

        Args:
            images: Real pictures ``(N, C, H, W)``, uint8 or float on the scale from 0 to 255.
            noise: float32 ``(M, Z)``, standard normal, from which as many pictures are made.
            compare: Adds the features of all pictures.

        Returns:
            ``real`` ``(N,)``: logits of the given pictures being real. ``fake`` ``(M,)``: those of the made ones,
            which are ``pictures`` ``(M, C, H, W)`` in [-1, 1]. With ``compare`` also ``real_features``,
            ``fake_features`` ``(., D)`` and, as the same classifier sees them, ``real_class``, ``fake_class`` (int64).
        """
        judged: dict[str, Tensor] = {}
        if images is not None:
            judged["real"] = self.discriminator(scaled(images)).view(len(images))
        if noise is not None:
            judged["pictures"] = self.generator(noise)
            judged["fake"] = self.discriminator(judged["pictures"]).view(len(noise))
        if compare:
            shown = {"real": images, "fake": pixels(judged["pictures"]) if noise is not None else None}
            for name, pictures in shown.items():
                if pictures is not None:
                    features, logits = self.features(pictures)
                    judged |= {f"{name}_features": features, f"{name}_class": logits.argmax(1)}
        return judged


def _parts(network: nn.Module, facts: Facts) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of a network, tried with two examples where it is not on the meta device."""
    generator, discriminator = (getattr(network, name, None) for name in ("generator", "discriminator"))
    if not isinstance(generator, nn.Module) or not isinstance(discriminator, nn.Module):
        raise ModelError(
            "The network is no pair of a generator and a discriminator.",
            where=type(network).__name__,
            expected="a module with the attributes generator and discriminator",
            received=", ".join(name for name, _ in network.named_children()) or "no parts",
        )
    with dry_run(network):
        made = generator(torch.zeros(2, facts["noise"], device=device_of(network)))
        wanted = (2, facts["channels"], *facts["size"])
        if tuple(made.shape) != wanted:
            raise ModelError(
                "The generator makes pictures of another shape than the data's.",
                where="generator",
                expected=" x ".join(map(str, wanted)),
                received=" x ".join(map(str, made.shape)),
            )
        logits = discriminator(made)
    if tuple(logits.shape) not in ((2,), (2, 1)):
        raise ModelError(
            "The discriminator must give one logit for each picture.",
            where="discriminator",
            expected="N x 1",
            received=" x ".join(map(str, logits.shape)),
        )
    return generator, discriminator


def scaled(images: Tensor) -> Tensor:
    """Pictures on the scale from 0 to 255 as float32 in [-1, 1]."""
    return images.float().div(127.5).sub(1)


def pixels(pictures: Tensor) -> Tensor:
    """Pictures in [-1, 1] as uint8 from 0 to 255."""
    return pictures.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def generate(model: nn.Module, noise: Tensor) -> Tensor:
    """The pictures that a GAN makes of noise ``(N, Z)``, in evaluation mode: uint8 ``(N, C, H, W)`` on the CPU."""
    device = device_of(model)
    with dry_run(model):
        made = [pixels(model(noise=part.to(device))["pictures"]).cpu() for part in torch.split(noise, 256)]
    return torch.cat(made)


class Features(nn.Module):
    """A small classifier of pictures whose last features say how alike pictures are; its weights are buffers.

    As buffers they travel with the model and no optimiser finds them. They are random until :meth:`adopt` is called.

    Args:
        facts: ``classes`` (fewer than two where the data has no labels), ``size``, ``channels``.

    Attributes:
        accuracy: The fraction of held-out pictures that the classifier names right; 0 for random weights.
        trained: Whether it was trained on labels.
    """

    accuracy: Tensor
    trained: Tensor

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self.facts = {name: facts[name] for name in ("classes", "size", "channels")}
        self.shrink = max(1, max(facts["size"]) // LARGEST)
        self.network = classifier(facts)
        _freeze(self.network)
        self.register_buffer("accuracy", torch.zeros(()))
        self.register_buffer("trained", torch.zeros((), dtype=torch.bool))
        self.eval()

    def train(self, mode: bool = True) -> Features:
        """Stays in evaluation mode: its statistics are fixed."""
        super().train(False)
        return self

    @property
    def size(self) -> int:
        """How many features a picture has."""
        head = self.network[-1]
        return head.in_features if isinstance(head, nn.Linear) else 0

    def adopt(self, network: nn.Module, accuracy: float | None) -> None:
        """Takes the weights of a network of :func:`classifier`; ``accuracy`` is None for one that was not trained."""
        with torch.no_grad():
            weights = network.state_dict()
            for name, value in self.network.state_dict().items():
                value.copy_(weights[name])
            self.accuracy.fill_(accuracy or 0.0)
            self.trained.fill_(accuracy is not None)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, D)`` and logits ``(N, K)`` of pictures ``(N, C, H, W)`` on the scale from 0 to 255."""
        features: Tensor = self.network[:-1](prepared(images, self.shrink))
        return features, self.network[-1](features)


def classifier(facts: Facts) -> nn.Sequential:
    """The network whose features :class:`Features` takes: a narrow ``compact``, its last layer the head."""
    shrink = max(1, max(facts["size"]) // LARGEST)
    small = [max(SMALLEST, side // shrink) for side in facts["size"]]
    classes = facts["classes"] if len(facts["classes"]) > 1 else ["one", "two"]
    network = compact({**facts, "size": small, "classes": classes}, width=FEATURE_WIDTH)
    return nn.Sequential(*network.children())


def prepared(images: Tensor, shrink: int) -> Tensor:
    """Pictures as the classifier of :class:`Features` gets them: in [-1, 1], large ones made smaller."""
    values = scaled(images)
    return values if shrink == 1 else nn.functional.avg_pool2d(values, shrink)


def _freeze(network: nn.Module) -> None:
    """Turns every parameter into a buffer of the same name."""
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())


def dcgan(facts: Facts, *, width: int = 64) -> nn.Module:
    """Transposed convolutions make the picture, strided ones judge it (Radford, Metz and Chintala 2015, DCGAN).

    The generator's first map has sides of 4 to 7; each 4x4 transposed convolution doubles them. The discriminator is
    its mirror image. Batch normalisation is everywhere but at the picture's end of both; weights start as normal
    numbers of standard deviation 0.02. Source: arXiv 1511.06434.

    Args:
        facts: ``size`` ``[height, width]``, of which both must be divisible by 2 as often as the shorter one can be
            halved without falling below 4 (28, 32, 48, 64 can); ``channels``; ``noise``.
        width: Channels at the half of the picture's size; each halving doubles them.

    Returns:
        An :class:`Adversaries`.

    Raises:
        ModelError: The size cannot be halved so often, or the width is not a positive whole number.
    """
    _check("width", width)
    height, breadth = facts["size"]
    stages = max(0, (min(height, breadth) // SMALLEST).bit_length() - 1)
    if stages < 1 or height % 2**stages or breadth % 2**stages:
        raise ModelError(
            "dcgan makes pictures by doubling a small map, and these cannot be reached so.",
            where="dcgan",
            expected="sides that are 4, 5, 6 or 7 doubled some times, such as 28, 32, 48 or 64",
            received=f"{height} x {breadth} pixels",
            remedy="Set images.size = 32 or 64, or take the model mlp-gan.",
        )
    small = (height >> stages, breadth >> stages)
    widths = [width << stage for stage in range(stages)]
    made = Adversaries(
        _upward(facts["noise"], facts["channels"], widths[::-1], small), _downward(facts["channels"], widths, small)
    )
    return made.apply(_initialise)


def _upward(noise: int, channels: int, widths: Sequence[int], small: tuple[int, int]) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Unflatten(1, (noise, 1, 1)),
        nn.ConvTranspose2d(noise, widths[0], small, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
    ]
    for before, after in zip(widths, [*widths[1:], None], strict=True):
        last = after is None
        layers.append(nn.ConvTranspose2d(before, after or channels, 4, stride=2, padding=1, bias=last))
        layers += [nn.Tanh()] if after is None else [nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def _downward(channels: int, widths: Sequence[int], small: tuple[int, int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(zip([channels, *widths], widths, strict=False)):
        layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=place == 0))
        layers += ([nn.BatchNorm2d(after)] if place else []) + [nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, small), nn.Flatten())


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def mlp_gan(facts: Facts, *, width: int = 256, depth: int = 2, dropout: float = 0.3) -> nn.Module:
    """Generator and discriminator of linear layers alone, for pictures of any size (Goodfellow et al. 2014).

    As in "Generative adversarial nets" (arXiv 1406.2661), with leaky ReLU in place of its maxout and sigmoid units.

    Args:
        facts: ``size`` ``[height, width]``, ``channels``, ``noise``.
        width: Features of the generator's first hidden layer; each further one has twice as many, and the
            discriminator's have them in the opposite order.
        depth: Hidden layers of each.
        dropout: With which a hidden feature of the discriminator is dropped.

    Returns:
        An :class:`Adversaries`.

    Raises:
        ModelError: An argument is out of range.
    """
    _check("width", width)
    _check("depth", depth)
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ModelError(
            "The dropout probability is out of range.", where="model.dropout", expected="0 <= p < 1", received=dropout
        )
    shape = (facts["channels"], *facts["size"])
    widths = [width << layer for layer in range(depth)]
    upward: list[nn.Module] = []
    for before, after in zip([facts["noise"], *widths], widths, strict=False):
        upward += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
    upward += [nn.Linear(widths[-1], prod(shape)), nn.Tanh(), nn.Unflatten(1, shape)]
    downward: list[nn.Module] = [nn.Flatten()]
    for before, after in zip([prod(shape), *widths[::-1]], widths[::-1], strict=False):
        downward += [nn.Linear(before, after), nn.LeakyReLU(SLOPE), nn.Dropout(dropout)]
    downward.append(nn.Linear(widths[0], 1))
    return Adversaries(nn.Sequential(*upward), nn.Sequential(*downward))


def _check(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(
            f"The {name} is out of range.",
            where=f"model.{name}",
            expected="a whole number from 1 on",
            received=repr(value),
        )
