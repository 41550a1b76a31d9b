"""How the C library deals with memory that has been freed."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of glibc's ``mallopt``."""

KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Keeps up to a gigabyte of freed memory in the process, on Linux with glibc; elsewhere it does nothing.

    Each step of training frees what the one before it needed, and asks for as much again. By itself glibc gives large
    blocks back to the system at once and gets them anew, empty; writing zeros into them took 5 to 10 % of a processor's
    time. What a process needs at most does not change. Environment variables that set the same, ``MALLOC_...`` or
    ``GLIBC_TUNABLES``, are respected.

    Returns:
        Whether it was done.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, KEPT)) and bool(mallopt(_TRIM_THRESHOLD, KEPT))
