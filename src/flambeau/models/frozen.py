"""Weights handed on from network to network by name, and networks of which only some layers learn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flambeau.errors import ModelError, did_you_mean
from flambeau.models.fit import dry_run
from flambeau.models.hooks import watched
from flambeau.models.initialize import LAYERS


class Frozen(nn.Module):
    """A network of which some layers learn; the others keep weights and statistics, and work as in evaluation.

    Args:
        network: As it is; its parameters are marked.
        parts: The paths of what is frozen, with all within it; "" is the whole network.
        but: The path of a layer that learns all the same.
        tail: What learns and what follows it, one module after the other up to the output, where all before them is
            frozen: what reaches them never changes, and needs computing only once. Empty where that is not known.
        shape: Of what reaches the tail, for one picture.

    Attributes:
        network: The whole network.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> frozen = freeze(network, True, torch.zeros(2, 3, 2, 2))
        >>> frozen.tail, torch.equal(frozen(frozen.features(torch.ones(5, 3, 2, 2))), frozen(torch.ones(5, 3, 2, 2)))
        (('3',), True)
    """

    def __init__(
        self,
        network: nn.Module,
        parts: Sequence[str],
        but: str | None = None,
        tail: Sequence[str] = (),
        shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.parts, self.but, self.tail, self.shape = tuple(parts), but, tuple(tail), tuple(shape)
        for module in self.held():
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        self.train(self.training)

    def held(self) -> list[nn.Module]:
        """The modules that are frozen."""
        return [module for name, module in self.network.named_modules() if is_part(name, self.parts, self.but)]

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, K)`` of pictures ``(N, C, H, W)``, or where there is a tail of their features ``(N, F)``."""
        if self.tail and images.dim() == 2:
            return self.rest(images)
        logits: Tensor = self.network(images)
        return logits

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """What reaches the tail from pictures ``(N, C, H, W)``, flattened to ``(N, F)``."""
        seen: list[Tensor] = []
        first = self.network.get_submodule(self.tail[0])
        with first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone())):
            self.network(images)
        return seen[-1].flatten(1)

    def rest(self, features: Tensor) -> Tensor:
        """Logits ``(N, K)`` of features ``(N, F)``: the tail alone."""
        values = features.view(-1, *self.shape)
        for name in self.tail:
            values = self.network.get_submodule(name)(values)
        return values.flatten(1)

    def train(self, mode: bool = True) -> Frozen:
        """Training mode for what learns alone: the norms of the others keep their statistics."""
        super().train(mode)
        for module in self.held():
            module.training = False
        return self


def is_part(name: str, parts: Sequence[str], but: str | None = None) -> bool:
    """Whether the module of a path is one of some parts, or within one, and not the one that is excepted."""
    if but is not None and name == but:
        return False
    return any(part in ("", name) or name.startswith(f"{part}.") for part in parts)


def freeze(network: nn.Module, what: bool | Sequence[str], example: Tensor) -> Frozen:
    """The network with all but its last layer frozen, or with the parts of these names.

    Args:
        network: From pictures to logits; it is changed.
        what: True for all but the last linear or convolutional layer that an example goes through; or names of modules.
        example: Pictures ``(N, C, H, W)`` that fit.

    Raises:
        ModelError: There is no part of a name, nothing would be frozen, or nothing would be left to learn.
    """
    parts: tuple[str, ...]
    last: str | None
    if isinstance(what, bool):
        parts, last = ("",), _last_layer(network, example)
    else:
        check_parts(network, what)
        parts, last = tuple(what), None
    held = [module for name, module in network.named_modules() if is_part(name, parts, last)]
    count = sum(1 for module in held for _ in module.parameters(recurse=False))
    if not count or count == sum(1 for _ in network.named_parameters(remove_duplicate=False)):
        raise ModelError(
            "Nothing would be left to learn." if count else "What is to be frozen has no weights.",
            where="model.freeze",
            received=", ".join(what) if not isinstance(what, bool) else "a network with one layer",
            remedy="Name parts that have weights, and leave some out that learn; or leave model.freeze out.",
        )
    if last is None:
        return Frozen(network, parts)
    tail = _tail(network, last)
    shape, whole = _shape_before(network, tail, example)
    return Frozen(network, parts, last, tail, shape) if whole else Frozen(network, parts, last)


