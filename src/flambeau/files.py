"""Durable writes: every byte that Flambeau means to keep goes through here.

A file appears whole or not at all: it is written under another name, flushed to the disk, and renamed. A folder of
files appears the same way and carries a ``MANIFEST.json`` with the size and SHA-256 of each, written last, so that a
reader can tell a whole folder from a damaged one. All of it goes through one :class:`Disk`, which tests replace to
fail any single operation.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flambeau.errors import FlambeauError, RunError

MANIFEST = "MANIFEST.json"
TEMPORARY = ".tmp-"


class Disk:
    """The file-system operations that a save consists of. Tests subclass it to fail one of them."""

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def open_append(self, path: Path) -> int:
        """A file opened for writing at its end; it is made when absent."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)

    def create(self, path: Path) -> int:
        """A new file opened for writing; 0o666 leaves the permissions to the user's umask."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)

    def write(self, descriptor: int, data: memoryview) -> int:
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def sync_all(self) -> None:
        if os.name != "nt":  # Windows can only flush files one by one, and keeps their order itself
            os.sync()

    def sync_folder(self, path: Path) -> None:
        if os.name == "nt":  # Windows has no handle of a folder that could be flushed
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        os.replace(source, target)  # noqa: PTH105 - Path.replace is the same call; this reads as the system call it is

    def free_bytes(self, path: Path) -> int:
        return shutil.disk_usage(path).free


_disk = Disk()


@contextlib.contextmanager
def using(disk: Disk) -> Iterator[None]:
    """Does every durable write inside the ``with`` block through another :class:`Disk`."""
    global _disk
    before, _disk = _disk, disk
    try:
        yield
    finally:
        _disk = before


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, data: bytes) -> None:
    """Writes a file that appears whole or not at all.

    Raises:
        RunError: The disk is full or cannot be written; an earlier file of that name is untouched.
    """
    temporary = path.parent / f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}"
    with _clean_failure(path, temporary):
        _disk.make_folder(path.parent)
        _write_synced(temporary, data)
        _disk.rename(temporary, path)
        _disk.sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file that appears whole or not at all."""
    write(path, to_json(value))


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Writes a folder of files, with its manifest, that appears whole or not at all.

    Args:
        path: An earlier folder of that name stays until the new one is whole beside it.
        contents: The bytes of each file, by its name.

    Raises:
        RunError: The disk is full or cannot be written; nothing half-written is left behind.
    """
    temporary = path.parent / f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}"
    with _clean_failure(path, temporary):
        _disk.make_folder(path.parent)
        _require_space(path, sum(map(len, contents.values())))
        _disk.make_folder(temporary)
        for name, data in contents.items():
            _write_synced(temporary / name, data)
        manifest = {
            "files": [
                {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in contents.items()
            ]
        }
        _write_synced(temporary / MANIFEST, to_json(manifest))
        _disk.sync_folder(temporary)
        if path.exists():
            # A folder cannot be renamed onto another that holds something.
            remove_folder(path)
        _disk.rename(temporary, path)
        _disk.sync_folder(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears whole or not at all: filled under another name in the ``with`` block, then renamed.

    Whoever fills it sees to it that the files reach the disk: by :func:`in_parts`, or :func:`sync_all` for very many.

    Raises:
        RunError: The disk is full or cannot be written; nothing half-written is left behind.
    """
    temporary = path.parent / f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}"
    with _clean_failure(path, temporary):
        _disk.make_folder(path.parent)
        _disk.make_folder(temporary)
        yield temporary
        _disk.sync_folder(temporary)
        _disk.rename(temporary, path)
        _disk.sync_folder(path.parent)


@contextlib.contextmanager
def in_parts(path: Path) -> Iterator[Callable[[memoryview], None]]:
    """A new file that is written part by part, by the function that comes out, and flushed at the end.

    For files in a :func:`new_folder`, since by itself it does not appear in one step.
    """
    descriptor = _disk.create(path)
    try:
        yield lambda part: _write_whole(descriptor, part)
        _disk.sync(descriptor)
    finally:
        os.close(descriptor)


def sync_all() -> None:
    """Flushes everything that was written to any file: far faster than one by one where there are thousands."""
    _disk.sync_all()


