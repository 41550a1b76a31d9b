"""Faults 27 and 28, and what else an archive may hold that does harm, or not hold that it should."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flambeau.data import archives, cache
from flambeau.data.archives import Limits, unpacked
from flambeau.errors import DataError

USUAL = Limits()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))


def zipped(path: Path, *members: tuple[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    return path


def tarred(path: Path, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, compression: str = "gz") -> Path:
    with tarfile.open(path, f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(content) if kind == tarfile.REGTYPE else 0
            member.linkname = "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    return path


def assert_refused(path: Path, problem: str, limits: Limits = USUAL) -> None:
    before = {file for file in path.parent.rglob("*") if "cache" not in file.parts}
    with pytest.raises(DataError, match=problem) as caught:
        unpacked(path, limits)
    assert caught.value.where == str(path)
    assert {file for file in path.parent.rglob("*") if "cache" not in file.parts} == before
    left = [file for file in (path.parent / "cache").rglob("*") if file.is_file() and ".locks" not in file.parts]
    assert left == [] and not list((path.parent / "cache").rglob(".tmp-*"))


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/tmp/evil.png", "..\\evil.png", "C:\\evil.png"])
def test_fault_27_paths_that_lead_out(tmp_path: Path, name: str) -> None:
    assert_refused(zipped(tmp_path / "a.zip", ("fine.txt", b"1"), (name, b"evil")), "leads out of it")
    assert_refused(tarred(tmp_path / "a.tar.gz", ("fine.txt", b"1"), (name, b"evil")), "leads out of it")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_fault_27_links_and_devices(tmp_path: Path, kind: bytes) -> None:
    assert_refused(tarred(tmp_path / "a.tgz", ("cat/1.png", b""), kind=kind), "a link or a device")
    assert_refused(zipped(tmp_path / "a.zip", ("cat/1.png", b"/etc"), mode=stat.S_IFLNK | 0o777), "a link or a device")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_fault_28_bombs(tmp_path: Path, name: str) -> None:
    path, zeros = tmp_path / name, [(f"{number}.bmp", bytes(1 << 20)) for number in range(8)]
    if name == "a.zip":
        zipped(path, *zeros)
    else:
        tarred(path, *zeros, compression=name.rpartition(".")[2])
    assert path.stat().st_size < 40_000
    assert_refused(path, "unpacks to more than 4,194,304 bytes", Limits(harmless=4 << 20))
    assert_refused(path, "unpacks to more than 3,000,000 bytes", Limits(size=3_000_000))
    assert_refused(path, "unpacks to more than 7 files", Limits(members=7))
    # What is small in all is no bomb, however well it is compressed.
    assert len(list(unpacked(path).iterdir())) == 8


def test_fault_28_a_zip_that_holds_more_than_it_declares(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("a.bin", bytes(1 << 20)))
    content = path.read_bytes()
    size = (1 << 20).to_bytes(4, "little")
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, (100).to_bytes(4, "little")))
    assert_refused(path, "damaged")


def test_an_encrypted_archive(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("cat/1.png", b"secret"))
    content = bytearray(path.read_bytes())
    for marker, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(marker) + place] |= 1
    path.write_bytes(content)
    assert_refused(path, "encrypted")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"<html>404</html>")
    assert_refused(path, "damaged, or is none")
    noise = bytes(hash((number, 7)) % 251 for number in range(200_000))
    if name == "a.zip":
        zipped(path, ("cat/1.png", noise))
    else:
        tarred(path, ("cat/1.png", noise), compression=name.rpartition(".")[2].replace("tar", ""))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert_refused(path, "damaged, or is none")
    if name != "a.tar":  # which has no checksum of its contents
        middle = len(whole) // 2
        flipped = bytes(value ^ 0xFF for value in whole[middle : middle + 64])
        path.write_bytes(whole[:middle] + flipped + whole[middle + 64 :])
        assert_refused(path, "damaged, or is none")
    path.write_bytes(b"")
    assert_refused(path, "damaged, or is none")


def test_the_same_file_twice_and_nothing_at_all(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zipped(tmp_path / "a.zip", ("cat/1.png", b"1"), ("cat/1.png", b"2"))
    assert_refused(path, "the same file twice: cat/1.png")
    assert_refused(zipped(tmp_path / "b.zip"), "archive is empty")


def test_what_a_full_disk_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.zip", ("cat/1.png", bytes(5000)))
    monkeypatch.setattr(cache, "free_bytes", lambda: 4999)
    assert_refused(path, "unpacks to 5,000 bytes, and 4,999 are free")
    (tmp_path / "cache").rename(tmp_path / "moved")
    (tmp_path / "cache").write_text("a file where the cache should be")
    with pytest.raises(DataError, match="cache cannot be written") as caught:
        unpacked(path)
    assert cache.VARIABLE in str(caught.value.remedy)


def test_names_of_archives() -> None:
    assert [archives.title_of(Path(name)) for name in ("a.ZIP", "b.c.tar.gz", "d.tgz")] == ["a", "b.c", "d"]


def test_a_member_that_would_lie_before_the_file(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("a.txt", b"1"))
    content = bytearray(path.read_bytes())
    content[-6] += 1  # where the list of members begins; all places are counted from there
    path.write_bytes(content)
    assert_refused(path, "damaged")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"]))
def test_any_damage_ends_in_one_error_or_in_files_inside(tmp_path: Path, data: st.DataObject, name: str) -> None:
    path, folder = tmp_path / name, tmp_path / "out"
    members = [(f"cat/{number}.txt", bytes([number]) * 400) for number in range(3)]
    if name == "a.zip":
        zipped(path, *members)
    else:
        tarred(path, *members, compression=name.rpartition(".")[2].replace("tar", ""))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        archives.unpack(path, folder, Limits(harmless=1 << 20))
    except DataError as error:
        assert error.where == str(path)
    assert {entry.name for entry in tmp_path.iterdir()} - {f"a{ending}" for ending in archives.ENDINGS} <= {"out"}
