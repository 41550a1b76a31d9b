"""Faults 1 to 26: pictures and folders that are not what they should be, one test a number."""

from __future__ import annotations

import io
import os
import struct
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flambeau import recipe as recipes
from flambeau.columns import Dataset
from flambeau.data.folders import scan
from flambeau.data.images import PictureRules, decode, probe, read_pictures
from flambeau.data.prepare import prepare
from flambeau.errors import BadRows, DataError
from flambeau.tasks.image_classification import TASK


def pixels(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), dtype=np.uint8))


def encoded(seed: int, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    array = pixels(seed, 120, 160) if kind == "JPEG" else pixels(seed)
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tree(root: Path, *classes: str, count: int = 6) -> Path:
    for place, name in enumerate(classes):
        for number in range(count):
            put(root / name / f"{number}.png", encoded(1000 * place + number, "PNG"))
    return root


def prepared(dataset: Dataset, **data: object) -> Dataset:
    return prepare(dataset, TASK, recipes.parse({"data": data}))[1]


def note(dataset: Dataset, part: str) -> str:
    found = [sentence for sentence in dataset.info["notes"] if part in sentence]
    assert len(found) == 1, dataset.info["notes"]
    return found[0]


@pytest.mark.parametrize("progressive", [False, True])
def test_fault_01_truncated_jpeg(tmp_path: Path, progressive: bool) -> None:
    root = tree(tmp_path, "cat", "dog")
    whole = encoded(1, "JPEG", progressive=progressive)
    bad = put(root / "cat" / "cut.jpg", whole[: len(whole) * 2 // 3])
    dataset = scan(root)  # the header is fine; the pixels are not
    with pytest.raises(BadRows, match="damaged or cut short") as caught:
        prepared(dataset)
    assert caught.value.where == str(bad)


@pytest.mark.parametrize("progressive", [False, True])
def test_fault_02_jpeg_without_end_marker(progressive: bool) -> None:
    whole = encoded(1, "JPEG", progressive=progressive)
    assert whole.endswith(b"\xff\xd9")
    told: list[str] = []
    assert torch.equal(decode(whole[:-2], warn=told.append), decode(whole))
    assert len(told) == 1 and "no end marker" in told[0]


def test_fault_03_truncated_png() -> None:
    whole = encoded(1, "PNG")
    with pytest.raises(DataError, match="damaged or cut short"):
        decode(whole[: len(whole) // 2])


def test_fault_04_empty_file(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "dog")
    bad = put(root / "dog" / "empty.png", b"")
    with pytest.raises(BadRows, match="The file is empty") as caught:
        scan(root)
    assert caught.value.where == str(bad)


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"<!DOCTYPE html><p>404</p>", "HTML"), (b"not found, sorry", "text"), (b"\x01\x02" * 9, "unk")],
)
def test_fault_05_html_or_text_named_jpg(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(DataError, match="not a picture") as caught:
        decode(put(tmp_path / "page.jpg", content))
    assert what in str(caught.value.received)


def png_header(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, body)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("side", [20_000, 100_000])
@pytest.mark.filterwarnings("error")
def test_fault_06_tiny_file_that_declares_400_megapixels(side: int) -> None:
    with pytest.raises(DataError, match="pixels") as caught:
        decode(png_header(side, side))
    assert "25 megapixels" in str(caught.value.expected)


@pytest.mark.filterwarnings("error")
def test_fault_07_picture_above_the_cap() -> None:
    with pytest.raises(DataError, match="144 megapixels"):
        decode(png_header(12_000, 12_000))
    small = encoded(1, "PNG")
    with pytest.raises(DataError, match="megapixels"):
        decode(small, PictureRules(max_megapixels=24 * 32 / 1e6 - 1e-6))
    assert decode(small, PictureRules(max_megapixels=24 * 32 / 1e6)).shape == (3, 24, 32)


def test_fault_08_sixteen_bit_png_is_rescaled() -> None:
    values = np.array([[0, 1, 128, 129, 257, 1000], [65535, 65534, 32768, 65406, 65407, 4660]], dtype=np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    expected = np.rint(values.astype(np.float64) * 255 / 65535).astype(np.uint8)
    assert decode(buffer.getvalue())[0].tolist() == expected.tolist()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB-key"])
def test_fault_09_alpha_is_composited(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "clear.png"
    if mode == "P":
        palette = Image.new("P", (4, 4), 0)
        palette.putpalette([200, 10, 10] * 256)
        palette.save(path, transparency=0)
    elif mode == "RGB-key":
        Image.new("RGB", (4, 4), (1, 2, 3)).save(path, transparency=(1, 2, 3))
    else:
        Image.new(mode, (4, 4), (0, 0) if mode == "LA" else (200, 10, 10, 0)).save(path)
    assert set(decode(path).flatten().tolist()) == {255}
    coloured = decode(path, PictureRules(background=(10, 20, 30)))
    assert coloured[:, 0, 0].tolist() == [10, 20, 30]
    half = Image.new("RGBA", (4, 4), (200, 0, 100, 128))
    assert decode(half)[:, 0, 0].tolist() == [227, 127, 177]


@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_fault_10_exif_rotation_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    stored = Image.fromarray(array)
    exif = stored.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{kind}"
    stored.save(path, exif=exif, **({"lossless": True} if kind == "webp" else {}))
    turned = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.T,
        6: array[::-1].T,
        7: array[::-1, ::-1].T,
        8: array[:, ::-1].T,
    }[orientation]
    assert decode(path)[0].tolist() == turned.tolist()
    assert probe(path)[:2] == (turned.shape[1], turned.shape[0])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 9), (400, 10), (10, 400)])
def test_fault_11_extreme_sizes_are_refused(width: int, height: int) -> None:
    with pytest.raises(DataError, match="pixels"):
        decode(Image.new("L", (width, height)))
    wide = PictureRules(min_side=1, max_aspect=40)
    assert decode(Image.new("L", (width, height)), wide).shape == (1, height, width)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_fault_12_first_frame_with_a_warning(tmp_path: Path, kind: str) -> None:
    root = tree(tmp_path, "cat", "dog")
    frames = [Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)) for value in (0, 255)]
    path = root / "cat" / f"film.{kind.lower()}"
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    told: list[str] = []
    assert decode(path, warn=told.append).max() == 0
    assert len(told) == 1 and str(path) in told[0] and "several frames" in told[0]
    assert str(path.relative_to(root)) in note(scan(root), "several frames")


