"""What a network consists of: each layer's shapes, the formula behind them, its parameters and multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd

from flambeau.models.fit import dry_run
from flambeau.models.hooks import is_leaf, layers_of, watched

Shape = tuple[int, ...]

AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer as it ran.

    Attributes:
        name: Its path in the network, as in the names of its weights.
        type: Its class.
        arguments: What it was made with, as PyTorch prints it.
        input: The shape of its first tensor, or None when it took none.
        output: The shape that it gave, or None when it gave no tensor.
        formula: How the output's shape follows, with the numbers in it; empty where that is not known.
        parameters: Numbers that it learns; counted once when a layer is used twice.
        multiply_adds: Multiplications with an addition for the whole example. Convolutions and linear layers count;
            norms, pooling and activations do not, as is usual. None for a layer with weights that is not known.
    """

    name: str
    type: str
    arguments: str
    input: Shape | None
    output: Shape | None
    formula: str
    parameters: int
    multiply_adds: int | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a network.

    Attributes:
        parameters: Numbers in all parameters, each tensor counted once.
        trainable: Those of them that take a gradient.
        bytes: Size of parameters and buffers.
        multiply_adds: Sum over the layers whose count is known.
        uncounted: The names of the others.
    """

    parameters: int
    trainable: int
    bytes: int
    multiply_adds: int
    uncounted: tuple[str, ...]


def layers(network: nn.Module, example: Tensor | Callable[[], object]) -> list[LayerRow]:
    """The layers of a network in the order in which they run, found by sending an example through it.

    Modules without children are layers; so is one that owns parameters itself. The network is left as it was.

    Args:
        network: Any module that takes the example.
        example: One input on the network's device, so that multiply-adds are those of one example; or a function that
            sends one through a model which the network is a part of.

    Example:
        >>> import torch
        >>> [row] = layers(nn.Conv2d(1, 6, 5, padding=2), torch.zeros(1, 1, 28, 28))
        >>> row.formula, row.parameters, row.multiply_adds
        ('(28 + 2·2 − 5) / 1 + 1 = 28', 156, 117600)
    """
    rows: list[LayerRow] = []
    counted: set[int] = set()

    def record(name: str, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        rows.append(_row(name, module, _shape(inputs[0] if inputs else None), _shape(output), counted))

    with watched(layers_of(network), record), dry_run(network):
        network(example) if isinstance(example, Tensor) else example()
    return rows


def totals(network: nn.Module, rows: Sequence[LayerRow]) -> Totals:
    """Sums over a network and the rows that :func:`layers` gave for it.

    Example:
        >>> import torch
        >>> network = nn.Linear(784, 10)
        >>> totals(network, layers(network, torch.zeros(1, 784))).multiply_adds
        7840
    """
    held = [*network.parameters(), *network.buffers()]
    return Totals(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        trainable=sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in held),
        multiply_adds=sum(row.multiply_adds or 0 for row in rows),
        uncounted=tuple(dict.fromkeys(row.name for row in rows if row.multiply_adds is None)),
    )


def _row(name: str, module: nn.Module, given: Shape | None, made: Shape | None, counted: set[int]) -> LayerRow:
    own = [parameter for parameter in module.parameters(recurse=False) if id(parameter) not in counted]
    counted.update(id(parameter) for parameter in own)
    return LayerRow(
        name=name,
        type=type(module).__name__,
        arguments=" ".join(module.extra_repr().split()) if is_leaf(module) else "",
        input=given,
        output=made,
        formula=_formula(module, given, made) if given and made else "",
        parameters=sum(parameter.numel() for parameter in own),
        multiply_adds=_multiply_adds(module, given, made),
    )


def _shape(value: object) -> Shape | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _multiply_adds(module: nn.Module, given: Shape | None, made: Shape | None) -> int | None:
    if given and made:
        if isinstance(module, _ConvTransposeNd):
            return prod(given) * (module.out_channels // module.groups) * prod(module.kernel_size)
        if isinstance(module, _ConvNd):
            return prod(made) * (module.in_channels // module.groups) * prod(module.kernel_size)
        if isinstance(module, nn.Linear):
            return prod(made) * module.in_features
    known = isinstance(module, _NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm | nn.PReLU)
    return 0 if known or not any(True for _ in module.parameters(recurse=False)) else None


def _formula(module: nn.Module, given: Shape, made: Shape) -> str:
    if isinstance(module, _ConvTransposeNd):
        return _by_axis(given, made, [_transposed(module, axis, *pair) for axis, pair in _spatial(given, made)])
    if isinstance(module, _ConvNd) and isinstance(module.padding, str):
        return f"padding {module.padding!r} gives {' x '.join(map(str, made[2:]))}"
    if isinstance(module, _ConvNd | _MaxPoolNd | _AvgPoolNd):
        return _by_axis(given, made, [_windowed(module, axis, *pair) for axis, pair in _spatial(given, made)])
    if isinstance(module, _AdaptiveAvgPoolNd | _AdaptiveMaxPoolNd):
        return f"{' x '.join(map(str, made[2:]))} from maps of any size"
    if isinstance(module, nn.Linear):
        return f"{module.in_features} features in, {module.out_features} out"
    if isinstance(module, nn.Flatten):
        first, last = module.start_dim % len(given), module.end_dim % len(given)
        joined = given[first : last + 1]
        return f"{'·'.join(map(str, joined))} = {prod(joined)}"
    if isinstance(module, _NormBase | nn.LayerNorm | nn.GroupNorm | _DropoutNd | nn.Identity):
        return UNCHANGED
    activation = type(module).__module__ == "torch.nn.modules.activation" and given == made
    return UNCHANGED if activation else ""


def _spatial(given: Shape, made: Shape) -> list[tuple[int, tuple[int, int]]]:
    return list(enumerate(zip(given[2:], made[2:], strict=False)))


def _by_axis(given: Shape, made: Shape, formulas: list[str]) -> str:
    """One formula when it is the same along every axis, else each with the name of its axis."""
    if len(set(formulas)) <= 1:
        return "".join(formulas[:1])
    return "; ".join(f"{axis} {text}" for axis, text in zip(AXES[len(formulas)], formulas, strict=True))


def _at(value: Any, axis: int) -> int:
    return int(value[axis]) if isinstance(value, tuple | list) else int(value)


def _windowed(module: Any, axis: int, size: int, made: int) -> str:
    """``(size + 2·padding − reach) / stride + 1``, where the reach of a kernel is dilation·(kernel − 1) + 1."""
    kernel, padding = _at(module.kernel_size, axis), _at(module.padding, axis)
    stride, dilation = _at(module.stride, axis), _at(getattr(module, "dilation", 1), axis)
    reach = dilation * (kernel - 1) + 1
    room = size + 2 * padding - reach
    reach_text = str(kernel) if dilation == 1 else f"({dilation}·({kernel} − 1) + 1)"
    quotient = f"({size}{f' + 2·{padding}' if padding else ''} − {reach_text}) / {stride}"
    if room % stride == 0:
        return f"{quotient} + 1 = {made}"
    if not getattr(module, "ceil_mode", False):
        return f"⌊{quotient}⌋ + 1 = {made}"
    whole = -(-room // stride) + 1
    # torch.nn.MaxPool2d: with ceil_mode a window that would begin in the right padding is left out.
    return f"⌈{quotient}⌉ + 1 = {made}" if whole == made else f"⌈{quotient}⌉ = {made} (no window starts in the padding)"


def _transposed(module: Any, axis: int, size: int, made: int) -> str:
    """``(size − 1)·stride − 2·padding + reach + output padding``, the convolution's formula turned round."""
    kernel, padding, extra = (_at(getattr(module, name), axis) for name in ("kernel_size", "padding", "output_padding"))
    stride, dilation = _at(module.stride, axis), _at(module.dilation, axis)
    text = f"({size} − 1)·{stride}{f' − 2·{padding}' if padding else ''} + {dilation * (kernel - 1) + 1}"
    return f"{text}{f' + {extra}' if extra else ''} = {made}"
