"""``inspect --html``: the page about a network, with its graph, first filters and the activations of an example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from conftest import Command
from PIL import Image
from test_report_page import parsed
from torch import nn

import flambeau
from flambeau.models.activations import activations, as_pictures, first_filters
from flambeau.report.network import spread


def test_the_page_of_a_model_shows_the_activations_of_an_example(call: Command, trained: Path, tmp_path: Path) -> None:
    digits = flambeau.datasets.load("digits").splits["train"]["image"]
    Image.fromarray(digits[0, 0].numpy()).save(tmp_path / "zero.png")
    page = tmp_path / "page.html"
    done = call("inspect", trained, "--html", page, "--example", tmp_path / "zero.png", "--json")
    assert done.json["html"] == str(page)
    html = page.read_text(encoding="utf-8")
    parsed(html)
    assert re.findall(r"<h2>([\w ]+)</h2>", html) == ["Graph", "First filters", "Activations", "Layers"]
    answer = flambeau.load(trained).predict(tmp_path / "zero.png")
    assert f"{answer['class']} {answer['probability']:.1%}" in html


def test_the_page_of_a_network_by_name(call: Command, tmp_path: Path) -> None:
    done = call("inspect", "lenet", "--html", tmp_path / "lenet.html")
    assert done.code == 0
    html = (tmp_path / "lenet.html").read_text(encoding="utf-8")
    assert html.count("filter ") >= 6
    assert "Activations" not in html


def test_what_has_no_network_has_no_page(call: Command, tmp_path: Path, trained: Path) -> None:
    done = call("inspect", "digits", "--html", tmp_path / "page.html")
    assert done.code == 2
    assert "no network" in done.err
    done = call("inspect", trained, "--example", "zero.png")
    assert done.code == 2
    assert "--html FILE" in done.err


def test_activations_are_what_the_layers_gave_even_where_the_next_works_in_place() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(72, 3))
    picture = torch.randn(1, 1, 8, 8)
    found = {one.name: one.values for one in activations(network, lambda: network(picture))}
    assert list(found) == ["0", "1", "2", "3"]
    with torch.no_grad():
        assert found["0"].equal(network[0](picture)[0])
        assert found["3"].equal(network(picture)[0])
    assert found["0"].min() < 0 <= found["1"].min()


def test_first_filters_are_those_of_a_convolution_or_of_a_linear_layer_over_pixels() -> None:
    name, filters = first_filters(nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), (3, 4, 4)) or ("", torch.empty(0))
    assert (name, filters.shape) == ("1", (5, 3, 4, 4))
    assert first_filters(nn.Sequential(nn.Conv2d(8, 4, 3)), (8, 9, 9)) is None
    assert first_filters(nn.Sequential(nn.Embedding(10, 3)), (7,)) is None


def test_as_pictures_uses_the_whole_range_of_each() -> None:
    made = as_pictures(torch.tensor([[[[-1.0, 0.0, 1.0]]], [[[5.0, 5.0, 5.0]]]]))
    assert made.tolist() == [[[[0, 128, 255]]], [[[0, 0, 0]]]]


@pytest.mark.parametrize("count", [1, 11, 12, 13, 200])
def test_spread_keeps_both_ends(count: int) -> None:
    found = spread(list(range(count)))
    assert (found[0], found[-1]) == (0, count - 1)
    assert len(found) == min(12, count) == len(set(found))
