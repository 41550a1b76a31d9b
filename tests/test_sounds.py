"""Sound as data: .wav files of every kind, resampling, folders, tables, arrays, and the spoken digits."""

from __future__ import annotations

import io
import math
import os
import struct
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from flambeau import catalog
from flambeau.data.datasets import fsdd, locate
from flambeau.data.sounds import claims_sounds, describe, open_sounds, read_sounds, sounds_of_python
from flambeau.data.splits import TOGETHER
from flambeau.data.waves import decode, fitted, probe, resample, sound_inputs
from flambeau.errors import BadRows, DataError
from flambeau.recipe import parse

RECIPE = catalog.recipe("sounds")


def sine(frequency: float, rate: int, seconds: float = 0.25, height: float = 0.5) -> NDArray[np.float32]:
    values = height * np.sin(2 * math.pi * frequency * np.arange(int(rate * seconds)) / rate)
    return values.astype(np.float32)


def riff(kind: int, bits: int, data: bytes, *, channels: int = 1, rate: int = 8000, size: int | None = None) -> bytes:
    """A .wav file written by hand; ``size`` is what its header says about the samples."""
    width = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * width, width, bits)
    if kind == 0xFFFE:
        form += struct.pack("<HHI", 22, bits, 0) + struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
    # An unknown chunk of odd size stands before the samples, as editors write them.
    chunks = b"LIST" + struct.pack("<I", 3) + b"abc\0" + b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def wav(samples: NDArray[np.float32], rate: int = 8000, channels: int = 1) -> bytes:
    """A 16-bit file by the standard library."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).round().astype(np.int16).tobytes())
    return buffer.getvalue()


def packed(values: np.ndarray[Any, Any], bits: int, real: bool) -> bytes:
    if real:
        return values.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return np.rint(values * 127 + 128).astype(np.uint8).tobytes()
    whole = np.rint(values * (2 ** (bits - 1) - 1)).astype("<i4")
    return b"".join(int(v).to_bytes(bits // 8, "little", signed=True) for v in whole)


@pytest.mark.parametrize(
    ("kind", "bits", "error"),
    [(1, 8, 8e-3), (1, 16, 5e-5), (1, 24, 3e-7), (1, 32, 1e-7), (3, 32, 1e-7), (3, 64, 1e-7), (0xFFFE, 24, 3e-7)],
)
def test_every_kind_of_samples_is_read(kind: int, bits: int, error: float) -> None:
    values = np.array([0.0, 0.5, -0.5, 0.99, -0.99, 0.001, -0.001])
    samples, rate = decode(riff(kind, bits, packed(values, bits, kind == 3), rate=11025))
    assert rate == 11025 and samples.dtype == np.float32
    assert np.abs(samples - values).max() < error
    assert probe(riff(kind, bits, packed(values, bits, kind == 3), rate=11025)) == (11025, 7)


def test_files_of_the_standard_library_and_channels_mixed_to_one() -> None:
    left, right = sine(440, 8000), sine(900, 8000)
    samples, rate = decode(wav(np.stack([left, right], 1).ravel(), channels=2))
    assert rate == 8000 and np.abs(samples - (left + right) / 2).max() < 1e-4


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_file_written_into_a_pipe_goes_on_to_its_end(size: int) -> None:
    assert len(decode(riff(1, 16, bytes(200), size=size))[0]) == 100


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"fLaC" + bytes(40), "FLAC"),
        (b"ID3" + bytes(40), "MP3"),
        (b"hello, this is a text", "unknown data"),
        (riff(1, 16, bytes(50), size=100), "cut short"),
        (riff(1, 16, bytes(100))[:20], "holds no samples"),
        (riff(1, 16, b""), "empty"),
        (riff(7, 8, bytes(10)), "mu-law"),
        (riff(1, 12, bytes(12)), "PCM, 12 bits"),
        (riff(1, 16, bytes(10), rate=0), "header is damaged"),
        (riff(3, 32, np.array([math.nan] * 4, "<f4").tobytes()), "not finite"),
        (b"RIFF\x10\0\0\0WAVEdata\x04\0\0\0\0\0\0\0", "nothing says what its samples mean"),
    ],
)
def test_what_is_damaged_or_strange_is_said(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        decode(path)
    assert str(path) in str(caught.value)


def test_arrays_with_and_without_a_rate() -> None:
    samples = sine(440, 8000)
    for raw in ((samples, 8000), (torch.from_numpy(samples), 8000), ((samples * 32768).astype(np.int16), 8000)):
        read, rate = decode(raw)
        assert rate == 8000 and np.abs(read - samples).max() < 1e-4
    stereo = np.stack([samples, -samples])
    assert not decode(stereo, 8000)[0].any() and not decode(stereo.T, 8000)[0].any()
    with pytest.raises(DataError, match="without their rate"):
        decode(samples)
    with pytest.raises(DataError, match="shape of a sound"):
        decode((torch.zeros(2, 2, 2), 8000))


@pytest.mark.parametrize(("rate", "new"), [(44100, 8000), (48000, 16000), (8000, 16000), (22050, 16000), (11025, 8000)])
def test_resampling_keeps_a_sine_and_takes_out_what_is_too_high(rate: int, new: int) -> None:
    made = resample(sine(700, rate, 0.5), rate, new)
    assert len(made) == math.ceil(int(rate * 0.5) * new / rate)
    wanted = 0.5 * np.sin(2 * math.pi * 700 * np.arange(len(made)) / new)
    inside = slice(200, -200)
    assert np.abs(made - wanted)[inside].max() < 1e-3
    if new < rate:
        assert np.abs(resample(sine(0.62 * new, rate, 0.5), rate, new)[inside]).max() < 5e-3


def test_resampling_to_a_coprime_rate_and_in_pieces() -> None:
    signal = sine(300, 8000, 6.0)
    made = resample(signal, 8000, 7999)
    wanted = 0.5 * np.sin(2 * math.pi * 300 * np.arange(len(made)) / 7999)
    assert np.abs(made - wanted)[200:-200].max() < 1e-3
    assert resample(signal, 8000, 8000) is signal


def test_long_recordings_keep_their_loudest_stretch_and_short_ones_are_followed_by_silence() -> None:
    sound = np.zeros(1000, dtype=np.float32)
    sound[600:700] = 0.5
    cut = fitted(sound, 100)
    assert cut.dtype == np.int16 and (cut == 16384).all()
    assert fitted(sound[600:650], 100).tolist() == [16384] * 50 + [0] * 50
    assert fitted(np.array([1.0, -1.0, 1.5], dtype=np.float32), 3).tolist() == [32767, -32768, 32767]


def test_many_rows_give_what_each_gives_alone_and_bad_ones_are_all_named(tmp_path: Path) -> None:
    rows = [wav(sine(f, rate), rate) for f, rate in ((300, 8000), (500, 16000), (700, 11025))]
    together = read_sounds(rows, 8000, 1500)
    assert all(read_sounds([row], 8000, 1500)[0].equal(together[place]) for place, row in enumerate(rows))
    with pytest.raises(BadRows) as caught:
        read_sounds([rows[0], b"no", tmp_path / "absent.wav"], 8000, 100)
    assert sorted(caught.value.rows) == [1, 2]


def tree(root: Path, *folders: str, count: int = 3) -> Path:
    for place, name in enumerate(folders):
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.wav").write_bytes(wav(sine(200 + 100 * place + 10 * number, 8000)))
    return root


def test_a_folder_of_classes_and_one_of_splits(tmp_path: Path) -> None:
    tree(tmp_path / "plain", "2", "10", "1")
    (tmp_path / "plain" / "1" / "notes.txt").write_text("x")
    data = open_sounds(tmp_path / "plain", RECIPE)
    assert (
        data.info["classes"] == ["1", "2", "10"]
        and data.splits["train"].tensor("label").tolist() == [0] * 3 + [1] * 3 + [2] * 3
    )
    assert data.splits["train"]["name"][0] == "1/0.wav" and "1 files ending in .txt" in data.info["notes"][0]
    tree(tmp_path / "split", "train/a", "train/b", "valid/a", "valid/b", "Test/a", "Test/b")
    assert {name: len(split) for name, split in open_sounds(tmp_path / "split", RECIPE).splits.items()} == {
        "train": 6,
        "val": 6,
        "test": 6,
    }
    assert claims_sounds(tmp_path / "plain") and claims_sounds(tmp_path / "split") and not claims_sounds(tmp_path / "x")


def test_bad_files_fail_or_are_left_out(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b", count=60)
    (tmp_path / "a" / "broken.wav").write_bytes(b"no")
    with pytest.raises(DataError, match=r"broken\.wav"):
        open_sounds(tmp_path, RECIPE)
    skipping = RECIPE.model_copy(update={"data": RECIPE.data.model_copy(update={"on_bad": "skip"})})
    data = open_sounds(tmp_path, skipping)
    assert len(data.splits["train"]) == 120 and "broken.wav" in str(data.info["notes"])


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_do_not_lead_out(tmp_path: Path) -> None:
    tree(tmp_path / "data", "a", "b")
    (tmp_path / "out.wav").write_bytes(wav(sine(1, 8000)))
    (tmp_path / "data" / "a" / "link.wav").symlink_to(tmp_path / "out.wav")
    with pytest.raises(DataError, match="leads out"):
        open_sounds(tmp_path / "data", RECIPE)


def test_a_table_of_paths(tmp_path: Path) -> None:
    tree(tmp_path / "files", "x", count=6)
    rows = [f"files/x/{n}.wav,{'low' if n < 3 else 'high'},{'test' if n % 3 == 2 else 'train'}" for n in range(6)]
    table = tmp_path / "sounds.csv"
    table.write_text("\n".join(["filename,category,split", *rows]) + "\n")
    assert claims_sounds(table)
    data = open_sounds(table, RECIPE)
    assert data.name == "sounds" and data.info["classes"] == ["high", "low"]
    assert data.splits["test"].tensor("label").tolist() == [1, 0] and len(data.splits["train"]) == 4
    lines = [f"{row},{number // 2}" for number, row in enumerate(rows)]
    table.write_text("\n".join(["filename,category,split,voice", *lines]) + "\n")
    grouped = open_sounds(table, parse({"task": "sound-classification", "data": {"group": "voice"}}))
    assert TOGETHER in grouped.splits["train"].columns and TOGETHER not in data.splits["train"].columns
    with pytest.raises(BadRows, match=r"There is no file gone\.wav"):
        table.write_text("filename,category\ngone.wav,a\n")
        open_sounds(table, RECIPE)
    table.write_text("text,label\nGood.,pos\n")
    assert not claims_sounds(table)


def test_objects_of_python() -> None:
    sounds = [sine(f, 8000) for f in (300, 310, 600, 610)]
    labels = ["low", "low", "high", "high"]
    data = sounds_of_python(([(sound, 8000) for sound in sounds], labels), None, None, RECIPE)
    assert data.info["classes"] == ["high", "low"] and data.splits["train"].tensor("label").tolist() == [1, 1, 0, 0]
    with pytest.raises(BadRows, match="without their rate"):
        sounds_of_python((sounds, labels), None, None, RECIPE)
    rated = RECIPE.model_copy(update={"audio": RECIPE.audio.model_copy(update={"rate": 8000})})
    again = sounds_of_python(
        {"train": (torch.from_numpy(np.stack(sounds)), np.array([1, 1, 0, 0]))}, "tones", None, rated
    )
    assert again.name == "tones" and decode(again.splits["train"]["sound"][0])[1] == 8000
    with pytest.raises(DataError, match="one label for each sound"):
        sounds_of_python((sounds, labels[:2]), None, None, rated)


def test_what_is_said_about_a_data_set(tmp_path: Path) -> None:
    about = describe(open_sounds(tree(tmp_path, "a", "b"), RECIPE))
    assert about["rows"] == {"train": 6} and about["counts"] == {"train": {"a": 3, "b": 3}}
    assert about["rates"] == {"8000": 6} and about["seconds"]["median"] == 0.25 and about["seconds"]["total"] == 1.5


def test_inputs_of_predict(tmp_path: Path) -> None:
    tree(tmp_path, "a", count=2)
    assert [Path(name).name for name, _ in sound_inputs([str(tmp_path), "b.wav"])] == ["0.wav", "1.wav", "b.wav"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no recording"):
        sound_inputs([str(tmp_path / "empty")])


def digits(speakers: tuple[str, ...] = ("ann", "bob")) -> dict[str, bytes]:
    """Recordings under the names of the spoken digits: six of each digit and speaker."""
    return {
        f"{digit}_{speaker}_{index}.wav": wav(sine(200 + 50 * digit + index, 8000, 0.05))
        for digit in range(10)
        for speaker in speakers
        for index in range(6)
    }


def archive(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as made:
        for name, content in digits().items():
            made.writestr(f"free-spoken-digit-dataset-1.0/recordings/{name}", content)
    return path


def test_spoken_digits_as_a_folder_and_as_an_archive(tmp_path: Path) -> None:
    folder = tmp_path / "one" / "free-spoken-digit-dataset" / "recordings"
    folder.mkdir(parents=True)
    for name, content in digits().items():
        (folder / name).write_bytes(content)
    archive(tmp_path / "two" / "fsdd" / "fsdd.zip")
    plain, packed = fsdd.load([tmp_path / "one"]), fsdd.load([tmp_path / "two"])
    assert plain.hash == packed.hash and plain.info["classes"] == list("0123456789")
    assert {name: len(split) for name, split in plain.splits.items()} == {"train": 20, "test": 100}
    assert all("_5.wav" in name for name in plain.splits["train"]["name"])
    assert "are not those of commit" in str(plain.info["notes"])


def test_spoken_digits_are_downloaded_and_what_goes_wrong_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    if locate.cache_folder().is_relative_to(tmp_path):
        with pytest.raises(DataError, match="could not be downloaded"):
            fsdd.load(url=(tmp_path / "nothing.zip").as_uri())
        (tmp_path / "text.zip").write_text("not found")
        with pytest.raises(DataError, match=r"not a \.zip file"):
            fsdd.load(url=(tmp_path / "text.zip").as_uri())
        data = fsdd.load(url=archive(tmp_path / "source.zip").as_uri())
        assert len(data.splits["test"]) == 100 and (locate.cache_folder() / "fsdd" / "fsdd.zip").is_file()


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "fsdd" / "fsdd.zip")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="archive is damaged"):
        fsdd.load([tmp_path])


def test_the_published_spoken_digits() -> None:
    found = fsdd.search([Path(part) for part in os.environ.get(locate.VARIABLE, "").split(os.pathsep) if part])
    if found is None:
        pytest.skip("fsdd is not in $FLAMBEAU_DATA")
    data = fsdd.load()
    assert len(data.splits["test"]) == 300 and len(data.splits["train"]) in (1500, 2700)
    assert "are not those of commit" not in str(data.info["notes"])
    assert describe(data)["rates"] == {"8000": len(found[0])}
