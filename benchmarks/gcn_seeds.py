"""The graph network of Kipf and Welling (ICLR 2017, table 2) on its own data: the mean test accuracy of ten seeds.

Claim: within one point of the paper's 81.5 % on Cora and 70.3 % on Citeseer, with the recipes `cora` and `citeseer`.

Run it as `python benchmarks/gcn_seeds.py [--seeds 10] [cora] [citeseer]`. The graphs are looked for in the folders of
FLAMBEAU_DATA.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import flambeau

PAPER = {"cora": 81.5, "citeseer": 70.3}


def accuracies(name: str, seeds: int) -> tuple[list[float], float]:
    """Test accuracy of each seed in per cent, and the seconds that a run takes on average."""
    found = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            run = flambeau.train(name, seed=seed, out=Path(folder) / str(seed), quiet=True)
            found.append(100 * run.scores["test/accuracy"])
    return found, (time.perf_counter() - start) / seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="*", default=[*PAPER], metavar="GRAPH")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    for name in options.graphs:
        found, seconds = accuracies(name, options.seeds)
        mean = statistics.mean(found)
        print(
            f"{name}: mean {mean:.2f} % of {options.seeds} seeds (lowest {min(found):.1f}, highest {max(found):.1f}), "
            f"paper {PAPER[name]:.1f} %, difference {mean - PAPER[name]:+.2f} points; {seconds:.1f} s a run"
        )


if __name__ == "__main__":
    main()
