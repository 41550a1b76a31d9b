"""Recognise handwritten digits with a fully connected network, log-softmax and negative log-likelihood.

Run it with `python examples/mnist.py`. The data is taken from the folder in the environment variable FLAMBEAU_DATA
(torchvision's layout), or downloaded into ./data. `flambeau train mnist --recipe tutorial/mnist` does the same steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor, nn

Batches = Iterable[tuple[Tensor, Tensor]]

EPOCHS, BATCH_SIZE, LEARNING_RATE = 5, 64, 0.003


def make_network() -> nn.Module:
    """784 pixels in, hidden layers of 128 and 64, ten log-probabilities out. Pictures are (N, 1, 28, 28) in [-1, 1]."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
        # Log-softmax here and NLLLoss below make together what CrossEntropyLoss does alone.
        nn.LogSoftmax(dim=1),
    )


def make_optimizer(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)


def train(network: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches) -> list[float]:
    """One pass over the batches; gives the loss of each."""
    device = next(network.parameters()).device
    loss_function = nn.NLLLoss()
    network.train()
    losses = []
    for pictures, labels in batches:
        optimizer.zero_grad()
        loss = loss_function(network(pictures.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def test(network: nn.Module, batches: Batches) -> tuple[int, int]:
    """How many pictures were recognised, and of how many."""
    device = next(network.parameters()).device
    network.eval()
    right, seen = 0, 0
    for pictures, labels in batches:
        # exp() would turn the log-probabilities into probabilities; the largest stays the largest without it.
        guesses = network(pictures.to(device)).argmax(1).cpu()
        right += int((guesses == labels).sum())
        seen += len(labels)
    return right, seen


def load() -> tuple[Batches, Batches]:
    """Batches of the training part, in a new order each epoch, and of the test part."""
    # Imported here, so that the functions above can be used without waiting for torchvision.
    from torchvision import datasets, transforms

    root = os.environ.get("FLAMBEAU_DATA", "data").split(os.pathsep)[0]
    # [0, 1] becomes [-1, 1]: (x - 0.5) / 0.5.
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    parts = [
        datasets.MNIST(root, train=train, download="FLAMBEAU_DATA" not in os.environ, transform=transform)
        for train in (True, False)
    ]
    return (
        torch.utils.data.DataLoader(parts[0], batch_size=BATCH_SIZE, shuffle=True),
        torch.utils.data.DataLoader(parts[1], batch_size=BATCH_SIZE),
    )


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    print(f"device: {device}")
    train_batches, test_batches = load()
    pictures, labels = next(iter(train_batches))
    print(f"a batch: pictures {tuple(pictures.shape)} {pictures.dtype}, labels {tuple(labels.shape)} {labels.dtype}")
    network = make_network().to(device)
    print(network)
    optimizer = make_optimizer(network)
    for epoch in range(EPOCHS):
        losses = train(network, optimizer, train_batches)
        print(f"epoch {epoch + 1}: training loss {sum(losses) / len(losses):.4f}")
    right, seen = test(network, test_batches)
    print(f"test: {right} of {seen} pictures recognised, accuracy {right / seen:.4f}")
    pictures, labels = next(iter(test_batches))
    with torch.no_grad():
        probabilities = network(pictures[:1].to(device)).exp()[0]
    guess = int(probabilities.argmax())
    print(f"first test picture: predicted {guess} ({100 * probabilities[guess]:.1f} %), actual {int(labels[0])}")


if __name__ == "__main__":
    main()
