"""What an exported file says about itself, read from the file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flambeau.errors import ModelError

VERSION = 1
"""Of the card; higher ones are of a newer Flambeau."""

KEY = "flambeau"
"""The key of a file's metadata that the card stands under."""

_ZIP = b"PK\x03\x04"
_EXTRA = f"/extra/{KEY}.json"
_NEEDED = {"card": int, "task": str, "graph": str, "inputs": dict, "outputs": dict, "preprocessing": dict}


@dataclass(frozen=True, slots=True)
class Card:
    """A card whose parts are of the right kinds.

    Attributes:
        path: The file that it is of.
        values: Everything it says.
    """

    path: Path
    values: Mapping[str, Any]

    @property
    def about(self) -> Mapping[str, Any]:
        """What is done to an input before it goes in, and what comes out."""
        preprocessing: Mapping[str, Any] = self.values["preprocessing"]
        return preprocessing


def read(text: str | None, path: Path, inputs: str = "") -> Card:
    """The card in a JSON text.

    Args:
        text: What stands in the file, or None.
        path: The file.
        inputs: What it takes, for the error.

    Raises:
        ModelError: There is none, it is damaged, or it is of a newer Flambeau.
    """
    if text is None:
        raise ModelError(
            "The file was not written by `flambeau export`: nothing in it says what its inputs and outputs mean.",
            where=path,
            received=f"a file that takes {inputs}" if inputs else None,
            remedy="Run it with code of your own, or export a model of Flambeau's.",
        )
    try:
        values = json.loads(text)
        wrong = [name for name, kind in _NEEDED.items() if not isinstance(values[name], kind)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError("What the file says about itself is damaged.", where=path, received=error) from error
    if wrong:
        raise ModelError("What the file says about itself is damaged.", where=path, received=", ".join(wrong))
    if values["card"] > VERSION:
        raise ModelError(
            "The file was exported by a newer Flambeau.", where=path, remedy="Upgrade Flambeau, or export it again."
        )
    return Card(path, values)


def format_of(path: Path) -> str | None:
    """The format of an exported file by its content, as ``--format`` calls it; None for anything else.

    Raises:
        ModelError: It is an archive that is damaged.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(_ZIP):
        return _format_of_members(_members(path))
    if start[4:] == b"\0\0\0\0{":  # a safetensors file: the length of its JSON, which may look like what follows
        return None
    # Protocol Buffers have no signature; a model of ONNX begins with its version, a small number in field 1.
    model = len(start) > 2 and start[0] == 0x08 and start[1] < 0x80
    return "onnx" if model or path.suffix.lower() == ".onnx" else None


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ModelError(
            "The archive is damaged or cut short.", where=path, received=error, remedy="Export the model again."
        ) from error


def _format_of_members(names: list[str]) -> str | None:
    if any("/data/aotinductor/" in name for name in names):
        return "aoti"
    if any(name.endswith("/models/model.json") for name in names):
        return "pt2"
    return "torchscript" if any(name.endswith("/constants.pkl") for name in names) else None


def in_archive(path: Path, form: str) -> str | None:
    """The text of the card in an archive of PyTorch's, without loading it; None where there is none.

    Raises:
        ModelError: The archive is damaged.
    """
    end = "_metadata.json" if form == "aoti" else _EXTRA
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith(end)), None)
            text = None if name is None else archive.read(name).decode()
        found: str | None = json.loads(text).get(KEY) if text is not None and form == "aoti" else text
    except (zipfile.BadZipFile, OSError, ValueError, AttributeError) as error:
        raise ModelError("The archive is damaged.", where=path, received=error) from error
    return found
