"""Finds the files of a published data set on this machine, checks their sums, and fetches them when they are nowhere.

Looked for in this order: ``data.root`` of the recipe, the folders in ``$FLAMBEAU_DATA`` (separated as in PATH),
``./data``, the user cache folder, ``/usr/share/datasets`` (Debian's layout). Then downloaded into the cache.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flambeau.data import cache
from flambeau.errors import DataError

VARIABLE = "FLAMBEAU_DATA"


@dataclass(frozen=True, slots=True)
class Layout:
    """What the files of a data set are called, where they may lie below a root, and what they must contain.

    Attributes:
        name: The data set's name here.
        sums: MD5 of each uncompressed file, by its name; under a name that ends in ``.gz`` that of the packed file.
        folders: Folders below a root to look in, torchvision's first.
        archive: A ``.tar.gz`` that may hold the files instead.
        others: MD5 sums of files that have the same names and belong to another data set.
        download: How many bytes a download takes.
    """

    name: str
    sums: Mapping[str, str]
    folders: tuple[str, ...]
    archive: str | None = None
    others: frozenset[str] = frozenset()
    download: int = 0


def cache_folder() -> Path:
    """The folder of this user that downloads are kept in."""
    return cache.base() / "data"


def roots(root: Sequence[Path | str] = ()) -> list[Path]:
    """The folders to look in, in order.

    Raises:
        DataError: A folder that was given expressly does not exist.
    """
    given = [Path(folder).expanduser() for folder in root]
    for folder in given:
        if not folder.is_dir():
            raise DataError(
                "The folder given as data.root does not exist.",
                where=folder,
                remedy="Correct data.root, or leave it out to have the usual places searched.",
            )
    stated = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return [*given, *stated, Path("data"), cache_folder(), Path("/usr/share/datasets")]


def obtain(layout: Layout, root: Sequence[Path | str], fetch: Callable[[Path], None]) -> tuple[dict[str, bytes], Path]:
    """The uncompressed content of each file by its name, and the folder or archive it came from.

    Args:
        layout: The files.
        root: Folders to look in first.
        fetch: Downloads the files below a folder; called when they were found nowhere.

    Raises:
        DataError: The files are damaged, or are nowhere and cannot be downloaded.
    """
    from flambeau.data.datasets.download import into_cache

    places = roots(root)
    damaged: list[str] = []
    found = search(layout, places, damaged)
    if found is None and damaged:
        raise DataError(
            f"The files of {layout.name} were found, but they are damaged or are not the published ones: "
            + "; ".join(damaged)
            + ".",
            expected="the published checksums",
            remedy="Remove them, so that they can be fetched again, or point data.root at another copy.",
        )
    if found is None:
        folder = cache_folder()
        into_cache(layout, folder, fetch, looked_in=places)
        found = search(layout, [folder], damaged)
    if found is None:
        raise DataError(f"The files of {layout.name} could not be read back from the cache.", where=cache_folder())
    return found


def search(layout: Layout, places: Sequence[Path], damaged: list[str]) -> tuple[dict[str, bytes], Path] | None:
    """The first complete copy below these folders; what has a wrong sum is added to ``damaged``."""
    for place in places:
        for folder in dict.fromkeys(place / below for below in layout.folders):
            if not folder.is_dir():
                continue
            for read in (_plain_files, _archived_files):
                found = read(layout, folder)
                verdict = "missing" if found is None else _verdict(layout, found[0])
                if verdict == "good":
                    return found
                if found is not None and verdict == "damaged":
                    damaged.append(str(found[1]))
    return None


def seen(layout: Layout, places: Sequence[Path]) -> Path | None:
    """Where the files of a data set seem to be: as :func:`search`, but by their names and the sum of the smallest."""
    for place in places:
        for folder in dict.fromkeys(place / below for below in layout.folders):
            if layout.archive is not None and (folder / layout.archive).is_file():
                return folder / layout.archive
            there = [_one_of(folder, name) for name in layout.sums]
            found = [path for path in there if path is not None]
            if len(found) < len(there):
                continue
            smallest = min(found, key=lambda path: path.stat().st_size)
            packed = layout.sums.get(smallest.name)
            if _sum_of(smallest, packed is None) == (packed or layout.sums[smallest.name.removesuffix(".gz")]):
                return folder
    return None


def _sum_of(path: Path, unpack: bool) -> str:
    """The MD5 of a file's content, unpacked if that is wished; of what is there, when it is damaged."""
    try:
        with gzip.open(path) if unpack and path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(_LARGEST)
    except (OSError, EOFError, zlib.error):
        content = b""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _one_of(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _verdict(layout: Layout, files: Mapping[str, bytes]) -> Literal["good", "damaged", "other"]:
    sums = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in files.items()}
    if all(sums[name] == layout.sums[name] for name in layout.sums):
        return "good"
    return "other" if all(found in layout.others for found in sums.values()) else "damaged"


_LARGEST = 256 << 20
"""No file of these sets is larger, so nothing beyond it is ever decompressed."""


def _plain_files(layout: Layout, folder: Path) -> tuple[dict[str, bytes], Path] | None:
    files: dict[str, bytes] = {}
    for name in layout.sums:
        plain, packed = folder / name, folder / f"{name}.gz"
        if plain.is_file():
            with plain.open("rb") as file:
                files[name] = file.read(_LARGEST)
        elif packed.is_file():
            try:
                with gzip.open(packed, "rb") as unpacked:
                    files[name] = unpacked.read(_LARGEST)
            except (OSError, EOFError, zlib.error):
                files[name] = b""
        else:
            return None
    return files, folder


def _archived_files(layout: Layout, folder: Path) -> tuple[dict[str, bytes], Path] | None:
    if layout.archive is None or not (folder / layout.archive).is_file():
        return None
    files: dict[str, bytes] = dict.fromkeys(layout.sums, b"")
    try:
        # Members are read one by one into memory, so no path in the archive is ever written to.
        with tarfile.open(folder / layout.archive, "r:gz") as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                content = archive.extractfile(member) if member.isreg() and name in files else None
                if content is not None:
                    files[name] = content.read(_LARGEST)
    except (tarfile.TarError, OSError, EOFError, zlib.error):
        pass
    return files, folder / layout.archive
