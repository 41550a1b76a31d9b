"""The networks: shapes, initialisation, arguments, and what is said when one does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from flambeau.core import Facts
from flambeau.errors import ModelError
from flambeau.models.classifier import Classifier, check_fit
from flambeau.models.compact import compact
from flambeau.models.custom import from_file, from_object
from flambeau.models.initialize import initialize
from flambeau.models.lenet import lenet
from flambeau.models.mlp import mlp
from flambeau.models.shapes import smallest_side
from flambeau.models.tutorial import tutorial_cifar10

EXAMPLES = Path(__file__).parent.parent / "examples"


def facts(size: int | tuple[int, int] = 28, channels: int = 1, classes: int = 10) -> Facts:
    height, width = (size, size) if isinstance(size, int) else size
    return {"classes": [f"class {k}" for k in range(classes)], "size": [height, width], "channels": channels}


@pytest.mark.parametrize("builder", [mlp, lenet, tutorial_cifar10, compact])
@pytest.mark.parametrize("size", [16, 28, 32, (64, 48), (16, 64)])
@pytest.mark.parametrize(("channels", "classes"), [(1, 10), (3, 2)])
def test_every_builder_gives_a_score_for_each_class(
    builder: object, size: int | tuple[int, int], channels: int, classes: int
) -> None:
    data = facts(size, channels, classes)
    network = builder(data)  # type: ignore[operator]
    check_fit(network, data)
    network.train()
    logits = network(torch.randn(2, channels, *data["size"]))
    assert logits.shape == (2, classes)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("size", [4, 5, 8, (4, 64), 63, 64])
def test_compact_takes_small_and_odd_pictures(size: int | tuple[int, int]) -> None:
    check_fit(compact(facts(size), width=4), facts(size))


def test_compact_ends_at_eight_pixels_or_fewer_and_doubles_its_channels() -> None:
    network = compact(facts(64, 3), width=4, depth=3)
    assert [name for name, _ in network.named_children() if name.startswith("stage")] == ["stage1", "stage2", "stage3"]
    assert network.get_submodule("head").in_features == 32
    maps = network.get_submodule("stem")(torch.zeros(1, 3, 64, 64))
    for name in ("pool1", "stage1", "pool2", "stage2", "pool3", "stage3"):
        maps = network.get_submodule(name)(maps)
    assert maps.shape == (1, 32, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"width": 0}, "model.width"),
        ({"width": 2.5}, "model.width"),
        ({"dropout": "a"}, "model.dropout"),
        ({"depth": 0}, "model.depth"),
        ({"dropout": 1.0}, "model.dropout"),
    ],
)
def test_compact_refuses_arguments_out_of_range(arguments: dict[str, float], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        compact(facts(), **arguments)  # type: ignore[arg-type]


def test_compact_refuses_pictures_of_three_pixels() -> None:
    with pytest.raises(ModelError, match=r"too small(.|\n)*images\.size"):
        compact(facts(3))


@pytest.mark.parametrize(
    ("example", "build"),
    [
        ("fashion_mnist", lambda: mlp(facts(), widths=[512, 512])),
        ("mnist", lambda: mlp(facts(), widths=[128, 64], log_softmax=True)),
        ("cifar10", lambda: tutorial_cifar10(facts(32, 3))),
    ],
)
def test_weights_under_a_seed_equal_those_of_the_plain_example(
    example: str, build: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    plain = __import__(example)
    torch.manual_seed(7)
    theirs = list(plain.make_network().parameters())
    torch.manual_seed(7)
    ours = list(build().parameters())  # type: ignore[operator]
    assert len(theirs) == len(ours)
    assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))


def test_mlp_arguments_appear_as_layers() -> None:
    network = mlp(facts(8), widths=[5, 4], activation="tanh", dropout=0.5, final_relu=True, log_softmax=True)
    kinds = [type(layer).__name__ for layer in network.children()]
    assert kinds == [
        "Flatten",
        "Linear",
        "Tanh",
        "Dropout",
        "Linear",
        "Tanh",
        "Dropout",
        "Linear",
        "ReLU",
        "LogSoftmax",
    ]
    assert [type(layer).__name__ for layer in mlp(facts(8), widths=[]).children()] == ["Flatten", "Linear"]


@pytest.mark.parametrize(("norm", "layer"), [("batch", "BatchNorm1d"), ("layer", "LayerNorm")])
def test_mlp_normalises_before_the_activation(norm: str, layer: str) -> None:
    names = [type(part).__name__ for part in mlp(facts(8), widths=[5], norm=norm).children()]
    assert names == ["Flatten", "Linear", layer, "ReLU", "Linear"]


def test_a_deep_selu_network_keeps_mean_and_variance() -> None:
    torch.manual_seed(0)
    network = mlp(facts(16), widths=[400] * 12, activation="selu", dropout=0.05)
    assert any(isinstance(layer, nn.AlphaDropout) for layer in network.modules())
    initialize(network, "lecun-normal")
    hidden = network[:-1](torch.randn(500, facts(16)["channels"], 16, 16))
    assert abs(hidden.mean().item()) < 0.15
    assert 0.7 < hidden.std().item() < 1.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "rleu"}, "Did you mean relu"),
        ({"widths": [64, 0]}, "at least one feature"),
        ({"widths": [64.5]}, "at least one feature"),
        ({"widths": "64"}, "list of whole numbers"),
        ({"dropout": -0.1}, "out of range"),
    ],
)
def test_mlp_refuses_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        mlp(facts(), **arguments)  # type: ignore[arg-type]


def test_lenet_has_the_ten_tensors_of_the_foundations() -> None:
    network = lenet(facts(32))
    assert len(list(network.parameters())) == 10
    assert tuple(network.get_parameter("conv1.weight").shape) == (6, 1, 5, 5)
    shapes = [tuple(parameter.shape) for parameter in lenet(facts(28)).parameters()]
    assert shapes == [tuple(parameter.shape) for parameter in network.parameters()]


@pytest.mark.parametrize(("builder", "least"), [(tutorial_cifar10, 16), (lenet, 12)])
def test_too_small_pictures_are_refused_with_the_layer_and_a_size_that_works(builder: object, least: int) -> None:
    check_fit(builder(facts(least)), facts(least))  # type: ignore[operator]
    with pytest.raises(ModelError) as caught:
        builder(facts(least - 1))  # type: ignore[operator]
    error = caught.value
    assert error.where is not None and "layer " in error.where
    assert error.expected is not None and error.received is not None and " x " in error.received
    assert error.remedy is not None and f"images.size = {least}" in error.remedy


def test_smallest_side_is_where_the_last_layer_still_gives_one_pixel() -> None:
    assert smallest_side([("a", 1, 5, 1), ("b", 1, 2, 2), ("c", 1, 5, 1), ("d", 1, 2, 2)]) == 16


def test_classifier_normalises_as_torchvision_does_and_keeps_temperature_out() -> None:
    pictures = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8)
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
    classifier = Classifier(nn.Flatten(), mean, std)
    expected = pictures.float().div(255)
    for channel in range(3):
        expected[:, channel].sub_(torch.tensor(mean[channel])).div_(torch.tensor(std[channel]))
    classifier.temperature.fill_(3.0)
    assert torch.equal(classifier(pictures), expected.flatten(1))
    assert torch.equal(classifier(pictures.float()), expected.flatten(1))
    assert list(classifier.state_dict()) == ["mean", "std", "temperature"]


def test_classifier_without_statistics_only_scales() -> None:
    pictures = torch.randint(0, 256, (4, 1, 5, 6), dtype=torch.uint8)
    classifier = Classifier(nn.Flatten())
    assert torch.equal(classifier(pictures), (pictures.float() / 255).flatten(1))
    assert list(classifier.state_dict()) == ["temperature"]


@pytest.mark.parametrize(
    ("mean", "std"), [([0.5], None), (None, [0.5]), ([0.5], [0.5, 0.5]), ([0.5], [0.0]), ([0.5], [float("nan")])]
)
def test_classifier_refuses_half_a_normalisation(mean: list[float] | None, std: list[float] | None) -> None:
    with pytest.raises(ModelError, match="Normalisation"):
        Classifier(nn.Flatten(), mean, std)


@pytest.mark.parametrize(
    ("network", "data", "where", "expected", "received", "remedy"),
    [
        (tutorial_cifar10(facts(32, 3)), facts(28, 3), "layer fc1", "400", "2 x 256", "images.size = 32"),
        (tutorial_cifar10(facts(32, 3)), facts(32, 1), "layer conv1", "3 channels", "2 x 1 x 32 x 32", "channels = 3"),
        (lenet(facts(32, 1)), facts(32, 3), "layer conv1", "1 channels", "2 x 3 x 32 x 32", "images.channels = 1"),
        (nn.Sequential(nn.Linear(784, 10)), facts(), "layer 0", "784", "2 x 1 x 28 x 28", "Flatten"),
        (nn.Sequential(nn.BatchNorm2d(4)), facts(), "layer 0", "4 channels", "2 x 1", "num_features = 1"),
        (nn.Sequential(nn.MaxPool2d(30)), facts(), "layer 0", "kernel", "28 x 28", "Pool less"),
        (nn.Sequential(nn.Conv2d(1, 2, 29)), facts(), "layer 0", "29 x 29", "28 x 28", "smaller kernel"),
        (Classifier(mlp(facts(32))), facts(28), "layer network.1", "1024", "2 x 784", "images.size = 32"),
        (mlp(facts(classes=10)), facts(classes=7), "layer 5", "N x 7", "2 x 10", "7 outputs"),
        (nn.Conv2d(1, 10, 3), facts(), "Conv2d", "N x 10", "2 x 10 x 26 x 26", "Flatten"),
        (nn.LSTM(28, 10), facts(), "LSTM", None, "2 x 1 x 28 x 28", None),
    ],
)
def test_what_does_not_fit_is_explained(
    network: nn.Module, data: Facts, where: str, expected: str | None, received: str, remedy: str | None
) -> None:
    with pytest.raises(ModelError) as caught:
        check_fit(network, data)
    for part, text in ((where, caught.value.where), (received, caught.value.received)):
        assert part in str(text)
    assert expected is None or expected in str(caught.value.expected)
    assert remedy is None or remedy in str(caught.value.remedy)


class Views(nn.Module):
    """The commonest mistake: a fixed view() that mixes up the batch with the features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4 * 30 * 30, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.conv(images).view(-1, 4 * 30 * 30))
        return logits


