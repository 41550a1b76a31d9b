"""What one answer of an exported file costs: the processor time of `flambeau predict model.onnx picture.png`.

Claim: at most 0.6 seconds, everything included: Python, the command line, ONNX Runtime, reading and answering.

Run it on an idle machine: `python benchmarks/predict_onnx.py MODEL.onnx PICTURE [--repeats 9]`.

Each call is a process of its own, and its processor time is what the operating system charged it for, in user and
system mode and over all threads.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys

LIMIT = 0.6


def spent(command: list[str]) -> float:
    """The processor seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("picture")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    command = [sys.executable, "-m", "flambeau", "predict", options.model, options.picture]
    spent(command)  # compiles bytecode and fills the file cache
    seconds = sorted(spent(command) for _ in range(options.repeats))
    middle = statistics.median(seconds)
    print(f"processor seconds: median {middle:.3f}, from {seconds[0]:.3f} to {seconds[-1]:.3f}; the limit is {LIMIT}")
    return 0 if middle <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
