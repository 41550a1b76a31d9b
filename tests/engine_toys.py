"""Small networks, phases and plans for the tests of the engine; nothing here knows about pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.core import Batch, Loss, Metrics, Phase, Scores, State, Stream
from flambeau.engine.optim import optimizer
from flambeau.engine.schedule import constant
from flambeau.engine.update import Rules

PLAIN = Rules(constant(1))


def batch(rows: int = 12, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs ``(rows, 5)`` with labels among three."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 5, generator=generator)
    return {"x": inputs, "label": torch.randint(0, 3, (rows,), generator=generator)}


def network(seed: int = 0, *, dropout: float = 0.0) -> nn.Sequential:
    """Two layers from five inputs to three logits."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))


def classification(weights: Tensor | None = None, smoothing: float = 0.0, name: str = "sgd", lr: float = 0.1) -> Phase:
    """Cross-entropy as the tasks state it: a sum, and what to divide it by."""

    def loss(model: nn.Module, batch: Batch) -> Loss:
        logits = model(batch["x"])
        return Loss(F.cross_entropy(logits, batch["label"], weights, reduction="sum", label_smoothing=smoothing))

    def count(batch: Batch) -> float:
        return len(batch["label"]) if weights is None else float(weights[batch["label"]].sum())

    return Phase("loss", loss, count, optimizer(name, lr=lr))


def state_of(model: nn.Module, *phases: Phase, ema: bool = False) -> State:
    """A state before the first step."""
    optimizers = {
        phase.name: phase.optimizer([(n, p) for n, p in model.named_parameters() if phase.trains(n)])
        for phase in phases
    }
    averages = {name: value.clone() for name, value in model.state_dict().items()} if ema else None
    return State(model, phases, optimizers, averages)


def stream(batches: list[dict[str, Tensor]]) -> Stream:
    """The same batches in every epoch."""

    def epoch(number: int, start: int) -> Iterator[Batch]:
        yield from batches[start:]

    return Stream(epoch, len(batches))


def accuracy() -> Metrics:
    """The share of right answers."""

    def start(device: torch.device) -> dict[str, Tensor]:
        return {"right": torch.zeros((), dtype=torch.int64), "seen": torch.zeros((), dtype=torch.int64)}

    def add(sums: dict[str, Tensor], outputs: Batch, batch: Batch) -> None:
        sums["right"] += (outputs["logits"].argmax(1) == batch["label"]).sum()
        sums["seen"] += len(batch["label"])

    def result(sums: Mapping[str, Tensor]) -> Scores:
        return {"accuracy": float(sums["right"] / sums["seen"])}

    return Metrics(start, add, result, "accuracy", "max")


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Logits."""
    return {"logits": model(batch["x"])}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether all tensors are the same, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
