"""An ``nn.Sequential`` written in a recipe: ordered, named layers of ``torch.nn``, with input sizes worked out.

[[model.layers]]
name = "conv1"
type = "Conv2d"
out_channels = 6
kernel_size = 5
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from flambeau.core import Facts
from flambeau.errors import ModelError, RecipeError, did_you_mean
from flambeau.models.arguments import mistakes, parameters

Layer = Mapping[str, Any]
"""One table of the recipe: ``type``, perhaps ``name``, and the layer's arguments."""

INPUT_SIZES = ("in_features", "in_channels", "num_features", "num_channels", "normalized_shape")
"""Arguments that say what reaches a layer, which are inferred when left out."""

# What takes several inputs, holds other modules, or is no layer at all cannot stand in a sequence.
UNSUITABLE = frozenset(
    (
        "AdaptiveLogSoftmaxWithLoss",
        "Bilinear",
        "Container",
        "CosineSimilarity",
        "CrossMapLRN2d",
        "DataParallel",
        "Embedding",
        "EmbeddingBag",
        "MaxUnpool1d",
        "MaxUnpool2d",
        "MaxUnpool3d",
        "Module",
        "ModuleDict",
        "ModuleList",
        "MultiheadAttention",
        "PairwiseDistance",
        "ParameterDict",
        "ParameterList",
        "Sequential",
        "Transformer",
        "TransformerDecoder",
        "TransformerDecoderLayer",
        "TransformerEncoder",
        "GRU",
        "GRUCell",
        "LSTM",
        "LSTMCell",
        "RNN",
        "RNNBase",
        "RNNCell",
        "RNNCellBase",
    )
)


@cache
def layer_types() -> dict[str, type[nn.Module]]:
    """The layers that a sequence may consist of, by their name in ``torch.nn``.

    Example:
        >>> "Conv2d" in layer_types(), "CrossEntropyLoss" in layer_types()
        (True, False)
    """
    found = {name: getattr(nn, name) for name in dir(nn)}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type)
        and issubclass(kind, nn.Module)
        and name not in UNSUITABLE
        and not name.endswith("Loss")
        and not name.startswith(("_", "Lazy"))
    }


def sequential(facts: Facts, *, layers: Sequence[Layer]) -> nn.Module:
    """Builds the layers of a recipe in order.

    What a layer says about its input (``in_features``, ``in_channels``, ``num_features``, ``num_channels``,
    ``normalized_shape``) may be left out: the layers before it are run on the meta device to find out. The value
    ``"classes"`` stands for the number of classes, as in ``out_features = "classes"``. A list becomes a tuple.

    Args:
        facts: ``classes``, ``size`` ``[height, width]`` in pixels, ``channels``.
        layers: Tables with ``type`` (a layer of ``torch.nn``), ``name`` (its number when left out) and arguments.

    Returns:
        A network from float32 ``(N, C, H, W)`` to what its last layer gives.

    Raises:
        RecipeError: When the tables are not valid; it lists every mistake.
        ModelError: When a layer cannot be made or does not fit what reaches it.

    Example:
        >>> facts = {"classes": ["cat", "dog"], "size": [28, 28], "channels": 1}
        >>> sequential(facts, layers=[{"type": "Flatten"}, {"name": "fc", "type": "Linear", "out_features": "classes"}])
        Sequential(
          (0): Flatten(start_dim=1, end_dim=-1)
          (fc): Linear(in_features=784, out_features=2, bias=True)
        )
    """
    found = check_layers(layers)
    if found:
        raise RecipeError(found)
    made: OrderedDict[str, nn.Module] = OrderedDict()
    # Two rows, because normalisation layers refuse a single value a channel.
    example = torch.empty(2, facts["channels"], *facts["size"], device="meta")
    for number, layer in enumerate(layers):
        name = str(layer.get("name", number))
        module = _make(name, layer, len(facts["classes"]), tuple(example.shape))
        example = _output(name, module, example)
        made[name] = module
    return nn.Sequential(made)


def check_layers(layers: object) -> list[str]:
    """Every mistake in the tables of a sequence that shows without data, as ``field: what is wrong`` lines."""
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers:
        return ["model.layers: a list of tables is needed, one [[model.layers]] for each layer"]
    found: list[str] = []
    seen: set[str] = set()
    for number, layer in enumerate(layers):
        where = f"model.layers[{number}]"
        if not isinstance(layer, Mapping):
            found.append(f"{where}: a table with type = ... is needed, not {layer!r}")
            continue
        name = layer.get("name", str(number))
        if not isinstance(name, str) or not name or "." in name or hasattr(nn.Sequential, name):
            found.append(f"{where}.name: {name!r} cannot name a layer; use letters, digits and underscores")
        elif name in seen:
            found.append(f"{where}.name: {name!r} is taken by an earlier layer")
        seen.add(str(name))
        found += [f"{where} ({name}): {mistake}" for mistake in _layer_mistakes(layer)]
    return found


def _layer_mistakes(layer: Layer) -> list[str]:
    kind = layer.get("type")
    if not isinstance(kind, str):
        return ['the layer needs a type, such as type = "Linear"']
    types = layer_types()
    if kind not in types:
        known = {name.lower(): name for name in types}
        hint = f"Did you mean {known[kind.lower()]}?" if kind.lower() in known else did_you_mean(kind, types)
        return [f"{kind!r} is not a layer of torch.nn that can stand in a sequence. {hint}"]
    return mistakes(types[kind], _arguments(layer), supplied=INPUT_SIZES)


def _arguments(layer: Layer) -> dict[str, Any]:
    return {key: _tuples(value) for key, value in layer.items() if key not in ("name", "type")}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _make(name: str, layer: Layer, classes: int, shape: tuple[int, ...]) -> nn.Module:
    kind = layer_types()[layer["type"]]
    arguments = {key: classes if value == "classes" else value for key, value in _arguments(layer).items()}
    for size in INPUT_SIZES:
        if size in parameters(kind) and size not in arguments:
            arguments[size] = _input_size(size, shape)
    try:
        return kind(**arguments)
    # torch.nn raises whatever its own checks find in an argument; the user needs to know in which layer.
    except Exception as error:
        raise ModelError(
            f"This layer cannot be made: {error}",
            where=f"layer {name} ({kind.__name__})",
            received=", ".join(f"{key} = {value!r}" for key, value in arguments.items()),
            remedy="Correct its arguments in the recipe.",
        ) from error


def _input_size(size: str, shape: tuple[int, ...]) -> int | tuple[int, ...]:
    if size == "normalized_shape":
        return shape[1:]
    return shape[-1] if size == "in_features" else shape[1]


def _output(name: str, module: nn.Module, example: Tensor) -> Tensor:
    probe = copy.deepcopy(module).to("meta").eval()
    try:
        with torch.no_grad():
            output: Tensor = probe(example)
    except Exception as error:
        raise ModelError(
            f"This layer cannot take what reaches it: {str(error).splitlines()[0] if str(error) else error!r}",
            where=f"layer {name} ({type(module).__name__}({module.extra_repr()}))",
            received=f"{' x '.join(map(str, example.shape[1:]))} from the layer before",
            remedy="Change this layer or the ones before it; an input size that is left out is worked out.",
        ) from error
    return output
