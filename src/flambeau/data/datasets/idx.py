"""Reads and writes IDX, the format of MNIST: a big-endian header (two zero bytes, type, dimensions, sizes), then data.

The format is described on the MNIST page of Y. LeCun, C. Cortes and C. Burges.
"""

from __future__ import annotations

import math
import struct

import numpy as np
import torch
from torch import Tensor

from flambeau.errors import DataError

_UINT8 = 0x08


def parse(content: bytes, *, where: object = None) -> Tensor:
    """The array that an IDX file of bytes holds, uint8 of the shape that its header states.

    Raises:
        DataError: The header is not that of a uint8 IDX file, or the length does not fit it.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UINT8 or not 1 <= content[3] <= 4:
        raise DataError(
            "This is not an IDX file of bytes.",
            where=where,
            expected="a header that starts with 00 00 08 and the number of dimensions",
            received=content[:4].hex(" ") or "an empty file",
            remedy="Fetch the file again, or point data.root at another copy.",
        )
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError("The IDX file ends within its header.", where=where, remedy="Fetch the file again.")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(
            "The IDX file is not as long as its header says.",
            where=where,
            expected=f"{math.prod(shape)} bytes of data for shape {shape}",
            received=f"{len(content) - start} bytes",
            remedy="Fetch the file again.",
        )
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy())


def dump(array: Tensor) -> bytes:
    """The IDX file of a uint8 tensor of one to four dimensions.

    Example:
        >>> parse(dump(torch.tensor([3, 1], dtype=torch.uint8))).tolist()
        [3, 1]
    """
    header = bytes([0, 0, _UINT8, array.dim()]) + struct.pack(f">{array.dim()}I", *array.shape)
    return header + array.contiguous().numpy().tobytes()
