"""Archives of data, ``.zip`` and ``.tar`` with or without compression: unpacked once into the cache, never elsewhere.

What is in one is not to be trusted. Nothing is written outside the entry of the cache, no link is made, and how much an
archive may hold is bounded by what it declares and by what comes out.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from flambeau import files
from flambeau.data import cache
from flambeau.data.splits import SPLIT_FOLDERS
from flambeau.errors import DataError, one_line

ENDINGS = (".zip", ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")

_CHUNK = 1 << 20
_ENCRYPTED = 0x1
_OPENERS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
"""What opens a compressed file, by the bytes that it begins with."""

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may hold.

    Attributes:
        members: Files and folders.
        size: Bytes, unpacked.
        ratio: Bytes unpacked for each byte of the archive, when it is more than ``harmless`` bytes.
    """

    members: int = 2_000_000
    size: int = 200 << 30
    ratio: int = 100
    harmless: int = 256 << 20


def is_archive(path: Path) -> bool:
    """Whether a path is a file whose name ends as those of archives do."""
    return path.name.lower().endswith(ENDINGS) and path.is_file()


def title_of(path: Path) -> str:
    """What the data in an archive is called: its name without the ending."""
    lower = path.name.lower()
    return path.name[: -max(len(ending) for ending in ENDINGS if lower.endswith(ending))] or "archive"


def unpacked(path: Path, limits: Limits = Limits()) -> Path:
    """The folder, or the only file, that an archive holds, in the cache; unpacked when it is not there yet.

    A single folder at the top is gone into, unless it is one of a split.

    Raises:
        DataError: It is damaged or encrypted, holds too much, or something that could do harm: paths that lead
            elsewhere, links, devices.
    """
    try:
        key = files.sha256(path)[:32]
    except OSError as error:
        raise DataError(f"The archive cannot be read: {error.strerror}.", where=path) from error
    entry = cache.entry("unpacked", key, lambda folder: unpack(path, folder / "content", limits))
    found = entry / "content"
    while True:
        inside = [inner for inner in found.iterdir() if not inner.name.startswith(".") and inner.name != "__MACOSX"]
        if len(inside) != 1 or inside[0].name.lower() in SPLIT_FOLDERS:
            return found
        found = inside[0]
        if found.is_file():
            return found


def unpack(path: Path, folder: Path, limits: Limits = Limits()) -> None:
    """Writes what an archive holds into a new folder.

    Raises:
        DataError: As for :func:`unpacked`; the folder is then not to be used.
    """
    folder.mkdir()
    budget = _Budget(path, limits)
    with _said(path):
        if path.name.lower().endswith(".zip"):
            _unpack_zip(path, folder, budget)
        else:
            _unpack_tar(path, folder, budget)
    if not any(folder.iterdir()):
        raise DataError("The archive is empty.", where=path)
    files.sync_all()


class _Budget:
    """What has come out of an archive so far."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self.limits = limits
        self.members = 0
        self.size = 0
        self.most = min(limits.size, max(limits.harmless, limits.ratio * path.stat().st_size))

    def add(self, *, members: int = 0, size: int = 0) -> None:
        """Counts what is about to come out."""
        self.members += members
        self.size += size
        if self.members > self.limits.members:
            self._refuse(f"more than {self.limits.members:,} files", f"at most {self.limits.members:,}")
        if self.size > self.most:
            expected = f"at most {self.limits.ratio} times its size, and {self.limits.size >> 30} GiB"
            self._refuse(f"more than {self.most:,} bytes", expected)

    def _refuse(self, what: str, expected: str) -> None:
        raise DataError(
            f"The archive unpacks to {what}, which no collection of data does.",
            where=self.path,
            expected=expected,
            remedy="Unpack it yourself, if you know what it is, and give the folder.",
        )


def _unpack_zip(path: Path, folder: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        budget.add(members=len(members))
        # What is declared is refused before anything is written; copying then holds it to what it declares.
        declared = sum(member.file_size for member in members)
        budget.add(size=declared)
        if declared > cache.free_bytes():
            raise DataError(
                f"The archive unpacks to {declared:,} bytes, and {cache.free_bytes():,} are free.",
                where=path,
                remedy=f"Free some space, or set {cache.VARIABLE} to a folder on another disk.",
            )
        for member in members:
            if member.flag_bits & _ENCRYPTED:
                raise DataError("The archive is encrypted.", where=path, remedy="Unpack it and give the folder.")
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _harmful(path, member.filename, "a link or a device")
            target = _target(path, folder, member.filename)
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                with archive.open(member) as source:
                    _copy(source, target, path, member.filename)


def _unpack_tar(path: Path, folder: Path, budget: _Budget) -> None:
    with path.open("rb") as file:
        start = file.read(6)
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    with opener(path) if opener else path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            budget.add(members=1, size=member.size)
            if not (member.isreg() or member.isdir()):
                raise _harmful(path, member.name, "a link or a device")
            target = _target(path, folder, member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            source = archive.extractfile(member)
            if source is not None:
                _copy(source, target, path, member.name)
        # A compressed file has its checksum at its end, which lies behind that of the archive.
        while rest := stream.read(_CHUNK):
            budget.add(size=len(rest))


def _target(path: Path, folder: Path, name: str) -> Path:
    """Where a member goes, which is inside the folder."""
    inner = PurePosixPath(name.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts or (inner.parts and ":" in inner.parts[0]):
        raise _harmful(path, name, "a path that leads out of it")
    return folder.joinpath(*inner.parts)


def _harmful(path: Path, name: str, what: str) -> DataError:
    return DataError(
        f"The archive holds {what}: {name[:200].encode('utf-8', 'backslashreplace').decode()}",
        where=path,
        expected="regular files and folders inside it",
        remedy="Nothing was unpacked. If you know where it comes from, unpack it yourself and give the folder.",
    )


def _copy(source: IO[bytes], target: Path, path: Path, name: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("xb") as out:
            while chunk := source.read(_CHUNK):
                out.write(chunk)
    except FileExistsError as error:
        raise DataError(f"The archive holds the same file twice: {name[:200]}", where=path) from error


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turns what the readers of archives raise into an error that names the file; a full disk is left to the cache."""
    try:
        yield
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    except RuntimeError as error:  # so zipfile says that it lacks a password, or a module
        raise DataError(f"The archive cannot be unpacked: {error}", where=path) from error
    except OSError as error:
        # Without a number, gzip and bz2 say that their data are damaged; EINVAL is a place before the file's beginning.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        "The archive is damaged, or is none.",
        where=path,
        received=one_line(error),
        remedy="Fetch or make it again.",
    )
