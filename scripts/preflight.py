"""Says what setting up will download, and stops before it when this Python cannot do it.

Runs under whatever Python the machine has, so it uses the standard library alone and syntax that Python 3.6 reads.
"""

import argparse
import os
import platform
import sys

CUDA = ("about 3.1 GB", "6 GB", "PyTorch with CUDA")
PLAIN = ("about 0.3 GB", "1.2 GB", "PyTorch for the CPU")
APPLE = ("about 0.3 GB", "1 GB", "PyTorch for Apple's processors")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", choices=["cpu"], help="cpu: PyTorch's CPU build, from PyTorch's own index.")
    choice = parser.parse_args().torch
    problem, remedy = trouble()
    if problem:
        print(f"error: {problem}\n  what to do: {remedy}", file=sys.stderr)
        return 2
    download, disk, what = sizes(choice)
    print(f"Setting up Flambeau in .venv with Python {platform.python_version()}.")
    print(f"  It will download {download} ({what} and what it needs) and take {disk} of disk.")
    print(f"  From: your package index{cpu_index(choice)}. What pip has in its cache is not fetched again.")
    if what == CUDA[2]:
        print("  Without an NVIDIA GPU, a tenth of that is enough: stop this and run make demo TORCH=cpu")
    sys.stdout.flush()
    return 0


def trouble() -> "tuple[str, str]":
    """What is missing here and the line that helps, or two empty texts."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the Python that runs this may be any
        return (
            f"Flambeau needs Python 3.11 or newer; {sys.executable} is {platform.python_version()}.",
            "install a newer one and name it: make demo PYTHON=python3.12",
        )
    try:
        import ensurepip  # noqa: F401 - Debian packages it, and so a working venv, apart from Python
        import venv  # noqa: F401
    except ImportError:
        name = os.path.basename(sys.executable)  # noqa: PTH119 - read by old Pythons too
        package = "{}-venv".format(name if name.startswith("python3") else "python3")
        return (
            "This Python has no working venv module.",
            f"sudo apt install {package}    (Debian, Ubuntu; without sudo when you are root)",
        )
    return "", ""


def sizes(choice: str) -> "tuple[str, str, str]":
    """Download, disk and name of the PyTorch build that pip picks on this machine."""
    if sys.platform == "darwin":
        return APPLE
    if choice == "cpu" or sys.platform == "win32":
        return PLAIN
    return CUDA


def cpu_index(choice: str) -> str:
    return " and download.pytorch.org (PyTorch's own)" if choice == "cpu" else ""


if __name__ == "__main__":
    sys.exit(main())
