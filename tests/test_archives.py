"""Data in archives: read as the folder would be, unpacked once into the cache and into no other place."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from conftest import Command

from flambeau import datasets
from flambeau.data import cache
from flambeau.data.archives import unpacked


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def packed(folder: Path, path: Path, prefix: str = "") -> Path:
    """An archive of a folder, with what macOS adds to one."""
    files = [(file, f"{prefix}{file.relative_to(folder).as_posix()}") for file in sorted(folder.rglob("*"))]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file, name in files:
                archive.write(file, name)
            archive.writestr("__MACOSX/._photos", b"resource fork")
            archive.writestr(".DS_Store", b"macOS")
        return path
    with tarfile.open(path, f"w:{path.suffix[1:].replace('tar', '').replace('tgz', 'gz')}") as tar:  # type: ignore[call-overload]
        for file, name in files:
            tar.add(file, name, recursive=False)
    return path


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar", "photos.tgz", "photos.tar.bz2", "photos.tar.xz"])
@pytest.mark.parametrize("prefix", ["", "holiday/photos/"])
def test_an_archive_is_read_as_its_folder(tmp_path: Path, pictures: Path, name: str, prefix: str) -> None:
    path = packed(pictures, tmp_path / name, prefix)
    made, plain = datasets.load(path), datasets.load(pictures)
    assert made.hash == plain.hash and made.name == "photos" and made.info["source"] == str(path)
    assert made.splits["train"]["name"] == plain.splits["train"]["name"]
    assert any(f"{name} was unpacked into {tmp_path / 'cache'}" in note for note in made.info["notes"])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["cache", name])


def test_training_evaluating_and_resuming(tmp_path: Path, pictures: Path, call: Command) -> None:
    path = packed(pictures, tmp_path / "photos.zip")
    told = call("train", path, "--model", "mlp", "--epochs", "1", "--out", "run", "--json", "-q")
    assert told.code == 0, told.err
    entry = next((tmp_path / "cache" / "unpacked").glob("[!.]*"))
    before = (entry / "content").stat().st_mtime_ns
    assert call("evaluate", "run", "-q").code == 0
    assert (entry / "content").stat().st_mtime_ns == before, "it was used again, not made again"
    assert call("evaluate", "run", path, "--json", "-q").json["examples"] == 48
    path.write_bytes(b"")
    told = call("evaluate", "run")
    assert told.code == 2 and "damaged, or is none" in told.err


def test_a_table_with_its_pictures_and_a_single_table(tmp_path: Path, pictures: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "pics").symlink_to(pictures)
    rows = [f"pics/{file.relative_to(pictures).as_posix()},{file.parent.name}" for file in pictures.rglob("*.*")]
    (folder / "labels.csv").write_text("\n".join(["file,label", *rows]))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("labels.csv", *(row.partition(",")[0] for row in rows)):
            archive.write(folder / name, f"set/{name}")
    assert len(datasets.load(tmp_path / "a.zip").splits["train"]) == 48
    with zipfile.ZipFile(tmp_path / "reviews.zip", "w") as archive:
        archive.writestr("reviews.csv", "text,label\ngood,pos\nbad,neg\n")
    assert datasets.task_of(tmp_path / "reviews.zip") == "text-classification"
    assert datasets.load(tmp_path / "reviews.zip").info["classes"] == ["neg", "pos"]


def test_splits_at_the_top_are_not_gone_into(tmp_path: Path, pictures: Path) -> None:
    path = packed(pictures, tmp_path / "a.zip", "train/")
    assert len(datasets.load(path).splits["train"]) == 48 and unpacked(path).name == "content"


def made(key: str, size: int, limit: int = 1 << 30) -> Path:
    return cache.entry("unpacked", key, lambda folder: (folder / "data").write_bytes(bytes(size)) and None, limit=limit)


def in_process(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"from flambeau.data import cache\n{code}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_cache_is_bounded_and_spares_what_is_in_use(own_cache: Path) -> None:
    code = "cache.entry('unpacked', 'theirs', lambda f: (f / 'data').write_bytes(bytes(1000)) and None)"
    in_process(code).communicate()
    with in_process(f"{code.replace('theirs', 'held')}\nprint('held', flush=True)\ninput()") as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        folder = own_cache / "unpacked"
        (folder / ".tmp-gone-12345678").mkdir()
        made("mine", 1000)
        assert {path.name for path in folder.glob("[!.]*")} == {"theirs", "held", "mine"}
        made("more", 1000, limit=1500)
        # Theirs is not in use, so it goes; the others are, here and in the other process.
        assert {path.name for path in folder.glob("[!.]*")} == {"held", "mine", "more"}
        assert not (folder / ".tmp-gone-12345678").exists()
        other.kill()


def test_two_processes_make_one_entry(own_cache: Path) -> None:
    code = """
import time
def make(folder):
    print("making", flush=True)
    time.sleep(0.5)
    (folder / "data").write_text("whole")
path = cache.entry("unpacked", "same", make)
print((path / "data").read_text())
"""
    running = [in_process(code) for _ in range(2)]
    outputs = [process.communicate()[0] for process in running]
    assert "".join(outputs).count("making") == 1 and all(text.endswith("whole\n") for text in outputs)


def test_a_killed_writer_leaves_nothing_that_is_believed(own_cache: Path) -> None:
    code = """
def make(folder):
    (folder / "data").write_text("half")
    print("writing", flush=True)
    input()
cache.entry("unpacked", "half", make)
"""
    with in_process(code) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        process.kill()
        process.wait()
    assert len(list(own_cache.rglob(".tmp-half-*"))) == 1
    started = time.monotonic()
    path = made("half", 3)
    assert (path / "data").read_bytes() == bytes(3) and time.monotonic() - started < 5
    assert list(own_cache.rglob(".tmp-*")) == []


def test_the_cache_is_where_the_variable_says_else_where_the_platform_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cache.base() == tmp_path / "cache"
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.base() in (tmp_path / "xdg" / "flambeau", tmp_path / "Library" / "Caches" / "flambeau")
