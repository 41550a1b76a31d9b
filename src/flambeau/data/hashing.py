"""Content hashes of rows and data sets, and the counter-based integer hash that all drawing of lots here is made of.

Nothing in this file depends on the platform, the device, the number of threads or a generator's state.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from flambeau.columns import Column, Split

# Read as int64 tensors hold them, with a sign.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64

_Integers = TypeVar("_Integers", int, Tensor)


def mix(values: _Integers) -> _Integers:
    """Scrambles 64-bit integers so that neighbours come out unrelated.

    The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).

    Args:
        values: int64 of any shape; or one integer of Python, of which 64 bits count.

    Returns:
        The same form. An integer of Python may be longer; again 64 bits count.
    """
    values = (values ^ ((values >> 30) & (2**34 - 1))) * _FIRST
    values = (values ^ ((values >> 27) & (2**37 - 1))) * _SECOND
    return values ^ ((values >> 31) & (2**33 - 1))


def key(*parts: int) -> int:
    """One 64-bit key, as a signed integer, for a tuple of integers.

    Example:
        >>> key(0, 1) == key(0, 1), key(0, 1) == key(1, 0)
        (True, False)
    """
    state = len(parts)
    for part in parts:
        state = (mix((state + part + 1) * _GOLDEN) + 2**63) % 2**64 - 2**63  # as int64 wraps around
    return state


def keys(seed: int, numbers: Tensor) -> Tensor:
    """A pseudo-random int64 for each number under one key; ``numbers`` int64 of any shape."""
    return mix((numbers + 1) * _GOLDEN + seed)


def text_key(text: str) -> int:
    """A 64-bit hash of a text as a signed integer; equal texts have equal keys."""
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True
    )


def row_hashes(column: Column) -> Tensor:
    """A 64-bit hash of the content of every row, ``(N,)`` int64; equal rows have equal hashes.

    Rows of a list may be tensors, arrays, pictures of Pillow, bytes, texts, or paths of files, whose bytes are read.
    """
    if isinstance(column, Tensor):
        rows = np.ascontiguousarray(column.detach().cpu().numpy()).reshape(len(column), -1)
        digests = [hashlib.blake2b(row.data, digest_size=8).digest() for row in rows]
    else:
        digests = [hashlib.blake2b(_content(value), digest_size=8).digest() for value in column]
    return torch.from_numpy(np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64))


def _content(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, os.PathLike):
        return Path(value).read_bytes()
    array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value))
    return f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()


def dataset_hash(splits: Mapping[str, Split]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of every column of every split, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        for title in sorted(splits[name].columns):
            column = splits[name][title]
            digest.update(f"{name}/{title} {len(column)}\n".encode())
            if isinstance(column, Tensor):
                array = np.ascontiguousarray(column.detach().cpu().numpy())
                digest.update(f"{array.dtype.str} {array.shape}\n".encode())
                digest.update(array.reshape(-1).view(np.uint8).data)
            else:
                for value in column:
                    digest.update(hashlib.sha256(_content(value)).digest())
    return digest.hexdigest()
