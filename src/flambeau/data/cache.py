"""The user's cache: folders keyed by content that can be made again, shared by all runs and kept below a limit.

An entry appears whole or not at all. Whoever uses one holds a lock on it while the process lives, so that nobody clears
it away meanwhile; a second process that wants an entry which is being made waits for the first. Everything in here may
be deleted at any time when no training is going on.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from flambeau import files
from flambeau.errors import DataError, RunError

VARIABLE = "FLAMBEAU_CACHE"
"""Names another folder than the platform's."""

LIMIT = 50 << 30
"""Bytes of entries of all kinds together beyond which those that were not used for longest are deleted."""

KINDS = ("prepared", "unpacked")
_LOCKS = ".locks"

_held: dict[Path, int] = {}
_guard = threading.Lock()


def base() -> Path:
    """The folder of this user that everything is cached in, as each platform has it."""
    stated = os.environ.get(VARIABLE)
    if stated:
        return Path(stated).expanduser()
    if sys.platform == "win32":
        home = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "flambeau"


def entry(
    kind: str,
    key: str,
    make: Callable[[Path], None],
    *,
    whole: Callable[[Path], bool] = Path.is_dir,
    limit: int = LIMIT,
) -> Path:
    """The folder of a key; it is kept from being cleared away until this process ends.

    Args:
        kind: One of ``KINDS``.
        key: Says all that the content depends on, as letters and digits.
        make: Fills an empty folder, when there is none of this key yet.
        whole: Whether the folder that is there can be used; when not, it is made anew.
        limit: Bytes that all entries may take; older ones are deleted when a new one makes them more.

    Raises:
        DataError: The cache cannot be written.
    """
    folder = base() / kind
    path, locks = folder / key, folder / _LOCKS
    with _guard:
        if path in _held and whole(path):
            return path
        try:
            locks.mkdir(parents=True, exist_ok=True)
            with (locks / f"{key}.making").open("ab") as making:
                lock(making)
                made = not whole(path)
                if made:
                    files.remove_folder(path)
                    files.remove_leftovers(folder, f"{key}-")
                    with files.new_folder(path) as fresh:
                        make(fresh)
                _held[path] = _hold(locks / f"{key}.using")
            os.utime(path)
            if made:
                _clear(limit)
        except (OSError, RunError) as error:
            raise DataError(
                f"The cache cannot be written: {error.problem if isinstance(error, RunError) else error.strerror}",
                where=path,
                remedy=f"Free some space there, or set {VARIABLE} to a folder on a disk that has some.",
            ) from error
    return path


def _clear(limit: int) -> None:
    """Deletes what was not used for longest until the rest is within the limit; what is in use stays."""
    for kind in KINDS:
        _clear_leftovers(base() / kind)
    entries = [path for kind in KINDS for path in _entries(base() / kind)]
    sizes = {path: sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in entries}
    total = sum(sizes.values())
    for path in sorted(entries, key=lambda path: path.stat().st_mtime):
        if total <= limit:
            return
        locks = path.parent / _LOCKS
        with (locks / f"{path.name}.making").open("ab") as making, (locks / f"{path.name}.using").open("ab") as using:
            if path not in _held and lock(making, wait=False) and lock(using, wait=False):
                files.remove_folder(path)
                total -= sizes[path]


def _clear_leftovers(folder: Path) -> None:
    """Removes what was left behind by writers that were killed, which nobody else will ask for again."""
    for leftover in folder.glob(f"{files.TEMPORARY}*"):
        key = leftover.name.removeprefix(files.TEMPORARY).rpartition("-")[0]
        with (folder / _LOCKS / f"{key}.making").open("ab") as making:
            if lock(making, wait=False):
                files.remove_leftovers(folder, f"{key}-")


def _entries(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _hold(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # open until the process ends
    lock(descriptor, shared=True)
    return descriptor


def lock(file: IO[bytes] | int, *, wait: bool = True, shared: bool = False) -> bool:
    """Locks an open file; the system lets go when it is closed, or its process ends. Says whether that was possible."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # Windows itself keeps files that are in use from being deleted, so a shared lock is not needed.
            if not shared:
                descriptor = file if isinstance(file, int) else file.fileno()
                os.lseek(descriptor, 0, os.SEEK_SET)
                msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def free_bytes() -> int:
    """What is free on the disk of the cache."""
    place = next(folder for folder in (base(), *base().parents) if folder.is_dir())
    return shutil.disk_usage(place).free