def read_folder(path: Path) -> dict[str, bytes]:
    """The files of a folder written by :func:`write_folder`, each checked against the manifest.

    Raises:
        RunError: A file is missing, or its size or SHA-256 is not the manifest's.
    """
    try:
        entries = json.loads((path / MANIFEST).read_bytes())["files"]
        contents = {}
        for entry in entries:
            name = entry["path"]
            if Path(name).name != name or not (path / name).is_file():
                raise RunError("The manifest names something that is not a file of this folder.", where=path / MANIFEST)
            if (path / name).stat().st_size != entry["size"]:
                raise RunError("The file does not have the size that its manifest records.", where=path / name)
            data = (path / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise RunError("The file does not have the checksum that its manifest records.", where=path / name)
            contents[name] = data
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"The folder is not whole ({error}).", where=path) from error
    return contents


def point_link(link: Path, target: str) -> None:
    """Makes a symbolic link point to a sibling folder, replacing an earlier link in one step.

    Nothing depends on such a link, so a system that has none goes without.
    """
    temporary = link.parent / f"{TEMPORARY}{link.name}-{secrets.token_hex(4)}"
    with contextlib.suppress(OSError, NotImplementedError):
        temporary.symlink_to(target)
        _disk.rename(temporary, link)


def remove_folder(path: Path) -> None:
    """Removes a folder, by way of a temporary name, so that a folder of that name is whole or absent."""
    doomed = path.parent / f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}"
    with contextlib.suppress(OSError):
        path.rename(doomed)
        shutil.rmtree(doomed)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Removes what interrupted writes (of a file or folder of this name) left. Only for the holder of the lock."""
    for leftover in folder.glob(f"{TEMPORARY}{name}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


class Journal:
    """A file of JSON lines that only grows, such as ``metrics.jsonl``.

    Args:
        path: Is made when absent.
        length: Bytes to keep; what lies beyond (written after the checkpoint that is resumed) is cut off.

    Attributes:
        missing: Bytes that should have been kept and are not there.

    Raises:
        RunError: Here and in every method: the disk is full or cannot be written.
    """

    def __init__(self, path: Path, length: int | None = None) -> None:
        self.path = path
        self.missing = 0
        with _said(path):
            self._descriptor = _disk.open_append(path)
            if length is not None:
                self.missing = max(0, length - self._size())
                # Cutting a file to more than it has would fill it up with zeros.
                os.ftruncate(self._descriptor, min(length, self._size()))

    def append(self, value: Mapping[str, Any]) -> None:
        """Adds one line."""
        with _said(self.path):
            _write_whole(self._descriptor, to_json_line(value))

    def sync(self) -> int:
        """Flushes the lines to the disk and says how many bytes there are."""
        with _said(self.path):
            _disk.sync(self._descriptor)
            return self._size()

    def close(self) -> None:
        os.close(self._descriptor)

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal; a last line that was not written to its end is left out."""
    lines = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder for this process alone. The system lets go of the lock when the process ends, however it ends.

    Raises:
        RunError: Another process holds it.
    """
    with (folder / "LOCK").open("a") as file:
        if not _try_lock(file.fileno()):
            raise RunError(
                "Another process is working on this run.",
                where=folder,
                remedy="Wait for it or stop it; a run belongs to one process at a time.",
            )
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def to_json(value: Any) -> bytes:
    """JSON for people: indented, in UTF-8, with a final newline."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def to_json_line(value: Mapping[str, Any]) -> bytes:
    """One line of JSON. A number that is not finite becomes null, which JSON can hold."""
    clean = {key: None if isinstance(item, float) and item - item != 0 else item for key, item in value.items()}
    return (json.dumps(clean, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _write_synced(path: Path, data: bytes) -> None:
    descriptor = _disk.create(path)
    try:
        _write_whole(descriptor, data)
        _disk.sync(descriptor)
    finally:
        os.close(descriptor)


def _write_whole(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        written = _disk.write(descriptor, view)
        if written <= 0:
            raise OSError(errno.EIO, "nothing more was written")
        view = view[written:]


def _require_space(path: Path, size: int) -> None:
    free = _disk.free_bytes(path.parent)
    if free < size:
        raise OSError(errno.ENOSPC, f"{size:,} bytes are needed and {free:,} are free")


@contextlib.contextmanager
def _clean_failure(path: Path, temporary: Path) -> Iterator[None]:
    """Removes what a failed write left behind, and turns a system error into one that says what to do."""
    try:
        yield
    except BaseException as error:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _as_run_error(error, path) from error
        raise


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turns a system error into one that says what to do."""
    try:
        yield
    except OSError as error:
        raise _as_run_error(error, path) from error


def _as_run_error(error: OSError, path: Path) -> FlambeauError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return RunError(
        f"It could not be written: {error.strerror or error}.",
        where=path,
        remedy="Free some space and resume; what was saved before is intact."
        if full
        else "Check that the folder can be written to; what was saved before is intact.",
    )