def check_parts(network: nn.Module, names: Sequence[str]) -> None:
    """Refuses names that a network has no modules of.

    Raises:
        ModelError: With the nearest names there are.
    """
    known = [name for name, _ in network.named_modules() if name]
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise ModelError(
            f"The network has no part called {wrong[0]!r}. {did_you_mean(wrong[0], known)}"
            if wrong
            else "No part is named.",
            where="model.freeze",
            expected="true for all but the last layer, or a list of parts: "
            + ", ".join(dict.fromkeys(name.partition(".")[0] for name in known)),
        )


def _last_layer(network: nn.Module, example: Tensor) -> str:
    """The path of the last layer that an example goes through and that can learn alone."""
    ran: list[str] = []
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, LAYERS)]
    with dry_run(network), watched(layers, lambda name, module, inputs, output: ran.append(name)):
        network(example)
    if not ran:
        raise ModelError(
            "The network has no linear or convolutional layer that could learn alone.",
            where="model.freeze",
            received=type(network).__name__,
            remedy="Name the parts that are to be frozen: model.freeze = ['NAME'].",
        )
    return ran[-1]


def _tail(network: nn.Module, layer: str) -> list[str]:
    """The largest module that has no other weights than a layer, and what follows it where modules stand in a row."""
    parts, own = layer.split("."), sum(1 for _ in network.get_submodule(layer).parameters())
    above = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
    node = next(name for name in above if sum(1 for _ in network.get_submodule(name).parameters()) == own)
    tail = [node]
    while node:
        node, _, place = node.rpartition(".")
        row = network.get_submodule(node)
        if type(row).forward is not nn.Sequential.forward:
            break
        names = [name for name, _ in row.named_children()]
        tail += [f"{node}.{name}".lstrip(".") for name in names[names.index(place) + 1 :]]
    return tail


def _shape_before(network: nn.Module, tail: Sequence[str], example: Tensor) -> tuple[tuple[int, ...], bool]:
    """The shape of what reaches a tail from one picture; and whether the tail, and nothing else, makes the output."""
    with dry_run(network):
        before, made, output = _reaching(network, tail[0], example, tail[-1])
        if not isinstance(output, Tensor) or not isinstance(made, Tensor):
            return (), False
        shape = tuple(before.shape[1:])
        # What comes after the tail, such as a softmax in forward(), makes a new tensor.
        same = output.shape == made.flatten(1).shape and output.data_ptr() == made.data_ptr()
        if not same or output.is_meta:
            return shape, same
        values = before
        for name in tail:
            values = network.get_submodule(name)(values)
        return shape, torch.equal(values.flatten(1), output)


def _reaching(network: nn.Module, first: str, images: Tensor, last: str | None = None) -> tuple[Tensor, Any, Any]:
    """What reaches one module, what another one gives, and what the network gives."""
    seen: dict[str, Any] = {}

    def enter(name: str, module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if name == first and inputs and isinstance(inputs[0], Tensor):
            seen["before"] = inputs[0].clone()

    def leave(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if name == last and isinstance(output, Tensor):
            seen["made"], seen["version"] = output, output._version

    modules = [(name, network.get_submodule(name)) for name in {first, last or first}]
    with watched(modules, leave, enter):
        output = network(images)
    made = seen.get("made")
    # What was changed in place afterwards is no longer what the module gave.
    return seen.get("before", images), made if made is not None and made._version == seen["version"] else None, output


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
            if name.startswith(f"{prefix}network."):
                return prefix + name.removeprefix(f"{prefix}network.")
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
