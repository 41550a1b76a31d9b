"""What a script reads: a folder's own pictures and published files, where that gives what the run read."""

from __future__ import annotations

import csv
import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_eject import QUICK, execute, lines_of, require_equal

import flambeau
from flambeau.data.datasets import cifar10
from flambeau.run import Run


def photographs(folder: Path, *, glass: bool = False) -> None:
    """Pictures of several sizes, formats, modes and orientations in two classes; some can be seen through."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("rösti", "tea, green")):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            height, width = rng.integers(12, 40, 2)
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            pixels[..., label] //= 3
            picture = Image.fromarray(pixels)
            turned = Image.Exif()
            turned[0x0112] = 1 + number % 8
            picture = picture.convert("L") if number % 3 == 0 else picture
            if glass and number % 2 == 0:
                picture.putalpha(200)
            picture.save(folder / name / f"{number}.{'jpg' if number % 2 else 'png'}", exif=turned)


def trained(source: Path, folder: Path, *more: str) -> Run:
    settings = (*QUICK, "train.epochs=1", "images.size=16", "model.name=compact", "model.width=4", *more)
    run = flambeau.train(source, settings=settings, out=folder / "run", quiet=True)
    flambeau.eject_run(run, folder / "train.py")
    return run


@pytest.mark.slow
def test_a_folder_is_read_from_its_own_files(tmp_path: Path) -> None:
    photographs(tmp_path / "food")
    photographs(tmp_path / "glass", glass=True)
    runs = {
        name: trained(tmp_path / folder, tmp_path / name, f"images.channels={channels}")
        for name, (folder, channels) in FOLDERS.items()
    }
    for name in runs:
        assert not (tmp_path / name / "train.npz").exists()
        assert lines_of(tmp_path / name / "train.py") <= 200
    with (tmp_path / "colour" / "train.csv").open(newline="", encoding="utf-8") as table:
        rows = list(csv.reader(table))
    assert len(rows) == 40 and {split for split, _, _ in rows} == {"train", "val", "test"}
    assert {(label, file.partition("/")[0]) for _, label, file in rows} == {("0", "rösti"), ("1", "tea, green")}
    execute(tmp_path / name / "train.py" for name in runs)
    for name, run in runs.items():
        require_equal(run, tmp_path / name)


FOLDERS = {"colour": ("food", 3), "grey": ("glass", 1)}


@pytest.mark.slow
def test_what_a_plain_reader_reads_otherwise_lies_beside_the_script(tmp_path: Path) -> None:
    photographs(tmp_path / "food")
    deep = np.full((20, 20), 30_000, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "food" / "rösti" / "deep.png")
    run = trained(tmp_path / "food", tmp_path)
    text = (tmp_path / "train.py").read_text(encoding="utf-8")
    assert "rösti/deep.png comes out otherwise" in " ".join(text.split())
    assert (tmp_path / "train.npz").exists() and not (tmp_path / "train.csv").exists()
    execute([tmp_path / "train.py"])
    require_equal(run, tmp_path)


def published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10 in its published layout, with thirty pictures in a file."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in cifar10.SUMS:
        batch = {"data": rng.integers(0, 256, (30, 3072), dtype=np.uint8), "labels": [n % 10 for n in range(30)]}
        content = pickle.dumps(batch, protocol=4)
        (folder / name).write_bytes(content)
        monkeypatch.setitem(cifar10.SUMS, name, hashlib.md5(content).hexdigest())


@pytest.mark.slow
def test_cifar10_is_read_from_its_published_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path / "unpacked" / "cifar-10-batches-py", monkeypatch)
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "unpacked" / "cifar-10-batches-py", "cifar-10-batches-py")
    settings = (*QUICK, "train.epochs=1", "train.batch_size=50")
    runs = {}
    for recipe, root, most in (("cifar10", "packed", 215), ("tutorial/cifar10", "unpacked", 145)):
        folder, more = tmp_path / recipe, ("model.width=2",) if recipe == "cifar10" else ()
        where = f'data.root=["{(tmp_path / root).as_posix()}"]'
        runs[folder] = flambeau.train(
            "cifar10", recipe=recipe, settings=(*settings, where, *more), out=folder / "run", quiet=True
        )
        flambeau.eject_run(runs[folder], folder / "train.py")
        assert lines_of(folder / "train.py") <= most
    execute(folder / "train.py" for folder in runs)
    for folder, run in runs.items():
        require_equal(run, folder)
