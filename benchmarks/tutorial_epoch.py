"""An epoch of the tutorials' training, ours against the loop that the tutorials write by hand.

Claim: training and testing the Fashion-MNIST network for an epoch takes Flambeau about half the time of the plain
loop with torchvision's data set, its transforms and a DataLoader (no workers, as the introductions have it); the
weights that come out are the same, bit for bit (tests/test_tutorial_equality.py). With `--cifar10`, the same for the
CIFAR-10 network in batches of 4, where the plain loop uses two loader workers, as the introduction does: a quarter.

Run it on an idle machine: `python benchmarks/tutorial_epoch.py [--epochs 3] [--cifar10]`. The data is looked for in
the first folder of FLAMBEAU_DATA; without it the part of Fashion-MNIST that comes with the package is used, and said.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import flambeau

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"examples/{name}.py is missing")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(source: str, recipe: str, epochs: int) -> list[float]:
    """Seconds of each epoch, training and test pass and everything between them (metrics, checkpoint, printing off)."""
    ends: list[float] = [time.perf_counter()]
    starts: list[float] = []

    def watch(record: Any, state: Any) -> None:
        if record.kind == "epoch-start":
            starts.append(time.perf_counter())
        elif record.kind == "epoch":
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        flambeau.train(source, recipe=recipe, epochs=epochs, out=Path(folder) / "run", quiet=True, observers=[watch])
    # From start to start, so that the checkpoint after an epoch counts; the last one ends with its own epoch.
    return [later - sooner for sooner, later in zip(starts, [*starts[1:], ends[-1]], strict=True)]


def plain(module: ModuleType, train: Any, test: Any, epochs: int) -> list[float]:
    """Seconds of each epoch of the loop in examples/: training, then the test pass."""
    torch.manual_seed(0)
    network = module.make_network()
    optimizer = module.make_optimizer(network)
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        module.train(network, optimizer, train)
        module.test(network, test)
        seconds.append(time.perf_counter() - start)
    return seconds


def mini_loaders(size: int) -> tuple[Any, Any]:
    from PIL import Image
    from torch.utils.data import DataLoader
    from torchvision.transforms import ToTensor

    class Pictures(torch.utils.data.Dataset[Any]):
        """The same work an item as torchvision's FashionMNIST: a PIL picture from the array, then the transform."""

        def __init__(self, split: Any) -> None:
            self.images, self.labels = split.tensor("image"), split.tensor("label")
            self.transform = ToTensor()

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return self.transform(Image.fromarray(self.images[index, 0].numpy())), int(self.labels[index])

    splits = flambeau.datasets.load("fashion-mnist-mini").splits
    return DataLoader(Pictures(splits["train"]), batch_size=size), DataLoader(Pictures(splits["test"]), batch_size=size)


def compare(title: str, first: list[float], second: list[float]) -> None:
    """Prints the medians and their ratio; the first epoch of each warms up when there are several."""
    a, b = (statistics.median(seconds[1:] or seconds) for seconds in (first, second))
    print(f"{title}: Flambeau {a:.2f} s an epoch, plain loop {b:.2f} s, ratio {b / a:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--cifar10", action="store_true")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    real = "FLAMBEAU_DATA" in os.environ
    fashion = example("fashion_mnist")
    train, test = fashion.load()[:2] if real else mini_loaders(fashion.BATCH_SIZE)
    source = "fashion-mnist" if real else "fashion-mnist-mini"
    compare(
        f"{source}, 784-512-512-10, batch 64",
        ours(source, "tutorial/fashion-mnist", options.epochs),
        plain(fashion, train, test, options.epochs),
    )
    if options.cifar10:
        cifar10 = example("cifar10")
        loaders = [
            torch.utils.data.DataLoader(loader.dataset, batch_size=4, shuffle=shuffle, num_workers=2)
            for loader, shuffle in zip(cifar10.load(), (True, False), strict=True)
        ]
        compare("cifar10, batch 4", ours("cifar10", "tutorial/cifar10", 2), plain(cifar10, *loaders, 2))


if __name__ == "__main__":
    main()
