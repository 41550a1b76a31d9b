"""What a run was made with and on: versions and machine, as JSON values."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import torch

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "safetensors")


def versions() -> dict[str, str]:
    """Versions of Flambeau, Python and the packages that can change a number."""
    from flambeau import __version__

    # The build of Torch (for a CUDA version, or for the CPU alone) is part of its own version only.
    found = {name: metadata.version(name) for name in PACKAGES} | {"torch": torch.__version__}
    return {"flambeau": __version__, "python": platform.python_version()} | found


def machine() -> dict[str, str | int]:
    """The operating system, the processor and how many of its cores may be used."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": cores,
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - Linux only, absent elsewhere
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
