from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flambeau.data.datasets import digits, fashion_mnist_mini
from flambeau.data.folders import scan
from flambeau.data.images import channel_statistics
from flambeau.data.preview import describe, grid, samples, to_terminal
from flambeau.errors import BadRows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for number in range(4):
            shape = (10, 12) if number else (10, 12, 3)
            Image.fromarray(np.full(shape, 60 * place + number, np.uint8)).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_describe_dense() -> None:
    source = fashion_mnist_mini.load()
    told = describe(source)
    assert json.loads(json.dumps(told)) == told
    assert told["rows"] == {"train": 5000, "test": 1000} and told["counts"]["train"]["Ankle boot"] == 506
    assert told["sizes"] == [{"width": 28, "height": 28, "count": 6000}] and told["channels"] == {"1": 6000}
    assert (told["mean"], told["std"]) == channel_statistics(source.splits["train"].tensor("image"))


def test_describe_folder_of_grey_and_colour(folder: Path) -> None:
    told = describe(scan(folder))
    assert told["counts"] == {"train": {"cat": 4, "dog": 4}} and told["channels"] == {"1": 6, "3": 2}
    assert told["size_range"] == {"width": [12, 12], "height": [10, 10]}
    values = torch.tensor([0, 1, 2, 3, 60, 61, 62, 63]).double() / 255
    assert told["mean"] == pytest.approx([float(values.mean())] * 3)
    assert told["std"] == pytest.approx([float(values.std(correction=0))] * 3)


def test_describe_finds_what_cannot_be_decoded(folder: Path) -> None:
    source = scan(folder)
    bad = [folder / "cat" / "1.png", folder / "dog" / "3.png"]
    for path in bad:
        path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(BadRows, match="2 inputs"):
        describe(source)


def test_samples_show_every_class() -> None:
    source = digits.load()
    images, captions = samples(source, 20)
    assert images.shape == (20, 1, 8, 8) and sorted(captions) == sorted("0123456789" * 2)
    assert torch.equal(images, samples(source, 20)[0]) and not torch.equal(images, samples(source, 20, seed=1)[0])
    assert samples(source, 7, size=(16, 16))[0].shape == (7, 1, 16, 16)


def test_samples_carry_their_own_captions(folder: Path) -> None:
    images, captions = samples(scan(folder), 5)
    assert images.shape == (5, 3, 10, 12)
    assert captions == ["dog" if image.max() >= 60 else "cat" for image in images]


def test_grid_shows_the_pixels_enlarged() -> None:
    images = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    images[1] = 200
    sheet = grid(images, ["a", "b", "a very long name indeed, too long for its tile"], columns=2, side=32)
    assert sheet.size == (8 + 2 * 40, 8 + 2 * 58)
    assert sheet.getpixel((8, 8)) == (0, 0, 0) and sheet.getpixel((8 + 40 + 31, 8 + 31)) == (200, 200, 200)
    assert sheet.getpixel((8 + 40 + 10, 8 + 58 + 10)) == (255, 255, 255)


def test_terminal_grid_has_two_pixels_in_a_character() -> None:
    from rich.console import Console

    images = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    images[0, 0, 0] = 255
    text = to_terminal(images, ["cat", "dog", "caterpillars"], columns=2)
    lines = text.plain.split("\n")
    assert lines[0] == "▀" * 8 + "  " + "▀" * 8 + "  " and "caterpi…" in lines[-2]
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system="truecolor", width=80).print(text)
    assert "\x1b[38;2;255;0;0;48;2;0;0;0m▀" in out.getvalue()
