from __future__ import annotations

import io
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flambeau.data.folders import scan
from flambeau.data.images import (
    PictureRules,
    channel_counts,
    channel_statistics,
    decode,
    decode_all,
    fit,
    probe,
    read_pictures,
    statistics_of,
)
from flambeau.errors import BadRows, DataError, MissingExtra

RNG = np.random.default_rng(7)
COLOUR = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)


def file_of(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("array", [COLOUR, GREY], ids=["colour", "grey"])
def test_every_form_of_a_picture_decodes_to_the_same_tensor(tmp_path: Path, array: np.ndarray) -> None:
    planes = torch.from_numpy(array if array.ndim == 2 else array.transpose(2, 0, 1).copy())
    expected = planes.unsqueeze(0) if array.ndim == 2 else planes
    content = file_of(Image.fromarray(array))
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    forms = [path, str(path), content, bytearray(content), Image.fromarray(array), array, planes]
    if array.ndim == 2:
        forms += [array[:, :, None], expected]
    for form in forms:
        picture = decode(form)
        assert torch.equal(picture, expected) and picture.dtype == torch.uint8 and picture.is_contiguous()
        assert probe(form) == (30, 20, expected.shape[0])


@pytest.mark.parametrize(
    ("raw", "received"),
    [
        (np.zeros((4, 4)), "float64 of shape (4, 4)"),
        (np.zeros((4, 4), dtype=np.int64), "int64 of shape (4, 4)"),
        (np.zeros((3, 5, 5), dtype=np.uint8), "uint8 of shape (3, 5, 5)"),
        (torch.zeros(3, 4, 4), "float32 of shape (3, 4, 4)"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), "uint8 of shape (4, 4, 3)"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "uint8 of shape (2, 1, 4, 4)"),
        (17, "int"),
    ],
)
def test_what_is_no_picture_is_refused_with_type_and_shape(raw: object, received: str) -> None:
    with pytest.raises(DataError) as caught:
        decode(raw)
    assert caught.value.received == received and caught.value.expected


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("P", 3), ("RGB", 3), ("CMYK", 3), ("YCbCr", 3), ("HSV", 3), ("I;16", 1)]
)
def test_modes_of_pillow(mode: str, channels: int) -> None:
    picture = Image.new("RGB", (6, 4), (200, 100, 50))
    converted = Image.fromarray(np.full((4, 6), 300, np.uint16)) if mode == "I;16" else picture.convert(mode)
    tensor = decode(converted)
    assert tensor.shape == (channels, 4, 6)
    if mode in {"P", "CMYK"}:
        assert (tensor[:, 0, 0].int() - torch.tensor([200, 100, 50])).abs().max() <= 26
    if mode == "I;16":
        assert set(tensor.flatten().tolist()) == {1}


def test_wide_integers_are_taken_only_within_sixteen_bits() -> None:
    assert decode(Image.fromarray(np.full((4, 4), 65535, np.int32)))[0, 0, 0] == 255
    for values in (np.full((4, 4), 70_000, np.int32), np.full((4, 4), -1, np.int32)):
        with pytest.raises(DataError, match="32-bit"):
            decode(Image.fromarray(values))
    with pytest.raises(DataError, match="floating-point"):
        decode(Image.fromarray(np.zeros((4, 4), np.float32)))


def test_grey_with_alpha_is_grey_on_grey_and_colour_on_colour() -> None:
    picture = Image.new("LA", (4, 4), (100, 0))
    assert decode(picture).shape == (1, 4, 4)
    assert decode(picture, PictureRules(background=(0, 0, 9)))[:, 0, 0].tolist() == [0, 0, 9]
    array = np.zeros((4, 4, 4), np.uint8)
    assert set(decode(array).flatten().tolist()) == {255}


