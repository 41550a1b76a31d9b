"""What one answer of an exported file costs: the processor time of `flambeau predict model.onnx picture.png`.

Claim: at most 0.6 seconds, everything included: Python, the command line, ONNX Runtime, reading and answering.

Run it on an idle machine: `python benchmarks/predict_onnx.py [MODEL.onnx PICTURE] [--repeats 9]`.

Each call is a process of its own, and its processor time is what the operating system charged it for, in user and
system mode and over all threads.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT = 0.6


def spent(command: list[str]) -> float:
    """The processor seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def exported(folder: Path) -> tuple[str, str]:
    """A small model in ONNX, and a picture for it."""
    from made import small

    import flambeau

    made = flambeau.export_model(small.run(folder, "compact"), folder / "model.onnx", "onnx")
    return made["out"], str(small.picture(folder))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="A model in ONNX; by default one is trained and exported.")
    parser.add_argument("picture", nargs="?")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        given = (options.model, options.picture) if options.picture else exported(Path(made))
        command = [sys.executable, "-m", "flambeau", "predict", *given]
        spent(command)  # compiles bytecode and fills the file cache
        seconds = sorted(spent(command) for _ in range(options.repeats))
    middle = statistics.median(seconds)
    print(f"processor seconds: median {middle:.3f}, from {seconds[0]:.3f} to {seconds[-1]:.3f}; the limit is {LIMIT}")
    return 0 if middle <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
