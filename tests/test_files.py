"""Durable writes: every operation of a save fails once, and nothing that was saved is lost."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_toys import PLAIN, batch, classification, equal, network, state_of

from flambeau import files
from flambeau.core import State
from flambeau.engine import checkpoint
from flambeau.engine.update import update
from flambeau.errors import RunError

posix = pytest.mark.skipif(sys.platform == "win32", reason="the rule is POSIX's")


class Failing(files.Disk):
    """Counts its operations and fails one of them."""

    def __init__(self, fail_at: int, how: str) -> None:
        self.fail_at = fail_at
        self.how = how
        self.done: list[str] = []

    def _next(self, name: str) -> bool:
        self.done.append(name)
        now = len(self.done) == self.fail_at
        if now and not (self.how == "short" and name == "write"):
            code = errno.EIO if self.how == "short" else getattr(errno, self.how)
            raise OSError(code, os.strerror(code))
        return now

    def make_folder(self, path: Path) -> None:
        self._next("make_folder")
        super().make_folder(path)

    def create(self, path: Path) -> int:
        self._next("create")
        return super().create(path)

    def open_append(self, path: Path) -> int:
        self._next("open_append")
        return super().open_append(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        if self._next("write"):
            # The disk takes a part, and has no room for the rest.
            self.fail_at, self.how = len(self.done) + 1, "ENOSPC"
            return super().write(descriptor, data[: max(1, len(data) // 2)])
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._next("sync")
        super().sync(descriptor)

    def sync_folder(self, path: Path) -> None:
        self._next("sync_folder")
        super().sync_folder(path)

    def rename(self, source: Path, target: Path) -> None:
        self._next("rename")
        super().rename(source, target)

    def free_bytes(self, path: Path) -> int:
        self._next("free_bytes")
        return super().free_bytes(path)


def trained(steps: int) -> State:
    state = state_of(network(), classification(name="adamw"), ema=True)
    for number in range(steps):
        update(state, batch(seed=number), PLAIN)
    return state


def saved(folder: Path, state: State, disk: files.Disk | None = None) -> None:
    with files.using(disk or files.Disk()):
        checkpoint.save(folder, state, {"metrics_length": 7, "seconds": {}})


def loaded(folder: Path) -> State:
    state = trained(0)
    found = checkpoint.load(folder, state)
    assert found is not None and found.notes["metrics_length"] == 7
    return state


def operations() -> int:
    """How many operations a save consists of."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        counting = Failing(0, "EIO")
        saved(Path(folder) / "checkpoints", trained(1), counting)
        assert {"write", "sync", "rename", "free_bytes", "create", "make_folder", "sync_folder"} <= set(counting.done)
        return len(counting.done)


@pytest.mark.parametrize("how", ["ENOSPC", "EIO", "short"])
@pytest.mark.parametrize(
    "again", [pytest.param(False, marks=pytest.mark.slow, id="a later step"), pytest.param(True, id="the same step")]
)
def test_whichever_operation_fails_the_earlier_checkpoint_is_whole(tmp_path: Path, how: str, again: bool) -> None:
    first, later = trained(1), trained(1 if again else 2)
    for failing in range(1, operations() + 1):
        folder = tmp_path / str(failing)
        saved(folder, trained(0))
        saved(folder, first)
        point_before = (folder / "LATEST").read_text()
        disk = Failing(failing, how)
        try:
            saved(folder, later, disk)
        except RunError as error:
            assert "could not be written" in error.problem, error
            assert error.remedy is not None and "intact" in error.remedy
            assert ("Free some space" in error.remedy) == (disk.how == "ENOSPC")
        else:
            raise AssertionError(f"the failure of operation {failing}, {disk.done[failing - 1]}, went unnoticed")
        assert not list(folder.glob(".tmp-*")), disk.done[failing - 1]
        state = loaded(folder)
        assert state.step in (0, 1, 2) if again else state.step in (1, 2)
        reference = trained(state.step)
        assert equal(dict(state.model.state_dict()), dict(reference.model.state_dict()))
        if state.step == 1:
            assert (folder / "LATEST").read_text() == point_before
        saved(folder, later)
        assert loaded(folder).step == later.step


@pytest.mark.parametrize("how", ["ENOSPC", "EIO", "short"])
def test_whichever_operation_fails_a_file_keeps_its_old_content(tmp_path: Path, how: str) -> None:
    path = tmp_path / "model.safetensors"
    for failing in range(1, 8):
        files.write(path, b"the old content")
        disk = Failing(failing, how)
        try:
            with files.using(disk):
                files.write(path, b"the new content, which is longer")
        except RunError:
            assert failing <= len(disk.done)
        assert path.read_bytes() in (b"the old content", b"the new content, which is longer")
        assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
    assert path.read_bytes() == b"the new content, which is longer"


def test_a_write_that_makes_no_progress_is_an_error_not_a_loop(tmp_path: Path) -> None:
    class Stuck(files.Disk):
        def write(self, descriptor: int, data: memoryview) -> int:
            return 0

    with files.using(Stuck()), pytest.raises(RunError, match="nothing more was written"):
        files.write(tmp_path / "a", b"text")


def test_too_little_space_is_found_before_anything_is_written(tmp_path: Path) -> None:
    class Small(files.Disk):
        def free_bytes(self, path: Path) -> int:
            return 100

    with files.using(Small()), pytest.raises(RunError, match="101 bytes are needed and 100 are free"):
        files.write_folder(tmp_path / "step-1", {"a": b"x" * 101})
    assert not list(tmp_path.iterdir())