def test_damaged_exif_does_not_hide_a_good_picture() -> None:
    content = file_of(Image.fromarray(COLOUR), exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decode(content).shape == (3, 20, 30)


def test_fit_greys_as_pillow_does() -> None:
    colour = decode(COLOUR).unsqueeze(0)
    expected = np.asarray(Image.fromarray(COLOUR).convert("L"))
    assert np.array_equal(fit(colour, (20, 30), 1)[0, 0].numpy(), expected)
    grey = decode(GREY).unsqueeze(0)
    assert torch.equal(fit(grey, (20, 30), 3), grey.expand(-1, 3, -1, -1))


def test_fit_leaves_alone_what_fits() -> None:
    pictures = decode(COLOUR).unsqueeze(0)
    assert fit(pictures, (20, 30), 3) is pictures


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (7, 50), (64, 9), (40, 60)])
def test_fit_of_many_is_that_of_each_bit_for_bit(channels: int, size: tuple[int, int]) -> None:
    pictures = torch.from_numpy(RNG.integers(0, 256, (9, channels, 33, 41), dtype=np.uint8))
    together = fit(pictures, size, channels)
    assert together.shape == (9, channels, *size) and together.dtype == torch.uint8
    assert torch.equal(together, torch.cat([fit(picture.unsqueeze(0), size, channels) for picture in pictures]))
    assert torch.equal(together, fit(pictures.contiguous(memory_format=torch.channels_last), size, channels))


