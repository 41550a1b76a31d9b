"""What a model takes and gives over a network: named tensors, and the bodies that plain clients send.

A :class:`Wire` stands between a protocol, which knows tensors and media types, and a task, which knows raw inputs and
answers. It needs no PyTorch, so that a server of exported files has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
"""Arrays by name, rows in front; texts and files are object arrays of ``bytes``."""


def objects(values: Sequence[bytes]) -> NDArray[Any]:
    """Texts or files as an array, ``(N,)``."""
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor of a request or an answer.

    Attributes:
        name: As clients say it.
        datatype: In the terms of the Open Inference Protocol: ``UINT8``, ``FP32``, ``INT64``, ``BYTES``.
        shape: Rows in front; -1 is any length.
        about: What it is, in a phrase.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    about: str


@dataclass(frozen=True, slots=True)
class Wire:
    """How one kind of model is asked over a network.

    Attributes:
        form: What a person gives: ``picture``, ``text``, ``sound``, ``node``, ``query``. A page offers a field for it.
        input: The tensor that is asked with.
        outputs: The tensors that are answered.
        raw: The rows of an input as what the task reads. Never a path: a client must not name files of the server.
            Raises ``DataError`` for rows that cannot be any.
        files: Whether a row may be a file's content as well, in ``BYTES`` in place of the input's own datatype.
        text: Whether a row is text, so that bodies are texts and not files.
        tensors: Decoded answers as the outputs.
        probe: A raw input to try a model with before it is asked in earnest.
    """

    form: str
    input: Slot
    outputs: tuple[Slot, ...]
    raw: Callable[[NDArray[Any]], list[Any]]
    tensors: Callable[[Sequence[Mapping[str, Any]]], Arrays]
    probe: Any
    files: bool = False
    text: bool = False
