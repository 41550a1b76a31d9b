"""Nested Python state as JSON and named tensors, without pickle.

Optimisers keep dictionaries keyed by integers, tuples, tensors and numbers, nested as they please. Everything that is
not a tensor becomes JSON, with a marker where JSON has no such thing; tensors are put aside under a path.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from flambeau.errors import RunError


def encode(value: Any, tensors: dict[str, Tensor], path: str) -> Any:
    """The JSON form of a value; its tensors are added to ``tensors`` under names that begin with ``path``.

    Raises:
        RunError: A value is of a type that has no JSON form.

    Example:
        >>> tensors = {}
        >>> encode({0: {"step": torch.tensor(3.0)}, "betas": (0.9, 0.999)}, tensors, "sgd")["$dict"][1]
        ['betas', {'$tuple': [0.9, 0.999]}]
        >>> list(tensors)
        ['sgd.0.step']
    """
    if isinstance(value, Tensor):
        while path in tensors:  # two keys may read alike, such as 1 and "1"
            path += "'"
        tensors[path] = value.detach()
        return {"$tensor": path}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict) and all(key is None or isinstance(key, int | str) for key in value):
        return {"$dict": [[key, encode(item, tensors, f"{path}.{key}")] for key, item in value.items()]}
    if isinstance(value, list):
        return [encode(item, tensors, f"{path}.{number}") for number, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"$tuple": [encode(item, tensors, f"{path}.{number}") for number, item in enumerate(value)]}
    raise RunError(
        f"A value of type {type(value).__name__} cannot be saved.",
        where=path,
        expected="tensors, numbers, text, None, lists and tuples of these, and dictionaries of these by number or text",
    )


def decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of :func:`encode`."""
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "$tensor":
        return tensors[content]
    if kind == "$float":
        return float(content)
    if kind == "$dict":
        return {key: decode(item, tensors) for key, item in content}
    return tuple(decode(item, tensors) for item in content)


def without_aliases(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that safetensors accepts, and the names that are the same memory under another name.

    A weight that two layers share is kept once; safetensors refuses shared memory because it could not restore it.

    Returns:
        Contiguous tensors on the CPU, and a map from each left-out name to the name that holds its values.
    """
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[object, ...], str] = {}
    for name, tensor in tensors.items():
        key = (tensor.device, tensor.dtype, tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() and key in seen:
            aliases[name] = seen[key]
            continue
        seen[key] = name
        kept[name] = _own(tensor)
    return kept, aliases


def _own(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU that shares memory with nothing."""
    copy = tensor.detach().to("cpu", copy=True)
    return copy.contiguous() if copy.layout == torch.strided else copy
