"""Train a small fully connected network on Fashion-MNIST with nothing but PyTorch: the whole walk on one page.

Run it with `python examples/fashion_mnist.py`. The data is taken from the folder in the environment variable
FLAMBEAU_DATA (torchvision's layout), or downloaded into ./data. `flambeau train fashion-mnist --recipe
tutorial/fashion-mnist` does the same steps; a test holds the losses of the two against each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor, nn

Batches = Iterable[tuple[Tensor, Tensor]]

NAMES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
EPOCHS, BATCH_SIZE, LEARNING_RATE, EVERY = 5, 64, 1e-3, 100


def make_network() -> nn.Module:
    """784 pixels in, two hidden layers of 512, ten scores (logits) out. Pictures are (N, 1, 28, 28) in [0, 1]."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        # No ReLU here: it would clip the scores at zero, and a class below zero would no longer learn.
        nn.Linear(512, 10),
    )


def make_optimizer(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)


def train(network: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches, size: int = 0) -> list[float]:
    """One pass over the batches; gives the loss of each. With `size`, the number of pictures, it also reports."""
    device = next(network.parameters()).device
    loss_function = nn.CrossEntropyLoss()
    network.train()
    losses, seen = [], 0
    for number, (pictures, labels) in enumerate(batches):
        pictures, labels = pictures.to(device), labels.to(device)
        loss = loss_function(network(pictures), labels)
        # backward() adds the gradient to what .grad holds, so it is cleared after every step.
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        seen += len(pictures)
        if size and number % EVERY == 0:
            print(f"loss: {loss.item():>7f}  [{seen:>5d}/{size:>5d}]")
    return losses


@torch.no_grad()
def test(network: nn.Module, batches: Batches) -> tuple[float, float]:
    """Accuracy (a fraction) and the mean of the batches' mean losses."""
    device = next(network.parameters()).device
    loss_function = nn.CrossEntropyLoss()
    network.eval()
    right, seen, losses = 0, 0, []
    for pictures, labels in batches:
        pictures, labels = pictures.to(device), labels.to(device)
        scores = network(pictures)
        right += int((scores.argmax(1) == labels).sum())
        seen += len(labels)
        losses.append(loss_function(scores, labels).item())
    return right / seen, sum(losses) / len(losses)


def load() -> tuple[Batches, Batches, int]:
    """Batches of the training and of the test part, and the number of training pictures."""
    # Imported here, so that the functions above can be used without waiting for torchvision.
    from torchvision import datasets, transforms

    root = os.environ.get("FLAMBEAU_DATA", "data").split(os.pathsep)[0]
    parts = [
        datasets.FashionMNIST(
            root, train=train, download="FLAMBEAU_DATA" not in os.environ, transform=transforms.ToTensor()
        )
        for train in (True, False)
    ]
    # Without shuffle=True the pictures come in the order of the files, as in the introductions.
    train_batches, test_batches = (torch.utils.data.DataLoader(part, batch_size=BATCH_SIZE) for part in parts)
    return train_batches, test_batches, len(parts[0])


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    print(f"device: {device}")
    train_batches, test_batches, size = load()
    pictures, labels = next(iter(test_batches))
    print(f"a batch: pictures {tuple(pictures.shape)} {pictures.dtype}, labels {tuple(labels.shape)} {labels.dtype}")
    network = make_network().to(device)
    print(network)
    optimizer = make_optimizer(network)
    for epoch in range(EPOCHS):
        print(f"epoch {epoch + 1}")
        train(network, optimizer, train_batches, size)
        accuracy, loss = test(network, test_batches)
        print(f"test: accuracy {100 * accuracy:.1f} %, average loss {loss:.6f}\n")
    with torch.no_grad():
        scores = network(pictures[:1].to(device))
    print(f'first test picture: predicted "{NAMES[int(scores.argmax())]}", actual "{NAMES[int(labels[0])]}"')


if __name__ == "__main__":
    main()
