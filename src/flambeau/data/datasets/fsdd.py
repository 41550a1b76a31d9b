"""``fsdd``: spoken English digits, 8 kHz (Jackson and others, the Free Spoken Digit Dataset, 2016 on)."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flambeau.columns import Dataset
from flambeau.data.datasets import locate
from flambeau.data.sounds import assemble
from flambeau.errors import DataError, one_line

COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
URL = f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{COMMIT}.zip"
INFO = {
    "classes": [str(digit) for digit in range(10)],
    "licence": "CC BY-SA 4.0",
    "homepage": "https://github.com/Jakobovski/free-spoken-digit-dataset",
}

LAYOUT = locate.Layout(
    "fsdd",
    {"0_george_0.wav": "9ac95a34295c0abcf1ea39dfbd367cd6"},
    ("fsdd/recordings", "free-spoken-digit-dataset/recordings", "FSDD/recordings", "recordings", "fsdd", "FSDD", ""),
    archive="fsdd.zip",
)
"""Where it is found for a list: one recording is enough to know it by."""

TESTED = 5
"""Of each digit and speaker the recordings below this number are the official test part."""

TEST_SUM = "f4a1634e2e9613a0df3149b621bab460"
"""MD5 over the names and contents of the test part at that commit, in the order of the names."""

_NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")
_FOLDERS = ("fsdd", "free-spoken-digit-dataset", "FSDD", "")
_LARGEST = 16 << 20


def load(root: Sequence[Path] = (), *, url: str = URL) -> Dataset:
    """The data set, with splits ``train`` and ``test`` (recordings 0 to 4 of each digit and speaker).

    Columns: ``sound`` (paths, or the bytes of .wav files where they are in an archive), ``label`` int64, ``name``.
    Looked for as a folder ``recordings`` or a .zip that holds one, below ``fsdd`` or ``free-spoken-digit-dataset*``.

    Args:
        root: Folders to look in before the usual places.
        url: The archive that is downloaded when it is nowhere.

    Raises:
        DataError: The files are damaged, or are nowhere and cannot be downloaded.
    """
    places = locate.roots(root)
    found = search(places)
    if found is None:
        _fetch(url, locate.cache_folder() / "fsdd", places)
        found = search([locate.cache_folder()])
    if found is None:
        raise DataError("The recordings could not be read back from the cache.", where=locate.cache_folder())
    recordings, source = found
    split = {"train": sorted(recordings), "test": sorted(recordings)}
    split["train"] = [name for name in split["train"] if _index(name) >= TESTED]
    split["test"] = [name for name in split["test"] if _index(name) < TESTED]
    rows = {part: ([recordings[name] for name in names], [name[0] for name in names]) for part, names in split.items()}
    made = assemble(rows, name="fsdd", source=source.absolute(), names=split)
    notes = [*made.info["notes"], *_doubts(recordings, split["test"])]
    return Dataset(made.name, made.splits, {**made.info, **INFO, "notes": notes}, made.hash)


def search(places: Sequence[Path]) -> tuple[dict[str, Any], Path] | None:
    """The first copy below these folders: recordings (paths or bytes) by name, and where they are.

    Raises:
        DataError: An archive is damaged.
    """
    for place in places:
        for candidate in _candidates(place):
            if candidate.suffix == ".zip":
                recordings = _from_archive(candidate)
            else:
                recordings = {path.name: path for path in candidate.glob("*.wav") if _NAME.fullmatch(path.name)}
            if {name[0] for name in recordings} == set("0123456789"):
                return recordings, candidate
    return None


def _candidates(place: Path) -> list[Path]:
    """Folders and archives below a place that may hold the recordings."""
    if not place.is_dir():
        return []
    folders = [place / name for name in _FOLDERS if (place / name).is_dir()]
    folders += sorted(path for path in place.glob("free-spoken-digit-dataset-*") if path.is_dir())
    found = [inner for folder in folders for inner in (folder / "recordings", folder) if inner.is_dir()]
    for folder in folders:
        found += [folder / "fsdd.zip"] if (folder / "fsdd.zip").is_file() else []
        found += sorted(folder.glob("free-spoken-digit-dataset-*.zip"))
    return list(dict.fromkeys(found))


def _from_archive(path: Path) -> dict[str, Any]:
    recordings: dict[str, Any] = {}
    try:
        # Members are read one by one into memory, so no path in the archive is ever written to.
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                folder, _, name = member.filename.rpartition("/")
                if folder.rpartition("/")[2] == "recordings" and _NAME.fullmatch(name) and member.file_size <= _LARGEST:
                    recordings[name] = archive.read(member)
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(
            "The archive is damaged.",
            where=path,
            received=f"{type(error).__name__}: {error}",
            remedy="Remove it, so that it can be fetched again, or replace it.",
        ) from error
    return recordings


def _index(name: str) -> int:
    return int(name.removesuffix(".wav").rpartition("_")[2])


def _doubts(recordings: dict[str, Any], test: Sequence[str]) -> list[str]:
    """What differs from the published recordings, in sentences."""
    speakers = sorted({name.split("_")[1] for name in recordings})
    notes = [f"{len(recordings):,} recordings of {len(speakers)} speakers: {', '.join(speakers)}."]
    digest = hashlib.md5(usedforsecurity=False)
    for name in test:
        content = recordings[name]
        digest.update(name.encode() + (content if isinstance(content, bytes) else content.read_bytes()))
    if digest.hexdigest() != TEST_SUM:
        notes.append(
            f"The {len(test)} test recordings are not those of commit {COMMIT[:7]}, which scores usually mean."
        )
    return notes


def _fetch(url: str, folder: Path, looked_in: Sequence[Path]) -> None:
    """Downloads the archive into the cache; it appears there whole or not at all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"Downloading fsdd into {folder}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as private:
            target = Path(private) / "fsdd.zip"
            with urllib.request.urlopen(url, timeout=30) as answer, target.open("wb") as file:
                shutil.copyfileobj(answer, file)
            if not zipfile.is_zipfile(io.BytesIO(target.read_bytes())):
                raise OSError("what arrived is not a .zip file")
            target.replace(folder / target.name)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"fsdd is not on this machine and could not be downloaded: {one_line(error)}",
            where="fsdd",
            expected=f"a folder recordings, or free-spoken-digit-dataset-*.zip, in one of: "
            f"{', '.join(str(place) for place in looked_in)}",
            received=f"{type(error).__name__} while downloading {url}",
            remedy=f"Put the files into a folder and set {locate.VARIABLE} to it (or data.root), or try again with a "
            "network.",
        ) from error
