"""Train a small convolutional network on the colour pictures of CIFAR-10 and score it class by class.

Run it with `python examples/cifar10.py`. The data is taken from the folder in the environment variable FLAMBEAU_DATA
(torchvision's layout), or downloaded into ./data. `flambeau train cifar10 --recipe tutorial/cifar10` does the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batches = Iterable[tuple[Tensor, Tensor]]

NAMES = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
EPOCHS, BATCH_SIZE, EVERY = 2, 4, 2000


class Network(nn.Module):
    """Two convolutions with max pooling, three linear layers. Pictures are (N, 3, 32, 32) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        # A side of 32 becomes 28 (conv1), 14 (pool), 10 (conv2), 5 (pool): 16 maps of 5 x 5 are left.
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        scores: Tensor = self.fc3(F.relu(self.fc2(x)))
        return scores


def make_network() -> nn.Module:
    return Network()


def make_optimizer(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)


def train(network: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches, epoch: int = 0) -> list[float]:
    """One pass over the batches; gives the loss of each and reports the mean of every 2,000."""
    device = next(network.parameters()).device
    loss_function = nn.CrossEntropyLoss()
    network.train()
    losses: list[float] = []
    for pictures, labels in batches:
        optimizer.zero_grad()
        loss = loss_function(network(pictures.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if len(losses) % EVERY == 0:
            print(f"[{epoch + 1}, {len(losses):5d}] loss: {sum(losses[-EVERY:]) / EVERY:.3f}")
    return losses


@torch.no_grad()
def test(network: nn.Module, batches: Batches) -> tuple[list[int], list[int]]:
    """By class: how many pictures were recognised, and of how many."""
    device = next(network.parameters()).device
    network.eval()
    right, seen = torch.zeros(2, len(NAMES), dtype=torch.long)
    for pictures, labels in batches:
        guesses = network(pictures.to(device)).argmax(1).cpu()
        seen += torch.bincount(labels, minlength=len(NAMES))
        right += torch.bincount(labels[guesses == labels], minlength=len(NAMES))
    return right.tolist(), seen.tolist()


def load() -> tuple[Batches, Batches]:
    """Batches of the training part, in a new order each epoch, and of the test part."""
    # Imported here, so that the functions above can be used without waiting for torchvision.
    from torchvision import datasets, transforms

    root = os.environ.get("FLAMBEAU_DATA", "data").split(os.pathsep)[0]
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
    download = "FLAMBEAU_DATA" not in os.environ
    parts = [datasets.CIFAR10(root, train=train, download=download, transform=transform) for train in (True, False)]
    loader = torch.utils.data.DataLoader
    return loader(parts[0], batch_size=BATCH_SIZE, shuffle=True), loader(parts[1], batch_size=BATCH_SIZE)


def main() -> None:
    from torchvision.utils import save_image

    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    print(f"device: {device}")
    train_batches, test_batches = load()
    network = make_network().to(device)
    print(network)
    optimizer = make_optimizer(network)
    for epoch in range(EPOCHS):
        train(network, optimizer, train_batches, epoch)
    pictures, labels = next(iter(test_batches))
    with torch.no_grad():
        guesses = network(pictures.to(device)).argmax(1).tolist()
    save_image(pictures / 2 + 0.5, "cifar10-strip.png", nrow=4)
    print("four test pictures, in cifar10-strip.png")
    print("  truth:     ", " ".join(f"{NAMES[label]:6s}" for label in labels.tolist()))
    print("  prediction:", " ".join(f"{NAMES[guess]:6s}" for guess in guesses))
    right, seen = test(network, test_batches)
    print(f"accuracy on {sum(seen)} test pictures: {100 * sum(right) / sum(seen):.0f} %")
    for name, hits, count in zip(NAMES, right, seen, strict=True):
        print(f"  {name:6s} {100 * hits / count:.1f} %")


if __name__ == "__main__":
    main()
