"""Where the time of a run goes, and what is said about it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_toys import PLAIN, accuracy, batch, classification, network, state_of

from flambeau.core import Batch, Record, State, Stream
from flambeau.engine.loop import Plan, train
from flambeau.report import run as sections
from flambeau.run import Run
from flambeau.workflow.spending import Clock, bottlenecks

PAUSE = 0.02


def test_each_purpose_is_charged_with_its_own_time() -> None:
    def slow(number: int, start: int) -> Iterator[Batch]:
        for row in range(start, 5):
            time.sleep(PAUSE)
            yield batch(seed=row)

    def dawdle(record: Record, state: State) -> None:
        time.sleep(2 * PAUSE)

    seconds: dict[str, float] = {}
    clock = Clock(seconds)
    began, records = time.monotonic(), 0
    for record in train(
        state_of(network(), classification()), clock.timing(Plan(Stream(slow, 5), 2, PLAIN, accuracy()))
    ):
        clock.lap("validate" if record.kind == "epoch" else "train")
        clock.show({"log": [dawdle], "checkpoint": []}, record, state_of(network(), classification()))
        records += 1
    whole = time.monotonic() - began
    assert records == 14 and seconds["data"] >= 10 * PAUSE and seconds["log"] >= 28 * PAUSE
    assert sum(seconds.values()) == pytest.approx(whole, abs=0.05)
    assert seconds["train"] < whole - 38 * PAUSE + 0.05


def test_what_takes_too_long_is_named_the_most_first_and_with_a_remedy() -> None:
    spent = {"train": 50.0, "data": 20.0, "checkpoint": 30.0, "validate": 9.0, "setup": 500.0, "report": 80.0}
    first, second = bottlenecks(spent)
    assert first.startswith("Writing checkpoints took 28 % of the time of training.") and "faster disk" in first
    assert second.startswith("Preparing batches took 18 % of the time of training.")
    assert bottlenecks({"train": 95.0, "data": 5.0}) == []
    assert bottlenecks({"train": 1.0, "data": 8.0}) == [], "too short to tell"


def test_the_report_says_it_above_the_bars() -> None:
    section = sections.seconds({"train": 60.0, "data": 40.0, "total": 110.0}, ["Preparing batches took 40 %."])
    assert section is not None and section.html.index("Preparing batches took 40 %.") < section.html.index("bars")


def test_a_run_counts_apart_what_it_did(trained: Path) -> None:
    seconds = Run(trained).info["seconds"]
    assert {"setup", "train", "data", "log", "checkpoint", "validate", "test", "report", "total"} <= seconds.keys()
    assert sum(value for name, value in seconds.items() if name != "total") <= seconds["total"] + 0.1
