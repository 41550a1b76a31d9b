"""torchvision's classification networks: every name, every family on small pictures, and what is changed for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flambeau
from flambeau import catalog
from flambeau.core import Facts
from flambeau.errors import ModelError
from flambeau.models.classifier import Classifier, check_fit
from flambeau.models.initialize import initialize
from flambeau.models.published import TORCHVISION
from flambeau.models.torchvision_networks import FAMILIES, Network, family_of

SMALLEST = {
    family: min(names, key=lambda name: TORCHVISION[name].parameters)
    for family in FAMILIES
    if (names := [name for name in TORCHVISION if family_of(name) is FAMILIES[family]])
}
"""Of each family the network with the fewest parameters."""


def facts(size: int | tuple[int, int] = 32, channels: int = 3, classes: int = 10) -> Facts:
    height, width = (size, size) if isinstance(size, int) else size
    return {"classes": [f"class {k}" for k in range(classes)], "size": [height, width], "channels": channels}


def on_meta(name: str, data: Facts, **arguments: Any) -> nn.Module:
    """A network without memory."""
    with torch.device("meta"):
        return Network(name)(data, **arguments)


def test_the_table_is_torchvisions() -> None:
    from torchvision import models

    assert list(TORCHVISION) == models.list_models(module=models)
    for name, told in TORCHVISION.items():
        weights = models.get_model_weights(name).DEFAULT
        assert told.side == weights.transforms.keywords["crop_size"], name
        assert told.megabytes == round(weights.meta["_file_size"]), name
        assert told.licence == weights.meta.get("license", "not stated"), name
        # With its auxiliary head Inception has more than what is built here.
        assert name == "inception_v3" or told.parameters == weights.meta["num_params"], name


def test_every_family_has_networks() -> None:
    assert set(SMALLEST) == set(FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TORCHVISION if name not in SMALLEST.values()])
def test_every_network_takes_small_grey_pictures(name: str) -> None:
    small = facts(32, channels=1)
    check_fit(on_meta(name, small), small)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_small_grey_pictures(family: str) -> None:
    small = facts(32, channels=1, classes=3)
    network = on_meta(SMALLEST[family], small)
    maps = last_maps(network)
    check_fit(network, small)
    assert min(maps) >= 2, f"{family} leaves maps of one pixel"


def last_maps(network: nn.Module) -> list[int]:
    """The sides of what convolutions give, filled while the network runs; what gates give is one pixel."""
    sides: list[int] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sides.extend(output.shape[2:] if inputs[0].shape[-1] > 1 else ())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(note)
    return sides


@pytest.mark.slow
@pytest.mark.parametrize("family", ["densenet", "inception", "maxvit", "regnet", "resnet", "swin", "vgg", "vit"])
def test_at_the_published_size_it_is_the_published_network(family: str) -> None:
    from torchvision import models

    name = SMALLEST[family]
    extra: dict[str, Any] = {"aux_logits": False, "init_weights": False} if family == "inception" else {}
    theirs = {key: value.shape for key, value in models.get_model(name, **extra).state_dict().items()}
    ours = on_meta(name, facts(TORCHVISION[name].side, classes=1000))
    assert {key: value.shape for key, value in ours.state_dict().items()} == theirs
    assert sum(parameter.numel() for parameter in ours.parameters()) == TORCHVISION[name].parameters


def test_a_seed_gives_the_weights_that_torchvision_draws() -> None:
    from torchvision import models

    torch.manual_seed(3)
    theirs = models.mobilenet_v3_small(num_classes=10).state_dict()
    torch.manual_seed(3)
    ours = Network("mobilenet_v3_small")(facts(64)).state_dict()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


def test_the_small_stem_of_a_resnet_is_the_usual_one_for_cifar() -> None:
    network = Network("resnet18")(facts(28, channels=1))
    first = network.get_submodule("conv1")
    assert isinstance(first, nn.Conv2d) and isinstance(network.get_submodule("maxpool"), nn.Identity)
    assert (first.in_channels, first.kernel_size, first.stride, first.padding) == (1, (3, 3), (1, 1), (1, 1))
    assert last_sides(network, 28) == 4


def last_sides(network: nn.Module, side: int) -> int:
    maps = last_maps(network)
    network.eval()(torch.zeros(1, 1, side, side))
    return maps[-1]


@pytest.mark.parametrize(
    ("name", "size", "stem"),
    [
        ("resnet18", 63, "small"),
        ("resnet18", 64, "standard"),
        ("resnet18", (200, 63), "small"),
        ("inception_v3", 74, "small"),
        ("inception_v3", 75, "standard"),
    ],
)
def test_auto_is_settled_by_the_size(name: str, size: int | tuple[int, int], stem: str) -> None:
    """Saved models have what was settled; these bounds decide what a recipe without a stem means."""
    network = Network(name)
    assert network.settle(facts(size), {}) == {"stem": stem}
    assert network.settle(facts(size), {"stem": "standard"}) == {"stem": "standard"}


@pytest.mark.parametrize(
    ("name", "size", "stem", "remedy"),
    [
        ("vit_b_16", 30, "auto", "images.size = 28"),
        ("vit_b_16", 28, "standard", 'model.stem = "auto"'),
        ("vit_b_16", 100, "auto", "images.size = 96"),
        ("vit_h_14", 64, "auto", "images.size = 60"),
        ("vit_b_32", (64, 101), "auto", "images.size = 96"),
        ("maxvit_t", 28, "auto", "images.size = 32"),
        ("maxvit_t", (80, 40), "auto", "images.size = 64"),
    ],
)
def test_a_size_that_cannot_be_is_answered_by_one_that_can(
    name: str, size: int | tuple[int, int], stem: str, remedy: str
) -> None:
    with pytest.raises(ModelError) as caught:
        on_meta(name, facts(size), stem=stem)
    assert remedy in str(caught.value.remedy) and caught.value.where == name
    if "images.size" in remedy:
        other = facts(int(remedy.rpartition(" ")[2]))
        check_fit(on_meta(name, other, stem=stem), other)


def test_a_picture_too_small_for_a_small_stem_is_answered_by_a_size_that_works() -> None:
    with pytest.raises(ModelError) as caught:
        check_fit(on_meta("vgg11", facts(8)), facts(8))
    assert "images.size = 16" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("model", "mistake"),
    [
        ({"name": "resnet18", "stem": "smal"}, "model.stem: resnet18 has no such stem; Did you mean small?"),
        ({"name": "resnet18", "width": 3}, "model.width: resnet18 has no such argument"),
        ({"name": "resnet19"}, "Did you mean resnet18"),
        ({"name": "efficientnet"}, "Did you mean efficientnet_b"),
    ],
)
def test_mistakes_are_found_before_any_data_is_read(model: dict[str, Any], mistake: str) -> None:
    [found] = catalog.check_names({"model": model})
    assert mistake in found


def test_a_run_keeps_the_settled_stem_and_its_model_is_rebuilt_bit_for_bit(tmp_path: Path) -> None:
    pictures = torch.randint(0, 256, (24, 1, 12, 12), dtype=torch.uint8)
    run = flambeau.train(
        (pictures, torch.arange(24) % 2),
        model="shufflenet_v2_x0_5",
        epochs=1,
        settings=["log.tensorboard=false"],
        device="cpu",
        out=tmp_path / "run",
        quiet=True,
    )
    assert run.recipe.model.arguments() == {"stem": "small"}
    model = flambeau.load(run)
    again = flambeau.load(model.save(tmp_path / "copy.safetensors"))
    with torch.inference_mode():
        assert torch.equal(model.network(pictures), again.network(pictures))
    first = model.network.get_submodule("network.conv1.0")
    assert isinstance(first, nn.Conv2d) and first.in_channels == 1 and first.stride == (1, 1)


CLASSIC = {
    "alexnet": 1e-4,
    "vgg11_bn": 5e-4,
    "googlenet": 2e-3,
    "resnet18": 1e-3,
    "densenet121": 1e-3,
    "vit_b_32": 5e-4,
}
"""One of each family of classification networks that the introductions tour, and a learning rate."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIC)
def test_the_classic_networks_learn_a_batch_of_real_pictures_by_heart(name: str) -> None:
    split = flambeau.datasets.load("fashion-mnist-mini").splits["train"]
    pictures, label = split.tensor("image")[:8, :, 6:22, 6:22], split.tensor("label")[:8]
    torch.manual_seed(0)
    model = Classifier(Network(name)(facts(16, channels=1)), [0.29], [0.35]).train()
    if name == "alexnet":  # deep and without norms: by PyTorch's own rule its first steps would be slow
        initialize(model, "kaiming-normal")
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # it is there to make this hard
    optimizer = torch.optim.Adam(model.parameters(), lr=CLASSIC[name])
    losses: list[float] = []
    while len(losses) < 16 and (not losses or losses[-1] > 0.3 * losses[0]):
        loss = nn.functional.cross_entropy(model(pictures), label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] <= 0.3 * losses[0], losses
