"""``flambeau sample``: what can make nothing new says so, and arguments out of range are refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from PIL import Image

import flambeau
from flambeau.errors import UsageError

SMALL = ("model.width=4", "train.batch_size=64", "data.validation=none", "log.tensorboard=false")


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN that has seen the digits once."""
    out = tmp_path_factory.mktemp("painter") / "run"
    flambeau.train("digits", task="gan", epochs=1, settings=SMALL, device="cpu", out=out, quiet=True)
    return out


def test_a_classifier_makes_nothing_new(call: Command, trained: Path) -> None:
    done = call("sample", trained)
    assert done.code == 2
    assert "A model for image-classification makes no new examples." in done.err and "gan" in done.err
    with pytest.raises(UsageError, match="makes no new examples"):
        flambeau.sample(trained)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 0), ("length", 0), ("temperature", -1.0), ("temperature", float("inf")), ("top_k", 0)],
)
def test_arguments_out_of_range_are_refused(painter: Path, name: str, value: float) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(UsageError, match="out of range") as caught:
        flambeau.sample(painter, **given)
    assert caught.value.where == name


@pytest.mark.parametrize("option", [("--n", "0"), ("--length", "0"), ("--n", "many")])
def test_the_command_refuses_them_before_it_loads_anything(call: Command, option: tuple[str, str]) -> None:
    done = call("sample", "nowhere", *option)
    assert done.code == 2 and option[0] in done.err


def test_there_must_be_a_model(call: Command, tmp_path: Path) -> None:
    assert call("sample", tmp_path / "nowhere").code == 2


@pytest.mark.slow
def test_pictures_are_written_and_named(call: Command, painter: Path, tmp_path: Path) -> None:
    done = call("sample", painter, "--n", "9", "--png", "new.png")
    assert (done.code, done.out) == (0, "new.png\n")
    with Image.open(tmp_path / "new.png") as grid:
        assert grid.width >= 24 and grid.height >= 24
    assert call("sample", painter, "--n", "4", "--json").json["samples"] == []
    [named] = call("sample", painter, "--n", "4", "--json").json["pictures"]
    assert (tmp_path / named).is_file()


@pytest.mark.slow
def test_equal_seeds_make_equal_examples(painter: Path) -> None:
    def drawn(seed: int) -> bytes:
        [shown] = flambeau.sample(painter, n=4, seed=seed)
        assert not isinstance(shown, str)
        return shown.png

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
