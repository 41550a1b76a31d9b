"""A run in each format that it can be exported to: file size, memory, and time a picture.

Run it on an idle machine: `python benchmarks/export_formats.py [RUN PICTURE] [--formats onnx pt2] [--repeats 200]`.

Each file is used by a process of its own, through what `flambeau predict` uses, on one processor. Memory is the largest
resident set of that process, with all that it had to import. The time is the median of single calls, decoding of the
picture included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from made import small

import flambeau
from flambeau import catalog
from flambeau.errors import FlambeauError
from flambeau.export.formats import Format

ASK = """
import json, os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the one setting that every runtime heeds
from pathlib import Path
from flambeau.export.portable.card import format_of
from flambeau.export.portable.exported import open_exported
path, picture, repeats = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
exported = open_exported(path, format_of(path), trust_code=True)
seconds = []
for _ in range(repeats + 3):
    start = time.perf_counter()
    exported.predict([picture])
    seconds.append(time.perf_counter() - start)
seconds = sorted(seconds[3:])
status = Path("/proc/self/status").read_text()  # ru_maxrss would count the process that this one was forked from
memory = int(status.partition("VmHWM:")[2].split()[0])
print(json.dumps({"ms": 1000 * seconds[len(seconds) // 2], "mib": memory / 1024}))
"""


def variants(wanted: list[str] | None) -> list[tuple[str, str]]:
    """Formats of graphs with the weights that each can have."""
    found = []
    for name in wanted or catalog.FORMATS:
        form = catalog.find("formats", name)
        if isinstance(form, Format):
            found += [(name, weights) for weights in form.weights]
            found += [(name, "int8")] if form.quantize else []
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="A run of pictures; by default one is trained.")
    parser.add_argument("picture", type=Path, nargs="?")
    parser.add_argument("--formats", nargs="+")
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    if options.picture is None:
        with tempfile.TemporaryDirectory() as made:
            run, picture = small.run(Path(made), "compact"), small.picture(Path(made))
            table(run, picture, options.formats, options.repeats)
    else:
        table(options.run, options.picture, options.formats, options.repeats)


def table(run: Path, picture: Path, formats: list[str] | None, repeats: int) -> None:
    """Prints a line for each file."""
    print("| format | weights | file | memory of the process | a picture |\n|---|---|---|---|---|")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, weights in variants(formats):
        with tempfile.TemporaryDirectory() as folder:
            suffix = catalog.find("formats", name).suffix
            try:
                made = flambeau.export_model(run, Path(folder) / f"model{suffix}", name, weights=weights)
            except FlambeauError as error:
                print(f"| `{name}` | {weights} | {error.problem} | | |")
                continue
            command = [sys.executable, "-c", ASK, made["out"], str(picture), str(repeats)]
            done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
            told = json.loads(done.stdout) if done.returncode == 0 else None
            cost = f"{told['mib']:,.0f} MiB | {told['ms']:.2f} ms |" if told else "not asked by `predict` | |"
            print(f"| `{name}` | {weights} | {made['bytes'] / 1e6:.2f} MB | {cost}", flush=True)


if __name__ == "__main__":
    main()
