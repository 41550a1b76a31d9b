"""Flambeau's own wheel, made from the package as it is installed here: from a wheel, or in place for development."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from importlib import metadata
from importlib.metadata import Distribution
from pathlib import Path

from flambeau.errors import UsageError

FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every member, so that equal files make equal wheels. A ZIP archive knows no earlier one."""

INFO_FILES = ("METADATA", "entry_points.txt")
LICENSES = re.compile(r"[^/]+\.dist-info/(licenses/.+)")


def wheel() -> tuple[str, bytes]:
    """The name and the content of a wheel of this Flambeau; equal installations give equal bytes.

    Raises:
        UsageError: Flambeau runs from its source without being installed.
    """
    package = Path(__file__).parents[1]
    try:
        installed = metadata.distribution(package.name)
    except metadata.PackageNotFoundError as error:
        raise UsageError(
            "Flambeau is not installed, so that nothing says how it is to be installed elsewhere.",
            where=package,
            remedy="pip install --editable, or pip install, the folder that it is in.",
        ) from error
    name = f"{package.name}-{installed.version}"
    contents = {**files_of(package), **info_of(installed, f"{name}.dist-info")}
    return f"{name}-py3-none-any.whl", archived(contents, f"{name}.dist-info/RECORD")


def files_of(package: Path) -> dict[str, bytes]:
    """Every file of a package but what Python compiled, by the name it has in a wheel."""
    found = sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(package.parent).as_posix(): path.read_bytes() for path in found}


def info_of(installed: Distribution, folder: str) -> dict[str, bytes]:
    """What a wheel says of itself, after what the installed distribution says."""
    texts = {name: installed.read_text(name) for name in INFO_FILES}
    for path in installed.files or []:
        license_file = LICENSES.fullmatch(path.as_posix())
        if license_file:
            texts[license_file[1]] = path.read_text(encoding="utf-8")
    texts["WHEEL"] = "Wheel-Version: 1.0\nGenerator: flambeau\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return {f"{folder}/{name}": text.encode() for name, text in sorted(texts.items()) if text is not None}


def archived(contents: Mapping[str, bytes], record: str) -> bytes:
    """The files as a ZIP archive that ends in their record: the SHA-256 and the size of each."""
    lines = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in contents.items()]
    whole = {**contents, record: "".join([*lines, f"{record},,\n"]).encode()}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in whole.items():
            member = zipfile.ZipInfo(name, FIRST_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    return made.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
