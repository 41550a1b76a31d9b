"""Programs that are forked from a waiting process behave as those that start from nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from warm import programs

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")]

TELL = """
import os, sys
import here
print(__name__, sys.argv, os.getcwd(), os.environ["SAID"], sys.stdin.read(), here.NAME)
print("aside", file=sys.stderr)
sys.exit(3)
"""
WAIT = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print(os.getpid(), flush=True)
time.sleep(60)
"""
POOL = """
import concurrent.futures, sys
pool = concurrent.futures.ThreadPoolExecutor(2)
pool.submit(print, "done", flush=True).result()
print("aside", file=sys.stderr)
"""


def python(forked: bool) -> str | Path:
    folder = programs()
    assert folder is not None
    return folder / "python" if forked else sys.executable


def outcome(forked: bool, code: str, folder: Path) -> tuple[int, str, str]:
    environment = {**os.environ, "SAID": "yes"}
    line = [python(forked), "-c", code, "a", "--b"]
    done = subprocess.run(line, capture_output=True, text=True, input="given", cwd=folder, env=environment, timeout=60)
    return done.returncode, done.stdout, done.stderr.splitlines()[-1]


@pytest.mark.parametrize("code", [TELL, POOL, "raise ValueError('no')", "import sys; sys.exit('in words')"])
def test_arguments_streams_and_ends_are_those_of_a_fresh_process(code: str, tmp_path: Path) -> None:
    (tmp_path / "here.py").write_text("NAME = 'found'")
    assert outcome(True, code, tmp_path) == outcome(False, code, tmp_path)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 7), (signal.SIGKILL, -signal.SIGKILL)])
@pytest.mark.parametrize("forked", [True, False])
def test_signals_reach_the_process(forked: bool, number: signal.Signals, status: int) -> None:
    with subprocess.Popen([python(forked), "-c", WAIT], stdout=subprocess.PIPE, text=True) as begun:
        assert begun.stdout is not None
        child = int(begun.stdout.readline())
        assert (child != begun.pid) == forked
        # What is not to be caught cannot be handed on.
        os.kill(child if number == signal.SIGKILL else begun.pid, number)
        assert begun.wait(30) == status
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_each_has_modules_of_its_own(tmp_path: Path) -> None:
    change = "import flambeau.catalog as c; c.mark = getattr(c, 'mark', 0) + 1; print(c.mark); raise SystemExit('.')"
    assert outcome(True, change, tmp_path)[1] == outcome(True, change, tmp_path)[1] == "1\n"