def test_fault_13_other_endings_are_counted(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "dog")
    put(root / "cat" / "more.jfif", encoded(7, "JPEG"))
    put(root / "cat" / "moving.gif", encoded(8, "GIF"))
    for name in ("one.psd", "two.psd", "notes.txt", "README"):
        put(root / "cat" / name, b"?")
    put(root / "stray.png", encoded(9, "PNG"))
    dataset = scan(root)
    assert len(dataset.splits["train"]) == 14
    told = note(dataset, "ending is not a picture's")
    assert "2 of .psd" in told and "1 of .txt" in told and "1 of no ending" in told
    assert "1 pictures that lie outside" in note(dataset, "outside the class folders")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.timeout(20)
def test_fault_14_pipes_are_never_opened(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "dog")
    os.mkfifo(root / "cat" / "pipe.jpg")
    with pytest.raises(BadRows, match="pipe, not a regular file") as caught:
        scan(root)
    assert caught.value.where == str(root / "cat" / "pipe.jpg")
    with pytest.raises(DataError, match="device"):
        decode("/dev/zero")


@pytest.mark.timeout(20)
def test_fault_15_link_loops_end(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "dog")
    (root / "cat" / "up").symlink_to(root, target_is_directory=True)
    (root / "cat" / "other").symlink_to(root / "dog", target_is_directory=True)
    (root / "cat" / "self").symlink_to("self")
    dataset = scan(root)
    assert dataset.splits["train"].tensor("label").bincount().tolist() == [6, 6]
    told = note(dataset, "were not followed")
    assert "cat/up" in told and "cat/other" in told


def test_fault_16_links_out_of_the_root(tmp_path: Path) -> None:
    root = tree(tmp_path / "data", "cat", "dog")
    outside = put(tmp_path / "elsewhere" / "x.png", encoded(5, "PNG"))
    (root / "cat" / "away").symlink_to(outside.parent, target_is_directory=True)
    with pytest.raises(DataError, match="leads out of the folder") as caught:
        scan(root)
    assert caught.value.where == str(root / "cat" / "away") and "follow_links" in str(caught.value.remedy)
    assert scan(root, follow_links=True).splits["train"].tensor("label").bincount().tolist() == [7, 6]
    (root / "cat" / "away").unlink()
    (root / "cat" / "file.png").symlink_to(outside)
    with pytest.raises(DataError, match="leads out of the folder"):
        scan(root)
    assert len(scan(root, follow_links=True).splits["train"]) == 13


def test_fault_17_junk_folders_never_become_classes(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "dog", ".ipynb_checkpoints", "__MACOSX", "cat/.ipynb_checkpoints")
    dataset = scan(root)
    assert dataset.info["classes"] == ["cat", "dog"]
    assert len(dataset.splits["train"]) == 12
    told = note(dataset, "Ignored folders")
    assert ".ipynb_checkpoints" in told and "__MACOSX" in told and "cat/.ipynb_checkpoints" in told


def test_fault_18_resource_forks_are_ignored(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "dog")
    put(root / "cat" / "._0.png", b"\x00\x05\x16\x07resource")
    put(root / "cat" / ".DS_Store", b"x")
    dataset = scan(root)
    assert len(dataset.splits["train"]) == 12
    assert "2 hidden files" in note(dataset, "hidden files")


