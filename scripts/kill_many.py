"""Kills a training process N times at random moments, resumes each time, and compares the end bit for bit.

``python scripts/kill_many.py [N] [--seed S]``; each kill takes some seconds on two cores.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from killing import Kill, carry_on, differences, fingerprint, kill


def any_kill(draw: random.Random) -> Kill:
    """A moment somewhere in the child's 48 steps, 3 validations, or any of its saves."""
    interval = draw.choice([0.0, 0.03, 1000.0])
    moment = draw.choice(["step", "step", "validate", "rename"])
    saves = 48 if interval == 0 else 3
    number = {"step": draw.randint(1, 48), "validate": draw.randint(1, 3), "rename": draw.randint(1, saves)}[moment]
    return Kill(draw.choice(["adamw", "sgd"]), moment, number, interval)


def main() -> int:
    """Kills so many times; the exit code is 0 when nothing ever differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw, failures = random.Random(asked.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        references = {}
        for config in ("adamw", "sgd"):
            run = Path(folder) / config / "run"
            carry_on(run, config)
            references[config] = fingerprint(run)
        for number in range(1, asked.kills + 1):
            wanted = any_kill(draw)
            # The model file holds the name of its run, so all the runs have the same one.
            run = Path(folder) / str(number) / "run"
            if kill(run, wanted) != -signal.SIGKILL:
                raise SystemExit(f"{wanted}: the process had finished")
            carry_on(run, wanted.config)
            found = differences(run, references[wanted.config])
            failures += bool(found)
            print(
                f"{number}/{asked.kills}  {wanted}  {'equal' if not found else 'DIFFERS: ' + ', '.join(found)}",
                flush=True,
            )
    print(f"{asked.kills - failures} of {asked.kills} killed runs ended in the same bits as the run never killed")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
