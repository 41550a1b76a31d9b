"""Whether a network fits the data, found out by sending an example through it before training starts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from flambeau.core import Facts, device_of
from flambeau.errors import ModelError
from flambeau.models.hooks import is_leaf, watched

BATCH = 2
SIDES = (8, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 299, 384, 512)

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the data gives and wants: channels, height and width of a picture, and the number of classes."""

    channels: int
    height: int
    width: int
    classes: int

    def __str__(self) -> str:
        kind = {1: "grey ", 3: "RGB "}.get(self.channels, "")
        return f"{kind}pictures of {self.height} x {self.width} pixels"


@dataclass(slots=True)
class Trace:
    """Which modules an example went through: those still at work when it stopped, and the last that gave a tensor."""

    open: list[tuple[str, nn.Module, Shape | None]] = field(default_factory=list)
    last: tuple[str, nn.Module, Shape] | None = None

    def enter(self, name: str, module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Remembers a module that begins."""
        shape = tuple(inputs[0].shape) if inputs and isinstance(inputs[0], Tensor) else None
        self.open.append((name, module, shape))

    def leave(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        """Remembers that the module that began last is done."""
        self.open.pop()
        if isinstance(output, Tensor) and is_leaf(module):
            self.last = (name, module, tuple(output.shape))


def check_fit(network: nn.Module, facts: Facts) -> Tensor:
    """Sends two blank pictures through a network and explains what does not fit.

    The network is left as it was: training mode, buffers of the standard layers and random generators included. It
    runs on the device that holds its parameters, the meta device too.

    Args:
        network: From float32 ``(N, C, H, W)`` to logits ``(N, K)``.
        facts: ``classes``, ``size`` ``[height, width]`` in pixels, ``channels``.

    Returns:
        What came out, ``(2, K)``.

    Raises:
        ModelError: When a layer cannot take what reaches it, or the output is not one score for each class. It names
            the layer, both shapes and what to change.

    Example:
        >>> output = check_fit(nn.Sequential(nn.Flatten(), nn.Linear(784, 2)),
        ...                    {"classes": ["cat", "dog"], "size": [28, 28], "channels": 1})
    """
    height, width = facts["size"]
    pictures = Pictures(facts["channels"], height, width, len(facts["classes"]))
    trace = Trace()
    try:
        output = _run(network, pictures, trace)
    except ModelError:
        raise
    # Whatever a user's own forward() raises must become a message; the original stays chained to it.
    except Exception as error:
        raise _explain_stop(network, pictures, trace, error) from error
    return _checked_output(network, pictures, trace, output)


def _run(network: nn.Module, pictures: Pictures, trace: Trace) -> object:
    example = torch.zeros(BATCH, pictures.channels, pictures.height, pictures.width, device=device_of(network))
    with dry_run(network), watched(network.named_modules(), trace.leave, trace.enter):
        return network(example)


@contextmanager
def dry_run(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards modes and the processor's random generator are as before."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _explain_stop(network: nn.Module, pictures: Pictures, trace: Trace, error: Exception) -> ModelError:
    name, module, shape = trace.open[-1] if trace.open else ("", network, None)
    if not is_leaf(module) or shape is None:
        return _explain_own_forward(network, pictures, trace, name or type(network).__name__, error)
    wanted, advice = _requirement(module, shape)
    remedies = [_other_pictures(network, pictures), advice]
    return ModelError(
        f"The network does not fit {pictures}: this layer cannot take what reaches it."
        + ("" if wanted else f" PyTorch says: {_first_line(error)}"),
        where=_place(name, module),
        expected=wanted,
        received=_by(shape),
        remedy=" Or else: ".join(text for text in remedies if text) or None,
    )


def _explain_own_forward(
    network: nn.Module, pictures: Pictures, trace: Trace, name: str, error: Exception
) -> ModelError:
    after = ""
    if trace.last is not None:
        layer, module, shape = trace.last
        after = f" after the layer {layer} ({_described(module)}), which gave {_by(shape)}"
    return ModelError(
        f"The network does not fit {pictures}: its own forward() stops{after}. "
        f"{type(error).__name__}: {_first_line(error)}",
        where=name,
        remedy=_other_pictures(network, pictures) or "Change forward() so that it takes pictures of this shape.",
    )


def _requirement(module: nn.Module, shape: Shape) -> tuple[str | None, str | None]:
    """What a layer wants of its input in words, and how the layer could be changed; None where nothing is known."""
    if isinstance(module, nn.Linear) and shape[-1] != module.in_features:
        wanted = f"N x {module.in_features} ({module.in_features} features)"
        if len(shape) > 2:
            return wanted, "Put a Flatten layer before it."
        return wanted, f"Give the layer in_features = {shape[-1]}."
    if isinstance(module, nn.Conv2d):
        if len(shape) != 4:
            return f"N x {module.in_channels} x height x width", "Remove what flattens the maps before this layer."
        if shape[1] != module.in_channels:
            wanted = f"N x {module.in_channels} x height x width ({module.in_channels} channels)"
            return wanted, f"Give the layer in_channels = {shape[1]}."
        reach = [d * (k - 1) + 1 for k, d in zip(module.kernel_size, module.dilation, strict=True)]
        wanted = f"maps of at least {_by(tuple(reach))}, padding included"
        return wanted, "Use a smaller kernel, more padding, or less pooling before it."
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and len(shape) > 1 and shape[1] != module.num_features:
        return f"{module.num_features} channels", f"Give the layer num_features = {shape[1]}."
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d) and len(shape) == 4:
        return f"maps of at least its kernel, {module.kernel_size}", "Pool less before it."
    return None, None


def _checked_output(network: nn.Module, pictures: Pictures, trace: Trace, output: object) -> Tensor:
    expected = f"N x {pictures.classes}: one score for each of the {pictures.classes} classes"
    where = type(network).__name__ if trace.last is None else _place(trace.last[0], trace.last[1])
    if not isinstance(output, Tensor):
        raise ModelError(
            "The network must return one tensor of logits.",
            where=type(network).__name__,
            expected=expected,
            received=f"a {type(output).__name__}",
            remedy="Return the logits alone from forward().",
        )
    shape = tuple(output.shape)
    if shape == (BATCH, pictures.classes):
        return output
    if len(shape) == 2 and shape[0] == BATCH:
        problem = f"The network gives {shape[1]} scores a picture, and the data has {pictures.classes} classes."
        remedy = f"Give the last layer {pictures.classes} outputs."
    else:
        problem = f"The network's output is not a row of scores for each of {BATCH} {pictures}."
        remedy = _other_pictures(network, pictures) or "Flatten the maps, all but the batch dimension, before the end."
    raise ModelError(problem, where=where, expected=expected, received=_by(shape), remedy=remedy)


def _other_pictures(network: nn.Module, pictures: Pictures) -> str | None:
    """The smallest change of the pictures with which the network would work, as advice."""
    # Copies on the meta device cost neither memory nor arithmetic; a network that cannot live there gets no advice.
    try:
        probe = copy.deepcopy(network).to("meta")
    except Exception:
        return None
    for channels in (pictures.channels, *({1, 3} - {pictures.channels})):
        for side in sorted({pictures.height, *SIDES}, key=lambda side: abs(side - pictures.height)):
            width = pictures.width if side == pictures.height else side
            other = replace(pictures, channels=channels, height=side, width=width)
            if other != pictures and _works(probe, other):
                return f"Set {_setting(pictures, other)}."
    return None


def _works(network: nn.Module, pictures: Pictures) -> bool:
    try:
        output = _run(network, pictures, Trace())
    except Exception:
        return False
    return isinstance(output, Tensor) and output.dim() == 2 and output.shape[0] == BATCH


def _setting(pictures: Pictures, other: Pictures) -> str:
    settings = []
    if other.channels != pictures.channels:
        settings.append(f"images.channels = {other.channels}")
    if (other.height, other.width) != (pictures.height, pictures.width):
        settings.append(f"images.size = {other.height}")
    return " and ".join(settings)


def _place(name: str, module: nn.Module) -> str:
    return f"layer {name} ({_described(module)})" if name else _described(module)


def _described(module: nn.Module) -> str:
    return f"{type(module).__name__}({module.extra_repr()})"


def _by(shape: Shape) -> str:
    return " x ".join(str(side) for side in shape)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
