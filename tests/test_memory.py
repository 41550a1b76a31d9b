"""Freed memory stays in the process."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from flambeau.engine.memory import keep_freed_memory
import numpy as np

done = keep_freed_memory() if {keep} else None
for _ in range(3):
    np.ones(10_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(10_000_000)
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(keep: bool, **more: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, **more},
    )
    return done.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library here is not glibc")
def test_large_blocks_are_not_asked_for_again_and_again() -> None:
    (_, without), (done, kept) = run(False), run(True)
    assert done == "True"
    # 5 blocks of 80 MB, in pages of 4 KB (or, where the system takes larger ones, fewer).
    assert int(kept) < int(without) / 5


def test_what_the_environment_says_is_respected() -> None:
    assert run(True, MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