def test_fit_agrees_with_pillow_to_one_level_when_shrinking() -> None:
    smooth = Image.fromarray(COLOUR).resize((120, 80), Image.Resampling.BICUBIC)
    ours = fit(decode(smooth).unsqueeze(0), (16, 24), 3)[0].permute(1, 2, 0).numpy()
    theirs = np.asarray(smooth.resize((24, 16), Image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.filterwarnings("ignore")
def test_fit_can_be_exported() -> None:
    class Fit(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return fit(pictures, (16, 16), 1)

    pictures = torch.from_numpy(RNG.integers(0, 256, (2, 3, 40, 30), dtype=np.uint8))
    exported = torch.export.export(Fit(), (pictures,)).module()
    assert torch.equal(exported(pictures), fit(pictures, (16, 16), 1))


def test_reading_many_is_reading_each_bit_for_bit(tmp_path: Path) -> None:
    rows: list[object] = []
    for number in range(12):
        array = RNG.integers(0, 256, (20 + number, 40 - number, 3), dtype=np.uint8)
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(array).save(path)
        rows.append([path, path.read_bytes(), Image.fromarray(array), array[:, :, :1]][number % 4])
    together = read_pictures(rows, (24, 24), 3)
    assert torch.equal(together, torch.cat([read_pictures([row], (24, 24), 3) for row in rows]))
    alone = torch.cat([fit(decode(row).unsqueeze(0), (24, 24), 3) for row in rows])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_dense_rows_read_as_listed_ones_do(n: int) -> None:
    dense = torch.from_numpy(RNG.integers(0, 256, (n, 3, 20, 30), dtype=np.uint8))
    assert torch.equal(read_pictures(dense, (8, 8), 1), read_pictures(list(dense), (8, 8), 1))
    assert torch.equal(read_pictures(dense[:, 0], (8, 8), 1), read_pictures(list(dense[:, 0]), (8, 8), 1))
    assert read_pictures(dense, (20, 30), 3) is dense
    with pytest.raises(DataError, match="does not hold pictures"):
        read_pictures(dense.float(), (8, 8), 1)


def test_all_bad_rows_are_reported_together() -> None:
    rows = [GREY, b"nothing", COLOUR, np.zeros((2, 2)), "no/such/file.png"]
    for read in (lambda: read_pictures(rows, (8, 8), 1), lambda: decode_all(rows)):
        with pytest.raises(BadRows) as caught:
            read()
        assert sorted(caught.value.rows) == [1, 3, 4]
        assert caught.value.rows[4].where == "no/such/file.png"
        assert "3 inputs cannot be read" in str(caught.value)


def test_pillow_settings_and_warning_filters_are_left_as_they_were() -> None:
    before, limit = warnings.filters[:], Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(decode, [file_of(Image.fromarray(COLOUR))] * 50))) == 50
    assert warnings.filters == before and limit == Image.MAX_IMAGE_PIXELS


def test_channel_statistics_are_those_of_the_pixels() -> None:
    pictures = torch.from_numpy(RNG.integers(0, 256, (5, 3, 9, 11), dtype=np.uint8))
    mean, std = channel_statistics(pictures)
    pixels = pictures.double().div(255).permute(1, 0, 2, 3).flatten(1)
    assert mean == pytest.approx(pixels.mean(1).tolist()) and std == pytest.approx(pixels.std(1, correction=0).tolist())
    parts = channel_counts(pictures[:2]) + channel_counts(pictures[2:])
    assert statistics_of(parts) == (mean, std)


FILES = [
    file_of(Image.fromarray(COLOUR), "PNG"),
    file_of(Image.fromarray(COLOUR), "JPEG"),
    file_of(Image.fromarray(COLOUR), "GIF"),
    file_of(Image.fromarray(COLOUR), "BMP"),
    file_of(Image.fromarray(COLOUR), "WEBP"),
    file_of(Image.fromarray(COLOUR), "TIFF"),
]


@settings(max_examples=150, deadline=None)
@given(
    content=st.sampled_from(FILES),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    length=st.floats(0, 1),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_raise_data_errors_and_nothing_else(
    content: bytes, changes: list[tuple[int, int]], length: float
) -> None:
    damaged = bytearray(content)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    damaged = damaged[: round(len(damaged) * (1 - length * (length > 0.5)))]
    for read in (decode, probe):
        try:
            read(bytes(damaged))
        except DataError as error:
            assert error.where == "the given bytes" and error.problem.endswith((".", "megapixels."))


def drawn() -> Image.Image:
    """A picture whose corners differ, so that one that is turned is noticed."""
    values = np.full((48, 64, 3), 40, np.uint8)
    values[:24, :32] = (250, 30, 30)
    return Image.fromarray(values)


@pytest.mark.parametrize(("ending", "options"), [("webp", {"lossless": True}), ("webp", {"quality": 95})])
def test_webp(tmp_path: Path, ending: str, options: dict[str, object]) -> None:
    path = tmp_path / f"a.{ending}"
    drawn().save(path, **options)
    assert probe(path) == (64, 48, 3)
    difference = (decode(path).float() - decode(drawn()).float()).abs()
    assert difference.max() == 0 if "lossless" in options else difference.mean() < 4
    clear = drawn()
    clear.putalpha(0)
    clear.save(path, lossless=True)
    assert (decode(path) == 255).all(), "transparency is laid on white"
    drawn().save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError):
        decode(path)


def test_heic_is_read_like_any_other_picture(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "IMG_0001.HEIC"
    pillow_heif.from_pillow(drawn()).save(path, quality=90)
    assert probe(path) == (64, 48, 3)
    assert (decode(path).float() - decode(drawn()).float()).abs().mean() < 6
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn().save(path, "HEIF", exif=exif.tobytes(), quality=90)
    # However the file says that it is turned, it is turned once.
    assert probe(path) == tuple(reversed(decode(path).shape)) == (48, 64, 3)
    assert decode(path)[0, 4, 44] > 200 > 90 > decode(path)[0, 4, 4]
    whole = path.read_bytes()
    for cut in (20, 60, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            decode(path)
    path.write_bytes(whole)
    with pytest.raises(DataError, match="megapixels"):
        decode(path, PictureRules(max_megapixels=0.001))


def test_heic_without_the_extra_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        drawn().save(tmp_path / name / "1.png")
    (tmp_path / "cat" / "2.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(MissingExtra) as caught:
        scan(tmp_path, on_bad="skip")
    assert caught.value.remedy == "pip install 'flambeau[heic]'" and "2.heic" in str(caught.value.where)
