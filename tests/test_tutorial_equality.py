"""The tutorials' recipes take the same steps as the plain loops in examples/, loss for loss and weight for weight."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

import flambeau
from flambeau.core import Record, State
from flambeau.data.loader import order

STEPS = 200
Weights = dict[str, Tensor]
EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures(shape: tuple[int, ...], rows: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (rows, *shape), generator=generator, dtype=torch.uint8)
    return pixels, torch.randint(0, 10, (rows,), generator=generator)


def plain_batches(
    pixels: Tensor, labels: Tensor, size: int, *, half: bool, shuffle: bool, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches as torchvision's ToTensor and Normalize would make them, in the recipe's order."""
    rows = order(0, epoch, len(pixels)) if shuffle else torch.arange(len(pixels))
    for part in rows.split(size):
        if shuffle and len(part) == 1:
            continue
        x = pixels[part].float().div(255)
        yield ((x - 0.5) / 0.5 if half else x), labels[part]


def ours(
    tmp_path: Path, recipe: str, train: tuple[Tensor, Tensor], epochs: int
) -> tuple[list[float], dict[str, Tensor]]:
    losses: list[float] = []
    states: list[State] = []

    def watch(record: Record, state: State) -> None:
        if record.kind == "step":
            assert isinstance(record.loss, float)
            losses.append(record.loss)
            states.append(state)

    test = (train[0][:40], train[1][:40])
    data = {"train": train, "test": test}
    flambeau.train(data, recipe=recipe, epochs=epochs, out=tmp_path / "run", quiet=True, observers=[watch])
    weights = states[-1].model.network.state_dict()  # type: ignore[union-attr]
    return losses, weights


CASES = {
    "fashion_mnist": ("tutorial/fashion-mnist", (1, 28, 28), 64, False, False),
    "mnist": ("tutorial/mnist", (1, 28, 28), 64, True, True),
    "cifar10": ("tutorial/cifar10", (3, 32, 32), 4, True, True),
}


def compare(tmp_path: Path, name: str, data: tuple[Tensor, Tensor]) -> None:
    recipe, _, size, half, shuffle = CASES[name]
    per_epoch = -(-len(data[0]) // size)
    epochs = -(-STEPS // per_epoch)
    module = example(name)
    torch.manual_seed(0)
    network = module.make_network()
    optimizer = module.make_optimizer(network)
    expected: list[float] = []
    for epoch in range(epochs):
        batches = plain_batches(*data, size, half=half, shuffle=shuffle, epoch=epoch)
        expected += module.train(network, optimizer, batches)
    losses, weights = ours(tmp_path, recipe, data, epochs)
    assert len(losses) == len(expected) >= STEPS
    assert losses == expected
    for value, theirs in zip(weights.values(), network.state_dict().values(), strict=True):
        assert torch.equal(value, theirs)


def test_fashion_mnist_mini_takes_the_same_steps(tmp_path: Path) -> None:
    mini = flambeau.datasets.load("fashion-mnist-mini").splits["train"]
    compare(tmp_path, "fashion_mnist", (mini.tensor("image"), mini.tensor("label")))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_seeded_pictures_take_the_same_steps(tmp_path: Path, name: str) -> None:
    _, shape, size, _, _ = CASES[name]
    compare(tmp_path, name, pictures(shape, rows=50 * size + 3, seed=7))


@pytest.mark.skipif("FLAMBEAU_DATA" not in os.environ, reason="FLAMBEAU_DATA names no folder with the real data sets")
@pytest.mark.parametrize(("name", "dataset"), [("mnist", "mnist"), ("cifar10", "cifar10")])
def test_real_pictures_take_the_same_steps(tmp_path: Path, name: str, dataset: str) -> None:
    _, _, size, _, _ = CASES[name]
    train = flambeau.datasets.load(dataset).splits["train"].take(torch.arange(STEPS * size))
    compare(tmp_path, name, (train.tensor("image"), train.tensor("label")))