def test_a_save_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    class Interrupted(files.Disk):
        def sync(self, descriptor: int) -> None:
            raise KeyboardInterrupt

    with files.using(Interrupted()), pytest.raises(KeyboardInterrupt):
        files.write_folder(tmp_path / "step-1", {"a": b"x"})
    assert not list(tmp_path.iterdir())


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_is_honoured(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        files.write(tmp_path / "file", b"x")
        files.write_folder(tmp_path / "folder", {"inner": b"x"})
        files.Journal(tmp_path / "journal").close()
    finally:
        os.umask(before)
    for name, full in (("file", 0o666), ("folder", 0o777), ("folder/inner", 0o666), ("journal", 0o666)):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == full & ~mask, name


def damage_missing(folder: Path) -> None:
    (folder / "a").unlink()


def damage_bit(folder: Path) -> None:
    content = bytearray((folder / "a").read_bytes())
    content[3] ^= 1
    (folder / "a").write_bytes(content)


def damage_cut(folder: Path) -> None:
    (folder / "a").write_bytes((folder / "a").read_bytes()[:-1])


def manifest(text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "MANIFEST.json").write_text(text)

    return damage


def entry(path: Any, size: Any = 1) -> str:
    return json.dumps({"files": [{"path": path, "size": size, "sha256": "00"}]})


@pytest.mark.parametrize(
    "damage",
    [
        damage_missing,
        damage_bit,
        damage_cut,
        manifest(""),
        manifest("{}"),
        manifest("[]"),
        manifest("[" * 200_000),
        manifest('{"files": 3}'),
        manifest(entry("../outside")),
        manifest(entry("/etc/hostname")),
        manifest(entry("..")),
        manifest(entry(".")),
        manifest(entry("")),
        manifest(entry(None)),
        manifest(entry("a\x00b")),
        manifest(entry("a", 10**30)),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    (tmp_path / "outside").write_text("secret")
    folder = tmp_path / "step-1"
    files.write_folder(folder, {"a": b"some content", "b": b""})
    assert files.read_folder(folder) == {"a": b"some content", "b": b""}
    damage(folder)
    with pytest.raises(RunError):
        files.read_folder(folder)


def test_the_two_newest_whole_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 7):
        state = trained(step)
        state.best_step = 2 if step >= 2 else None
        saved(tmp_path, state)
    assert [path.name for path in checkpoint.paths(tmp_path)] == ["step-00000002", "step-00000005", "step-00000006"]
    assert (tmp_path / "best").resolve().name == "step-00000002"
    (tmp_path / "step-00000006" / "state.json").write_text("{}")
    resumed = trained(0)
    checkpoint.load(tmp_path, resumed)
    assert resumed.step == 5
    # A damaged one of a later step must not count as one of the two.
    resumed.step = 5
    saved(tmp_path, resumed)
    assert [path.name for path in checkpoint.paths(tmp_path)] == ["step-00000002", "step-00000005"]


def test_all_damaged_is_an_error_that_says_so(tmp_path: Path) -> None:
    saved(tmp_path, trained(1))
    (tmp_path / "step-00000001" / "MANIFEST.json").unlink()
    with pytest.raises(RunError, match="No checkpoint of this run is whole"):
        checkpoint.load(tmp_path, trained(0))
    assert checkpoint.load(tmp_path / "nothing", trained(0)) is None


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    from flambeau.errors import TrainingError

    state = trained(1)
    saved(tmp_path, state)
    next(state.model.parameters()).data[0, 0] = float("nan")
    state.step = 2
    with pytest.raises(TrainingError, match=r"0\.weight are not finite after step 2"):
        saved(tmp_path, state)
    assert loaded(tmp_path).step == 1


def test_a_journal_drops_its_torn_tail(tmp_path: Path) -> None:
    journal = files.Journal(tmp_path / "metrics.jsonl")
    journal.append({"step": 1, "loss": 0.5})
    length = journal.sync()
    journal.append({"step": 2, "loss": float("nan")})
    journal.close()
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 3, "lo')
    assert files.read_journal(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": None}]
    again = files.Journal(tmp_path / "metrics.jsonl", length=length)
    again.append({"step": 2})
    again.close()
    assert again.missing == 0
    assert files.read_journal(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 0.5}, {"step": 2}]


def test_a_journal_shorter_than_it_was_is_not_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n')
    journal = files.Journal(path, length=100)
    journal.append({"step": 2})
    journal.close()
    assert journal.missing == 88
    assert files.read_journal(path) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("how", ["ENOSPC", "EIO", "short"])
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path, how: str, failing: int) -> None:
    with files.using(Failing(failing, how)), pytest.raises(RunError, match=r"metrics\.jsonl: It could not be written"):
        journal = files.Journal(tmp_path / "metrics.jsonl")
        try:
            journal.append({"step": 1})
            journal.sync()
            journal.sync()
        finally:
            journal.close()


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from flambeau import files\nwith files.locked(Path(sys.argv[1])): pass"
    )
    line = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[1])}
    with files.locked(tmp_path):
        second = subprocess.run(line, capture_output=True, text=True, env=environment)
        assert second.returncode and "Another process is working on this run" in second.stderr
    assert subprocess.run(line, capture_output=True, env=environment).returncode == 0


def test_leftovers_go_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".tmp-step-1-ab").mkdir()
    (tmp_path / ".tmp-step-1-ab" / "model").write_text("x")
    (tmp_path / ".tmp-LATEST-ab").write_text("x")
    (tmp_path / "kept").write_text("x")
    files.point_link(tmp_path / ".tmp-best", "kept")
    files.remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
