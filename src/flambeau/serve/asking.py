"""The plain way to ask: a file, a text, several in a form, or a list in JSON, as raw inputs with their names."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import numpy as np

from flambeau.serve.bodies import Refused
from flambeau.serve.tensors import decoded_texts, numbers, parse_json, refused, require_rows, require_shape
from flambeau.wire import Wire, objects

Named = list[tuple[str, Any]]
"""For each input the name that it came under, which may be empty, and the raw value."""


async def inputs_of(body: bytes, headers: Mapping[str, str], wire: Wire, most: int) -> Named:
    """The raw inputs in a body, by its ``Content-Type``.

    Args:
        body: All of it.
        headers: Of the request.
        wire: What the model takes.
        most: Inputs that are taken on.

    Raises:
        Refused: The body is of a kind that the model cannot be asked with.
        UsageError: It is not what its kind says, or holds too many inputs.
        BadRows: Inputs are no raw ones.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        parts = _listed(parse_json(body), wire)
    elif kind == "multipart/form-data" and (wire.text or wire.files):
        parts = await _form(body, headers, most)
    elif _plain(kind, wire):
        parts = [("", body)]
    else:
        raise Refused(
            415,
            "The body is of a kind that this model cannot be asked with.",
            expected=", ".join(_kinds(wire)),
            received=kind[:80] or "no Content-Type",
            where="Content-Type",
        )
    if not parts:
        raise refused("There is nothing to predict in the body.", "body", "at least one input", "none")
    require_rows(len(parts), most)
    names = [name for name, _ in parts]
    if wire.text or wire.files:
        column = objects([value for _, value in parts])
    else:
        column = np.array([value for _, value in parts])
    return list(zip(names, wire.raw(column), strict=True))


def _kinds(wire: Wire) -> list[str]:
    own = {"picture": "image/*", "sound": "audio/*"}.get(wire.form)
    files = [*([own] if own else []), "application/octet-stream"] if wire.files else []
    several = ["multipart/form-data"] if wire.text or wire.files else []
    return [*files, *(["text/plain"] if wire.text else []), *several, "application/json"]


def _plain(kind: str, wire: Wire) -> bool:
    """Whether a body of this kind is one input as it stands. Plain clients often say nothing, or what curl says."""
    if wire.text:
        return kind in ("text/plain", "application/octet-stream", "application/x-www-form-urlencoded", "")
    own = {"picture": "image/", "sound": "audio/"}.get(wire.form, "\0")
    return wire.files and (
        kind.startswith(own) or kind in ("application/octet-stream", "application/x-www-form-urlencoded", "")
    )


async def _form(body: bytes, headers: Mapping[str, str], most: int) -> list[tuple[str, bytes]]:
    """Every file and field of a form, in order."""
    from starlette.datastructures import Headers, UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    parser = MultiPartParser(
        Headers(dict(headers)), stream(), max_files=most + 1, max_fields=most + 1, max_part_size=len(body) + 1
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        told = getattr(error, "message", str(error))
        raise refused("The form cannot be read.", "body", "multipart/form-data", told[:200]) from error
    parts: list[tuple[str, bytes]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            parts.append((value.filename or name, await value.read()))
        else:
            parts.append((name, value.encode("utf-8", "surrogateescape")))
    await form.close()
    return parts


def _listed(asked: Mapping[str, Any], wire: Wire) -> list[tuple[str, Any]]:
    """The list under ``inputs``: texts, files in base64, or numbers."""
    values = asked.get("inputs")
    if not isinstance(values, list):
        raise refused("The request has no inputs.", "inputs", "a list", type(values).__name__)
    if wire.text or wire.files:
        return [("", value) for value in decoded_texts(values, encoded=wire.files, where="inputs")]
    array = numbers(values, wire.input.datatype, "inputs")
    require_shape(array, wire.input.shape, "inputs")
    return [("", row) for row in array]
