"""Frozen networks: published ones, those of one's own, in part or but for the last layer; and what cannot be frozen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from torch import Tensor, nn
from torch.nn import functional as F

import flambeau
from flambeau.columns import Split
from flambeau.errors import ModelError, RecipeError
from flambeau.models.classifier import Classifier
from flambeau.models.frozen import Frozen, freeze, plain_weights
from flambeau.models.torchvision_networks import Network
from flambeau.tasks.image_inputs import condense
from flambeau.workflow.planning import resolve

SETTINGS = ["train.batch_size=16", "optimizer.lr=0.05", "log.tensorboard=false", "images.size=16"]

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, channels):
        super().__init__()
        self.fc = nn.Linear(8, num_classes)  # stands first and runs last
        self.features = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))
"""


class Softened(nn.Module):
    """Has something after its last layer that is no module."""

    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        self.layers, self.in_place = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2)), in_place

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layers(x)
        return F.relu_(scores.add_(9)) if self.in_place else F.log_softmax(scores, 1)


def learning(network: nn.Module) -> list[str]:
    return [name for name, parameter in network.named_parameters() if parameter.requires_grad]


def trained(pictures: Path, out: Path, model: object, *settings: str) -> flambeau.Run:
    return flambeau.train(pictures, model=model, epochs=2, settings=[*SETTINGS, *settings], out=out, quiet=True)  # type: ignore[arg-type]


def test_squeezenets_last_convolution_learns_on_features_that_stand_for_pictures() -> None:
    torch.manual_seed(0)
    network = Network("squeezenet1_1")({"classes": ["a", "b", "c"], "size": [48, 48], "channels": 3}, stem="standard")
    model = Classifier(freeze(network, True, torch.rand(2, 3, 48, 48)))
    assert learning(model) == ["network.network.classifier.1.weight", "network.network.classifier.1.bias"]
    pictures = torch.randint(0, 256, (5, 3, 48, 48), dtype=torch.uint8)
    features = condense(model, Split({"image": pictures})).tensor("image")
    assert features.shape == (5, 512 * 2 * 2) and torch.equal(model.train()(pictures), model(features))


def test_modules_in_a_row_are_cut_before_the_last_layer_whatever_follows_it() -> None:
    row = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)), nn.LogSoftmax(1))
    pictures = torch.rand(6, 3, 2, 2)
    frozen = freeze(row, True, pictures[:2])
    assert frozen.tail == ("2", "3") and learning(frozen) == ["network.2.1.weight", "network.2.1.bias"]
    assert torch.equal(frozen(frozen.features(pictures)), row(pictures))


@pytest.mark.parametrize("in_place", [False, True])
def test_what_follows_the_last_layer_outside_a_module_is_noticed(in_place: bool) -> None:
    frozen = freeze(Softened(in_place), True, torch.rand(2, 3, 2, 2))
    assert frozen.tail == () and learning(frozen) == ["network.layers.3.weight", "network.layers.3.bias"]
    split = Split({"image": torch.zeros(2, 3, 2, 2, dtype=torch.uint8)})
    assert condense(Classifier(frozen), split) is split


def test_parts_by_name_stay_in_evaluation_and_the_rest_trains() -> None:
    row = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 2))
    frozen = freeze(row, ["0", "1"], torch.rand(2, 3, 2, 2)).train()
    assert [module.training for module in row] == [False, False, True, True, True]
    assert learning(frozen) == ["network.4.weight", "network.4.bias"] and frozen.tail == ()
    before = row[1].running_mean.clone()  # type: ignore[union-attr, operator]
    frozen(torch.rand(8, 3, 2, 2))
    assert torch.equal(row[1].running_mean, before)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "what", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), True, "has no weights"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), ["0"], "has no weights"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), ["1"], "Nothing would be left to learn"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), ["2"], "no part called '2'"),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12)), True, "no linear or convolutional layer"),
    ],
)
def test_what_cannot_be_frozen(network: nn.Module, what: bool | list[str], said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        freeze(network, what, torch.rand(2, 3, 2, 2))
    assert caught.value.where == "model.freeze"


@pytest.mark.slow
def test_a_network_of_ones_own_file(call: Command, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    model = f"{tmp_path / 'net.py'}:Net"
    first = trained(pictures, tmp_path / "first", model)
    settings = [part for text in [*SETTINGS, "model.freeze=true"] for part in ("--set", text)]
    done = call("train", pictures, "--init", first.path, "--epochs", "2", *settings, "--out", tmp_path / "second")
    assert done.code == 0, done.err
    assert "features of" in done.out + done.err and "computed once" in done.out + done.err
    old = plain_weights(flambeau.load(first, trust_code=True).network)
    found = flambeau.load(tmp_path / "second", trust_code=True).network
    new = plain_weights(found)
    changed = [name for name, value in new.items() if name.startswith("network.") and not torch.equal(value, old[name])]
    assert changed == ["network.fc.weight", "network.fc.bias"]
    scores = flambeau.Run(tmp_path / "second").scores
    evaluated = call("evaluate", tmp_path / "second", "--trust-code", "--json")
    assert evaluated.json["scores"]["loss"] == pytest.approx(scores["test/loss"], rel=1e-5)
    done = call("train", pictures, "--model", model, "--set", "model.freeze=['feature']", "--out", tmp_path / "third")
    assert done.code == 2 and "no part called 'feature'. Did you mean features" in done.err


@pytest.mark.slow
def test_a_sequence_given_in_python(pictures: Path, tmp_path: Path) -> None:
    def made() -> nn.Sequential:
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(196, 2))

    run = trained(pictures, tmp_path / "all", made(), "images.channels=3", "model.freeze=true")
    weights, fresh = plain_weights(flambeau.load(run, network=made).network), made().state_dict()
    assert torch.equal(weights["network.0.weight"], fresh["0.weight"])
    assert not torch.equal(weights["network.3.weight"], fresh["3.weight"])
    run = trained(pictures, tmp_path / "part", made(), "images.channels=3", "model.freeze=['0']")
    loaded = flambeau.load(run, network=made)
    assert torch.equal(plain_weights(loaded.network)["network.0.weight"], fresh["0.weight"])
    assert isinstance(loaded.network.network, Frozen) and run.recipe.model.freeze == ["0"]
    assert loaded.predict(np.zeros((16, 16, 3), np.uint8))["class"] in ("bright", "dark")


def test_other_tasks_refuse_it() -> None:
    with pytest.raises(RecipeError, match=r"model.freeze: is for networks of pictures; text-classification"):
        resolve("sms-spam", None, task="text-classification", settings=["model.freeze=true"])
