"""The model file's format: a safetensors file whose single metadata entry describes it, checked before it is believed.

Layout: 8 bytes with the header's length, the header (JSON: dtype, shape and place of each tensor, and the metadata),
the tensors' bytes. The metadata's one key is ``flambeau``, a JSON text in a fixed key order; its ``sha256`` is over
itself with that field empty, its ``tensors_sha256`` over the tensors' bytes, its ``layout_sha256`` over their names,
types, shapes and places.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from safetensors import SafetensorError
from torch import Tensor

from flambeau.errors import ModelError

KEY = "flambeau"
LARGEST_HEADER = 32 * 2**20
MOST_TENSORS = 50_000


class Description(BaseModel):
    """What a model file says about itself. The order of the fields is the order in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    sha256: str = ""
    tensors_sha256: str = ""
    layout_sha256: str = ""
    task: str
    architecture: dict[str, Any]
    facts: dict[str, Any]
    recipe: dict[str, Any]
    data: dict[str, Any]
    scores: dict[str, float] = {}
    calibration: dict[str, float] = {}
    provenance: dict[str, str] = {}
    aliases: dict[str, str] = {}

    @field_validator("architecture")
    @classmethod
    def _is_an_architecture(cls, value: dict[str, Any]) -> dict[str, Any]:
        named = isinstance(value.get("name"), str) and isinstance(value.get("arguments"), dict)
        if not named or not isinstance(value.get("source"), str | None):
            raise ValueError("an architecture has a name, arguments, and the source text of a class or none")
        return value


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a model file before its tensors are read.

    Attributes:
        path: The file.
        description: What it says about itself, with its own checksum verified.
        shapes: The shape of each tensor, by name.
        data_start: Where the tensors' bytes begin.
    """

    path: Path
    description: Description
    shapes: dict[str, tuple[int, ...]]
    data_start: int

    def read_tensors(self) -> dict[str, Tensor]:
        """The tensors, after their bytes were checked.

        Raises:
            ModelError: The bytes are not those that were written.
        """
        content = self.path.read_bytes()
        if hashlib.sha256(memoryview(content)[self.data_start :]).hexdigest() != self.description.tensors_sha256:
            raise _damaged(self.path, "the tensors do not have the checksum that the file records")
        try:
            return safetensors.torch.load(content)
        except (SafetensorError, ValueError, KeyError) as error:
            raise _damaged(self.path, str(error)) from error


def pack(plain: bytes, description: Description) -> bytes:
    """A model file: a plain safetensors file with its description put into the header.

    Args:
        plain: What ``safetensors.torch.save`` gives.
        description: Without checksums; they are computed here.
    """
    (length,) = struct.unpack("<Q", plain[:8])
    header, data = json.loads(plain[8 : 8 + length]), plain[8 + length :]
    sums = {"tensors_sha256": hashlib.sha256(data).hexdigest(), "layout_sha256": _layout_checksum(header), "sha256": ""}
    described = description.model_copy(update=sums)
    text = _with_own_checksum(described)
    packed = json.dumps({"__metadata__": {KEY: text}, **header}, separators=(",", ":")).encode()
    packed += b" " * (-len(packed) % 8)
    return struct.pack("<Q", len(packed)) + packed + data


def read_header(path: Path) -> Header:
    """Reads and checks everything but the tensors.

    Raises:
        ModelError: There is no such file, it is damaged, or it was not made by Flambeau.
    """
    raw, size = _raw_header(path)
    try:
        header = json.loads(raw)
        metadata = header.pop("__metadata__", None) or {}
        text = metadata.get(KEY)
        shapes = {name: tuple(int(side) for side in entry["shape"]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, "its header is not that of a safetensors file") from error
    if text is None:
        raise ModelError(
            "This is a safetensors file, but not a model of Flambeau: it carries no description.",
            where=path,
            remedy="flambeau import turns bare weights into a model.",
        )
    if len(shapes) > MOST_TENSORS:
        raise _damaged(path, f"it declares {len(shapes):,} tensors, and at most {MOST_TENSORS:,} are accepted")
    _check_places(path, header, size - 8 - len(raw))
    description = _description(path, text)
    if _layout_checksum(header) != description.layout_sha256:
        raise _damaged(path, "its tensors' names, types, shapes or places are not those that it records")
    return Header(path, description, shapes, 8 + len(raw))


def _raw_header(path: Path) -> tuple[bytes, int]:
    try:
        if not path.is_file():
            problem = "There is no such file." if not path.exists() else "This is not a regular file."
            raise ModelError(problem, where=path, expected="a model.safetensors file or a run folder")
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(LARGEST_HEADER, size - 8):
                raise _damaged(path, "it does not begin like a safetensors file", _EXPORTED)
            return file.read(length), size
    except OSError as error:
        raise ModelError(f"The file cannot be read ({error.strerror}).", where=path) from error


def _check_places(path: Path, header: dict[str, Any], available: int) -> None:
    """The tensors must fill the rest of the file, one after another; then no shape can claim more than is there."""
    end = 0
    try:
        if not all(entry.keys() == {"dtype", "shape", "data_offsets"} for entry in header.values()):
            raise KeyError("an entry is not that of a tensor")
        if not all(isinstance(entry["dtype"], str) for entry in header.values()):
            raise TypeError("a type is not a name")
        for start, stop in sorted(tuple(entry["data_offsets"]) for entry in header.values()):
            if start != end or stop < start:
                raise _damaged(path, "its tensors overlap or leave gaps")
            end = stop
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, "its header is not that of a safetensors file") from error
    if end != available:
        raise _damaged(path, f"its tensors should take {end:,} bytes, and {available:,} are there")


def _description(path: Path, text: object) -> Description:
    try:
        description = Description.model_validate_json(str(text))
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, item["loc"])) or "text" for item in error.errors()[:3])
        raise _damaged(path, f"its description is not valid ({fields})") from error
    if json.loads(_with_own_checksum(description.model_copy(update={"sha256": ""})))["sha256"] != description.sha256:
        raise _damaged(path, "its description does not have the checksum that it records")
    return description


def _with_own_checksum(description: Description) -> str:
    document = description.model_dump(mode="json")
    empty = json.dumps(document, ensure_ascii=False)
    document["sha256"] = hashlib.sha256(empty.encode()).hexdigest()
    return json.dumps(document, ensure_ascii=False)


def _layout_checksum(header: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


_EXPORTED = " A file written by `flambeau export` can be asked and inspected; all else takes the run."


def _damaged(path: Path, reason: str, further: str = "") -> ModelError:
    return ModelError(
        f"The model file is damaged or not a model: {reason}.",
        where=path,
        remedy=f"Copy it anew from where it came from, or save it again from its run.{further}",
    )