def test_fault_19_empty_class_folder(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "dog")
    (root / "bird").mkdir()
    with pytest.raises(DataError, match="holds no picture") as caught:
        scan(root)
    assert caught.value.where == str(root / "bird")


@pytest.mark.parametrize(
    "names", [("Cat", "cat"), (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café"))]
)
def test_fault_20_class_names_that_differ_only_in_case_or_unicode_form(tmp_path: Path, names: tuple[str, str]) -> None:
    root = tree(tmp_path, *names, "dog")
    if len(list(root.iterdir())) < 3:
        pytest.skip("this file system takes both names for one")
    with pytest.raises(DataError, match="differ only in case or in their Unicode form") as caught:
        scan(root)
    assert all(repr(name) in str(caught.value.received) for name in names)


def test_fault_21_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "dog")
    try:
        descriptor = os.open(os.fsencode(root / "cat") + b"/caf\xe9.png", os.O_CREAT | os.O_WRONLY)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    os.close(descriptor)
    with pytest.raises(DataError, match="not valid UTF-8") as caught:
        scan(root)
    assert str(caught.value).encode("utf-8")
    assert "caf\\xe9.png" in str(caught.value.where)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_fault_22_split_folders_are_splits(tmp_path: Path, name: str) -> None:
    tree(tmp_path, *(f"{split}/{title}" for split in ("train", name, "test") for title in ("cat", "dog")))
    dataset = scan(tmp_path)
    assert {split: len(part) for split, part in dataset.splits.items()} == {"train": 12, "val": 12, "test": 12}
    assert dataset.info["classes"] == ["cat", "dog"]
    (tmp_path / "bird").mkdir()
    with pytest.raises(DataError, match="side by side"):
        scan(tmp_path)


def test_fault_22_no_train_folder(tmp_path: Path) -> None:
    tree(tmp_path, "test/cat", "test/dog")
    with pytest.raises(DataError, match="There is no train folder"):
        scan(tmp_path)


def test_fault_23_class_sets_that_differ_between_splits(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat", "train/dog", "test/cat", "test/bird")
    with pytest.raises(DataError, match="classes of train and test differ") as caught:
        scan(tmp_path)
    assert caught.value.received == "only in train: dog; only in test: bird"


def test_fault_24_same_picture_in_train_and_test(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat", "train/dog", "test/cat", "test/dog")
    for number in range(2):
        put(tmp_path / "test/dog" / f"copy{number}.png", (tmp_path / "train/cat" / f"{number}.png").read_bytes())
    dataset = scan(tmp_path)
    assert "2 of test" in note(dataset, "in several splits")
    pairs = [f"{tmp_path}/test/dog/copy{n}.png = {tmp_path}/train/cat/{n}.png" for n in range(2)]
    assert dataset.info["duplicates"] == pairs
    assert "2 of test" in note(prepared(dataset), "in several splits")  # said once


def test_fault_25_numeric_classes_are_in_numeric_order(tmp_path: Path) -> None:
    tree(tmp_path, "10", "2", "1")
    dataset = scan(tmp_path)
    assert dataset.info["classes"] == ["1", "2", "10"]
    assert dataset.info["class_order"] == "numeric" and "1, 2, 10" in note(dataset, "numeric order")
    assert dataset.info["mirror"] is False
    facts, _ = prepare(dataset, TASK, recipes.parse({}))
    assert facts["classes"] == ["1", "2", "10"]


def test_fault_26_file_that_vanishes(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "dog")
    dataset = scan(root)
    gone = root / "cat" / "3.png"
    gone.unlink()
    with pytest.raises(BadRows, match="vanished") as caught:
        prepared(dataset)
    assert caught.value.where == str(gone)
    rows = dataset.splits["train"]["image"]
    with pytest.raises(BadRows) as read:
        read_pictures(rows, (8, 8), 3)
    assert [rows[row] for row in read.value.rows] == [gone]


def test_on_bad_skip_counts_and_lists_up_to_one_per_cent(tmp_path: Path) -> None:
    root = tree(tmp_path, "cat", "dog", count=101)
    put(root / "cat" / "bad header.png", b"nothing")
    whole = encoded(1, "PNG")
    put(root / "dog" / "bad pixels.png", whole[: len(whole) // 2])
    dataset = scan(root, on_bad="skip")
    assert dataset.info["skipped"] == [str(root / "cat" / "bad header.png")]
    result = prepared(dataset, on_bad="skip")
    assert sum(map(len, result.splits.values())) == 202
    assert result.info["skipped"] == [str(root / "cat" / "bad header.png"), str(root / "dog" / "bad pixels.png")]
    assert "bad pixels.png" in note(result, "could not be read")
    put(root / "dog" / "another.png", b"nothing")
    with pytest.raises(DataError, match="more than 1 %"):
        prepared(scan(root, on_bad="skip"), on_bad="skip")