def test_a_failing_forward_names_the_last_layer_and_its_shape() -> None:
    with pytest.raises(ModelError) as caught:
        check_fit(Views(), facts(28, 3))
    assert "after the layer conv" in caught.value.problem and "2 x 4 x 26 x 26" in caught.value.problem
    assert caught.value.remedy == "Set images.size = 32."
    assert isinstance(caught.value.__cause__, RuntimeError)


class Pair(nn.Module):
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images, images


def test_a_network_that_returns_a_pair_is_refused() -> None:
    with pytest.raises(ModelError, match="a tuple"):
        check_fit(Pair(), facts())


def test_check_fit_leaves_the_network_and_the_generator_as_they_were() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10), nn.BatchNorm1d(10))
    network[3].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.get_rng_state()
    check_fit(network, facts())
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in network] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_check_fit_works_on_the_meta_device() -> None:
    with torch.device("meta"):
        network = compact(facts(64, 3))
    check_fit(network, facts(64, 3))


class Own(nn.Module):
    def __init__(self, num_classes: int, channels: int, hidden: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, hidden, 3), nn.Flatten(), nn.Linear(hidden * 36, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(images)
        return logits


def test_a_constructor_gets_what_it_asks_for_and_the_recipe_wins() -> None:
    data = facts(8, 3, 5)
    network = from_object(Own, data, {"hidden": 6}, where="own.py:Own")
    check_fit(network, data)
    assert network.get_parameter("body.0.weight").shape == (6, 3, 3, 3)
    assert from_object(Own, data, {"num_classes": 2}, where="").get_parameter("body.2.bias").shape == (2,)
    plain = from_object(lambda: nn.Linear(2, 2), data, where="")
    assert isinstance(plain, nn.Linear)
    seen = from_object(lambda classes, class_names: nn.Linear(classes, len(class_names)), data, where="")
    assert seen.get_parameter("weight").shape == (5, 5)


@pytest.mark.parametrize(
    ("made_by", "arguments", "message"),
    [
        (Own, {"hiden": 3}, "Did you mean hidden"),
        (lambda depth: nn.Linear(1, depth), {}, "'depth' is missing"),
        (lambda: "no network", {}, "not a network"),
        (nn.Linear(2, 2), {}, "does not name a network"),
        (7, {}, "does not name a network"),
        (Own, {"hidden": -1}, "constructor failed"),
    ],
)
def test_what_is_no_network_of_ones_own_is_refused(made_by: object, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        from_object(made_by, facts(8), arguments, where="own.py:Own")
    assert caught.value.where == "own.py:Own"


def test_a_class_in_a_file_becomes_a_network(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def __init__(self, num_classes, image_size, hidden=3):\n"
        "        height, width = image_size\n"
        "        super().__init__(nn.Flatten(), nn.Linear(height * width, hidden), nn.Linear(hidden, num_classes))\n"
    )
    data = facts((6, 4), 1, 5)
    network = from_file(f"{file}:Net", data, {"hidden": 7})
    check_fit(network, data)
    assert [tuple(parameter.shape) for parameter in network.parameters()] == [(7, 24), (7,), (5, 7), (5,)]
