"""Rows that do not fit into memory: read into the cache and mapped from there, with the same bits as in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from PIL import Image
from safetensors.torch import load_file

import flambeau
from flambeau import recipe as recipes
from flambeau.columns import Dataset
from flambeau.data import cache, mapped
from flambeau.data.folders import scan
from flambeau.data.mapped import META
from flambeau.data.prepare import prepare
from flambeau.errors import BadRows, DataError
from flambeau.tasks.image_classification import TASK

SMALL = ("model.width=4", "train.batch_size=16", "log.tensorboard=false", "images.size=96")
"""48 pictures of 96 x 96 pixels take 1.3 MB, more than the least that can be allowed."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def prepared(dataset: Dataset, memory: Any = 1, **data: Any) -> Dataset:
    return prepare(dataset, TASK, recipes.parse({"data": {"memory": memory, **data}, "images": {"size": 96}}))[1]


def entries(own_cache: Path) -> list[Path]:
    return sorted((own_cache / "prepared").glob("[!.]*"))


@pytest.mark.slow
def test_training_from_the_map_gives_the_same_bits(tmp_path: Path, pictures: Path, own_cache: Path) -> None:
    runs = {
        memory: flambeau.train(
            pictures,
            model="compact",
            epochs=2,
            settings=[*SMALL, f"data.memory={memory}"],
            out=tmp_path / str(memory),
            device="cpu",
            quiet=True,
        )
        for memory in ("auto", 1)
    }
    one, other = (load_file(run.path / "model.safetensors") for run in runs.values())
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert len({(run.path / "metrics.jsonl").read_bytes() for run in runs.values()}) == 1
    assert runs["auto"].scores == runs[1].scores
    told = [note for note in runs[1].info["notes"] if "more memory than data.memory allows (1 MB)" in note]
    assert len(told) == 1 and str(own_cache / "prepared") in told[0]
    assert not any("data.memory" in note for note in runs["auto"].info["notes"])
    made = {path: path.stat().st_ino for path in entries(own_cache)}
    assert len(made) == 3
    assert flambeau.evaluate(runs[1]).scores == flambeau.evaluate(runs["auto"]).scores
    assert {path: path.stat().st_ino for path in entries(own_cache)} == made, "used again, not made again"


def test_the_columns_are_those_of_memory_and_take_none(pictures: Path, own_cache: Path) -> None:
    plain, large = prepared(scan(pictures), 1000), prepared(scan(pictures))
    for name, split in plain.splits.items():
        assert large.splits[name].columns.keys() == split.columns.keys()
        assert large.splits[name]["name"] == split["name"]
        for column in ("image", "label"):
            assert torch.equal(large.splits[name].tensor(column), split.tensor(column))
            assert large.splits[name].tensor(column).dtype == split.tensor(column).dtype
    image = large.splits["train"].tensor("image")
    image[0] += 1  # stays in this process
    again = prepared(scan(pictures))
    assert torch.equal(again.splits["train"].tensor("image")[1:], image[1:])
    assert torch.equal(again.splits["train"].tensor("image")[0] + 1, image[0])


def test_what_the_rows_depend_on_makes_another_entry(pictures: Path, own_cache: Path, tmp_path: Path) -> None:
    prepared(scan(pictures))
    assert len(entries(own_cache)) == 3
    prepared(scan(pictures), split_seed=1)
    assert len(entries(own_cache)) == 6
    prepare(scan(pictures), TASK, recipes.parse({"data": {"memory": 1}, "images": {"size": 97}}))
    assert len(entries(own_cache)) == 9
    # Neither a network nor a larger memory makes one; what fits again is read into memory.
    prepared(scan(pictures), 2)
    assert len(entries(own_cache)) == 9


def test_a_damaged_entry_is_made_anew(pictures: Path, own_cache: Path) -> None:
    before = {name: split.tensor("image").clone() for name, split in prepared(scan(pictures)).splits.items()}
    first, second, third = entries(own_cache)
    (first / "image").write_bytes((first / "image").read_bytes()[:-1])
    (second / META).write_text("{")
    (third / "label").unlink()
    after = prepared(scan(pictures))
    assert all(torch.equal(split.tensor("image"), before[name]) for name, split in after.splits.items())


def test_rows_that_cannot_be_read_are_told_also_from_the_cache(tmp_path: Path, pictures: Path, own_cache: Path) -> None:
    root = tmp_path / "many"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(60):
            Image.new("RGB", (20, 20), (number, 3 * number, 100 * (name == "cat"))).save(root / name / f"{number}.png")
    bad = root / "cat" / "30.png"
    bad.write_bytes(bad.read_bytes()[:50])
    with pytest.raises(BadRows, match="damaged or cut short"):
        prepared(scan(root))
    assert not any(json.loads((path / META).read_bytes())["bad"] for path in entries(own_cache))
    told = [prepared(scan(root, on_bad="skip"), on_bad="skip").info for _ in range(2)]
    assert told[0] == told[1] and told[0]["skipped"] == [str(bad)]
    assert sum("1 of 120 rows could not be read" in note for note in told[1]["notes"]) == 1


def test_a_full_disk_is_told_before_anything_is_written(
    pictures: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "free_bytes", lambda: 1_000_000)
    with pytest.raises(DataError, match=r"take 0.0 GB, more than is free") as caught:
        prepared(scan(pictures))
    assert cache.VARIABLE in str(caught.value.remedy) and entries(own_cache) == []


def test_the_memory_that_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mapped.allowed(1500) == 1_500_000_000
    assert 0 < mapped.allowed("auto") == pytest.approx(mapped.available() / 2, rel=0.2)
    (tmp_path / "meminfo").write_text("MemTotal: 16000 kB\nMemAvailable:    8000 kB\n")
    monkeypatch.setattr(mapped, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(mapped, "CONTROL", tmp_path)
    assert mapped.allowed("auto") == 4000 * 1024
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert mapped.allowed("auto") == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert mapped.allowed("auto") == 4000 * 1024


def test_the_command_says_it(pictures: Path, call: Command, own_cache: Path) -> None:
    told = call("train", pictures, "--model", "mlp", "--epochs", "1", "--set", "data.memory=0", "--out", "a")
    assert told.code == 2 and "data.memory: expected" in told.err
