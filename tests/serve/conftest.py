"""Puts what these tests share on the path, and trains small models of several kinds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "contracts")]

Small = Callable[[str], Path]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The run of a small model of a task, trained when it is first asked for. Not to be changed."""
    base = tmp_path_factory.mktemp("small")

    @cache
    def run(task: str) -> Path:
        from small_data import case

        import flambeau

        folder = base / task
        folder.mkdir()
        found = case(task)
        source, settings = found.write(folder), found.all_settings()
        return flambeau.train(source, task=task, settings=settings, device="cpu", out=folder / "run", quiet=True).path

    return run
