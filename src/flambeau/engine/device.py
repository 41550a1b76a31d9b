"""Which processor does the work, and how that is said."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator

import torch

from flambeau.errors import UsageError, did_you_mean

KINDS = ("auto", "cpu", "cuda", "mps")


def choose(wanted: str) -> torch.device:
    """The device of a name; ``auto`` takes CUDA, else MPS (Apple's Metal), else the CPU.

    Args:
        wanted: ``auto``, ``cpu``, ``cuda`` (or ``cuda:1``) or ``mps``.

    Raises:
        UsageError: No such device is known, or this machine does not have it.
    """
    kind, _, number = wanted.partition(":")
    if kind not in KINDS or (number and not number.isdigit()):
        raise UsageError(
            f"There is no device called {wanted!r}.",
            where="device",
            expected=f"one of {', '.join(KINDS)}",
            remedy=f"{did_you_mean(kind, KINDS)} cuda is a GPU of NVIDIA or AMD, mps one of Apple.",
        )
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if not available[kind]:
        raise UsageError(
            f"PyTorch {torch.__version__} finds no {kind} device here.",
            where="device",
            expected=" or ".join(["auto", *(name for name, there in available.items() if there)]),
            received=wanted,
            remedy="Leave --device out, or install a PyTorch build and a driver for this device.",
        )
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise UsageError(
            f"There are {torch.cuda.device_count()} CUDA devices, counted from 0.", where="device", received=wanted
        )
    return torch.device(wanted)


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside the ``with`` block all operations give the same bits every time, or fail; False changes nothing.

    Processors do so anyway, for a given number of threads; on CUDA some operations add in an order that varies.
    """
    if not wanted:
        yield
        return
    # What cuBLAS adds up in depends on its workspace, whose size must be said before it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    searching, fixed = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = searching, fixed


def describe(device: torch.device) -> str:
    """The device in words, such as ``cpu (2 threads)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads, {platform.machine()})"
    return str(device)
