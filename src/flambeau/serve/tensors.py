"""Requests and answers of the Open Inference Protocol (v2), in JSON and with tensors in binary behind it.

The protocol: https://kserve.github.io/website (Open Inference Protocol); the binary extension: Triton Inference
Server's "binary tensor data extension".
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from flambeau.errors import UsageError
from flambeau.wire import Arrays, Slot, Wire, objects

DATATYPES = {
    "BOOL": np.dtype("?"), "UINT8": np.dtype("u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"), "INT8": np.dtype("i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"), "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Inference:
    """A request that has been understood.

    Attributes:
        rows: The input's rows, raw.
        id: What the client calls it, or None.
        outputs: What is wanted, with the parameters of each; all where the client names none.
        binary: Whether outputs go in binary where the client says nothing of one.
    """

    rows: list[Any]
    id: str | None
    outputs: dict[str, Mapping[str, Any]]
    binary: bool


def refused(problem: str, where: str, expected: object = None, received: object = None) -> UsageError:
    """What is wrong with a request."""
    return UsageError(problem, where=where, expected=expected, received=received)


def parse_json(text: bytes, where: str = "body") -> dict[str, Any]:
    """The object in a JSON text.

    Raises:
        UsageError: There is none.
    """
    try:
        found = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise refused("This is not JSON.", where, "a JSON object in UTF-8", str(error)[:200]) from error
    if not isinstance(found, dict):
        raise refused("This is no JSON object.", where, "an object", type(found).__name__)
    return found


def understood(body: bytes, header: str | None, wire: Wire, most_rows: int) -> Inference:
    """The inference that a body asks for.

    Args:
        body: All of it.
        header: What ``Inference-Header-Content-Length`` says, where tensors follow in binary.
        wire: What the model takes.
        most_rows: Rows that are taken on.

    Raises:
        UsageError: It is no such request, or not one for this model.
        BadRows: Rows are no raw inputs.
    """
    length = _header_length(header, len(body))
    asked = parse_json(body[:length])
    tensor = _only_input(asked, wire)
    array = _array(tensor, wire, memoryview(body)[length:])
    if not len(array):
        raise refused("The input has no rows.", f"inputs.{wire.input.name}.shape", "at least one row", "0")
    require_rows(len(array), most_rows)
    parameters = _table(asked, "parameters")
    name = asked.get("id")
    if name is not None and not isinstance(name, str):
        raise refused("This is no name of a request.", "id", "a string", type(name).__name__)
    return Inference(wire.raw(array), name, _wanted(asked, wire), parameters.get("binary_data_output") is True)


def require_rows(count: int, most: int) -> None:
    """Refuses too many rows.

    Raises:
        UsageError: There are more.
    """
    if count > most:
        raise UsageError(
            "The request has too many rows.",
            where="inputs",
            expected=f"at most {most}",
            received=count,
            remedy="Send several requests; they are computed together where they wait together.",
        )


def _header_length(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not header.isascii() or not header.isdigit() or len(header) > 12 or int(header) > size:
        raise refused(
            "The length of the JSON part is wrong.", "Inference-Header-Content-Length", f"0 to {size}", header
        )
    return int(header)


def _only_input(asked: Mapping[str, Any], wire: Wire) -> Mapping[str, Any]:
    inputs = asked.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(entry, dict) for entry in inputs):
        raise refused("The request has no inputs.", "inputs", f"a list with the tensor {wire.input.name!r}")
    names = [entry.get("name") for entry in inputs]
    if names != [wire.input.name]:
        raise refused(
            "These are not the model's inputs.", "inputs", wire.input.name, ", ".join(map(str, names)) or "none"
        )
    found: dict[str, Any] = inputs[0]
    return found


def _table(asked: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = asked.get(name, {})
    if not isinstance(found, dict):
        raise refused("This is no table.", name, "an object", type(found).__name__)
    return found


def _wanted(asked: Mapping[str, Any], wire: Wire) -> dict[str, Mapping[str, Any]]:
    known = [slot.name for slot in wire.outputs]
    outputs = asked.get("outputs")
    if outputs is None:
        return {name: {} for name in known}
    if not isinstance(outputs, list) or not all(isinstance(entry, dict) for entry in outputs):
        raise refused("The outputs are no list of objects.", "outputs", "a list of objects with a name")
    wanted: dict[str, Mapping[str, Any]] = {}
    for entry in outputs:
        name = entry.get("name")
        if name not in known:
            raise refused("The model has no such output.", "outputs", ", ".join(known), name)
        wanted[name] = _table(entry, "parameters")
    return wanted


def _array(tensor: Mapping[str, Any], wire: Wire, behind: memoryview) -> NDArray[Any]:
    """The input as an array of its shape, from its ``data`` or the bytes behind the JSON."""
    slot, where = wire.input, f"inputs.{wire.input.name}"
    datatype = tensor.get("datatype")
    accepted = [slot.datatype, *(["BYTES"] if wire.files else [])]
    if datatype not in accepted:
        raise refused("The input is of another datatype.", f"{where}.datatype", " or ".join(accepted), datatype)
    shape = _shape(tensor.get("shape"), where)
    parameters = _table(tensor, "parameters")
    size = parameters.get("binary_data_size")
    if size is None:
        array = _from_json(tensor.get("data"), datatype, shape, parameters, where)
    else:
        if not isinstance(size, int) or isinstance(size, bool) or size != len(behind) or "data" in tensor:
            raise refused(
                "The binary data is not as long as it says.", f"{where}.binary_data_size", f"{len(behind)}", size
            )
        array = _from_binary(behind, datatype, shape, where)
    # Texts and files come as [N] or, from clients that batch everything, as [N, 1].
    if datatype == "BYTES" and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    require_shape(array, (-1,) if datatype == "BYTES" else slot.shape, f"{where}.shape")
    return array


def require_shape(array: NDArray[Any], wanted: tuple[int, ...], where: str) -> None:
    """Refuses an array of another shape, where -1 is any length.

    Raises:
        UsageError: It has another.
    """
    if array.ndim != len(wanted) or any(w not in (-1, s) for w, s in zip(wanted, array.shape, strict=True)):
        raise refused("The input has another shape.", where, list(wanted), list(array.shape))


def _shape(given: Any, where: str) -> tuple[int, ...]:
    fine = isinstance(given, list) and 1 <= len(given) <= 8
    if not fine or any(
        isinstance(side, bool) or not isinstance(side, int) or not 0 <= side < 1 << 31 for side in given
    ):
        raise refused("This is no shape.", f"{where}.shape", "a list of whole numbers", str(given)[:80])
    return tuple(given)


def _from_binary(behind: memoryview, datatype: str, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    if datatype == "BYTES":
        return _in_shape(objects(_strings(behind, where)), shape, where)
    kind = DATATYPES[datatype]
    if math.prod(shape) * kind.itemsize != len(behind):
        raise refused("The data does not fill the shape.", f"{where}.shape", f"{len(behind)} bytes", list(shape))
    return _finite(np.frombuffer(behind, kind).reshape(shape), where)


def _strings(behind: memoryview, where: str) -> list[bytes]:
    """Texts with four bytes of length, little-endian, in front of each."""
    found, place = [], 0
    while place < len(behind):
        length = int.from_bytes(behind[place : place + 4], "little")
        place += 4 + length
        if place > len(behind):
            raise refused("The binary data is cut short.", where, f"{place} bytes", len(behind))
        found.append(bytes(behind[place - length : place]))
    return found


def _from_json(
    data: Any, datatype: str, shape: tuple[int, ...], parameters: Mapping[str, Any], where: str
) -> NDArray[Any]:
    if not isinstance(data, list):
        raise refused("The input has no data.", f"{where}.data", "a list", type(data).__name__)
    if datatype == "BYTES":
        return _in_shape(objects(decoded_texts(data, parameters.get("content_type") == "base64", where)), shape, where)
    return _in_shape(numbers(data, datatype, f"{where}.data"), shape, where)


def numbers(data: list[Any], datatype: str, where: str) -> NDArray[Any]:
    """Numbers in nested lists as an array of a datatype that holds all of them.

    Raises:
        UsageError: They are ragged, of another kind, out of range or not finite.
    """
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise refused("The data is ragged.", where, "rows of equal length") from error
    kind = DATATYPES[datatype]
    whole = kind.kind in "ui"
    if array.dtype.kind not in ("iu" if whole else "iuf") and array.size:
        told = "whole numbers" if whole else "numbers"
        raise refused("The data is of another kind.", where, told, array.dtype.name)
    if whole and array.size:
        bounds: Any = np.iinfo(kind)
        if array.min() < bounds.min or array.max() > bounds.max:
            raise refused("A value is out of range.", where, f"{bounds.min} to {bounds.max}")
    with np.errstate(over="ignore"):
        return _finite(array.astype(kind), where)


def _finite(array: NDArray[Any], where: str) -> NDArray[Any]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise refused("A value is not finite.", where, "finite numbers", "NaN or infinity")
    return array


def _in_shape(array: NDArray[Any], shape: tuple[int, ...], where: str) -> NDArray[Any]:
    if array.size != math.prod(shape):
        raise refused("The data does not fill the shape.", f"{where}.shape", f"{array.size} values", list(shape))
    return array.reshape(shape)


def decoded_texts(data: Iterable[Any], encoded: bool, where: str) -> list[bytes]:
    """The texts in nested lists, as UTF-8 or out of base64.

    Raises:
        UsageError: A value is none.
    """
    found: list[bytes] = []
    for value in data:
        if isinstance(value, list):
            found += decoded_texts(value, encoded, where)
            continue
        if not isinstance(value, str):
            raise refused("A value is no text.", where, "strings", type(value).__name__)
        try:
            found.append(base64.b64decode(value, validate=True) if encoded else value.encode())
        except (binascii.Error, UnicodeEncodeError) as error:
            raise refused("A text cannot be decoded.", where, received=str(error)[:120]) from error
    return found


def answered(arrays: Arrays, wire: Wire, asked: Inference, model: str, version: str) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where tensors follow in binary."""
    slots = {slot.name: slot for slot in wire.outputs}
    told, behind = [], []
    for name, parameters in asked.outputs.items():
        array, slot = arrays[name], slots[name]
        entry: dict[str, Any] = {"name": name, "datatype": slot.datatype, "shape": list(array.shape)}
        if parameters.get("binary_data", asked.binary) is True:
            behind.append(_to_binary(array, slot))
            entry["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            entry["data"] = _to_json(array)
        told.append(entry)
    named = {} if asked.id is None else {"id": asked.id}
    text = to_json({"model_name": model, "model_version": version, **named, "outputs": told})
    return b"".join([text, *behind]), len(text) if behind else None


def to_json(value: Any) -> bytes:
    """A JSON text without needless space."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def _to_json(array: NDArray[Any]) -> list[Any]:
    flat = array.reshape(-1)
    return [value.decode("utf-8", "replace") for value in flat] if array.dtype == object else flat.tolist()


def _to_binary(array: NDArray[Any], slot: Slot) -> bytes:
    if array.dtype == object:
        return b"".join(len(value).to_bytes(4, "little") + value for value in array.reshape(-1))
    return array.astype(DATATYPES[slot.datatype]).tobytes()
