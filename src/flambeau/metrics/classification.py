"""Scores of a classifier as sums that add up over batches, so that a split of any size is scored in one pass.

Counts are int64 and the few real sums are float64 (float32 on MPS, which has no float64), and nothing is read back to
the host before the result is asked for. Truth is a class for each row; beside it a row may have a distribution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from flambeau.core import Batch, Metrics, Scores
from flambeau.metrics.calibration import BINS, bin_sums, hits
from flambeau.metrics.tables import macro_f1

COLUMNS = (("loss", ".4f"), ("accuracy", ".2%"))
"""What is shown while training goes on."""


def classification(classes: int, topk: Sequence[int] = (3, 5)) -> Metrics:
    """The scores of single-label classification; models are selected by ``accuracy``, more is better.

    ``add`` takes outputs with ``logits`` and ``probabilities``, ``(N, classes)`` floating point, and a batch with
    ``label``, ``(N,)`` int64. Where the batch also has ``target``, distributions ``(N, classes)``, ``label`` is the
    likeliest class of each, and ``loss`` and ``ece`` are of the distributions. The result holds

    - ``accuracy``: the fraction whose largest logit is the true class's (the first one among equals);
    - ``loss``: the mean cross-entropy of ``softmax(logits)`` in nats over all examples;
    - ``loss_mean_of_batches``: the mean of the batches' means, which the introductory tutorials print. It differs
      from ``loss`` when the last batch is smaller;
    - ``top3``, ``top5``: for each k with at least 2 k classes, the fraction whose true class is among the k largest;
    - ``macro_f1``: the mean F1 of the classes that occur as truth or as prediction;
    - ``ece``: the expected calibration error of ``probabilities`` in 15 bins of equal width.

    All are NaN when nothing was added.

    Args:
        classes: How many classes there are.
        topk: Which top-k scores are wanted.

    Example:
        >>> metrics = classification(2)
        >>> sums = metrics.start(torch.device("cpu"))
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> metrics.add(sums, {"logits": logits, "probabilities": logits.softmax(1)}, {"label": torch.tensor([0, 0])})
        >>> metrics.result(sums)["accuracy"]
        0.5
    """
    if classes < 1:
        raise ValueError(f"A classifier has at least one class, not {classes}.")
    kept = tuple(k for k in topk if classes >= 2 * k)

    def start(device: torch.device) -> dict[str, Tensor]:
        return _empty(classes, len(kept), device)

    def add(sums: dict[str, Tensor], outputs: Batch, batch: Batch) -> None:
        logits, probabilities = outputs["logits"].detach(), outputs["probabilities"].detach()
        _add(sums, logits, probabilities, batch["label"], batch.get("target", batch["label"]), kept)

    def result(sums: Mapping[str, Tensor]) -> Scores:
        return _result(sums, kept)

    return Metrics(
        start=start, add=add, result=result, select="accuracy", mode="max", columns=COLUMNS, brief=accuracy_and_loss
    )


def accuracy_and_loss(evaluated: Iterable[tuple[Batch, Batch]]) -> Scores:
    """The fraction whose largest logit is the true class's, and the mean cross-entropy in nats.

    Args:
        evaluated: Outputs and batches, as ``add`` of :func:`classification` takes them.
    """
    count, right, loss = 0, 0, 0.0
    for outputs, batch in evaluated:
        count += len(batch["label"])
        right += int((outputs["logits"].argmax(1) == batch["label"]).sum())
        loss += float(F.cross_entropy(outputs["logits"].double(), batch["label"], reduction="sum"))
    return {"accuracy": right / count, "loss": loss / count}


def confusion_matrix(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """How often each true class (row) was taken for each class (column), ``(classes, classes)`` int64.

    Args:
        labels: True classes, ``(N,)`` int64.
        predicted: Predicted classes, ``(N,)`` int64.
        classes: How many there are.

    Example:
        >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), 2).tolist()
        [[1, 0], [1, 1]]
    """
    matrix = torch.zeros(classes, classes, dtype=torch.int64, device=labels.device)
    _count_pairs(matrix, labels, predicted)
    return matrix


def true_rank(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the true one, ``(N,)`` int64: 0 where the prediction is right.

    Args:
        logits: ``(N, K)`` floating point.
        labels: True classes, ``(N,)`` int64.

    Example:
        >>> true_rank(torch.tensor([[0.1, 0.7, 0.2], [0.3, 0.3, 0.4]]), torch.tensor([1, 1])).tolist()
        [0, 2]
    """
    # Counting what stands before the true class settles ties like argmax does (the lower class first), where topk's
    # order among equals is unspecified. A logit that is NaN stands before everything, so it never makes a hit.
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    return (~(logits <= own) | ((logits == own) & earlier)).sum(1)


def _empty(classes: int, tops: int, device: torch.device) -> dict[str, Tensor]:
    real = torch.float32 if device.type == "mps" else torch.float64
    return {
        "confusion": torch.zeros(classes, classes, dtype=torch.int64, device=device),
        "count": torch.zeros((), dtype=torch.int64, device=device),
        "batches": torch.zeros((), dtype=torch.int64, device=device),
        "top_hits": torch.zeros(tops, dtype=torch.int64, device=device),
        "loss": torch.zeros((), dtype=real, device=device),
        "batch_losses": torch.zeros((), dtype=real, device=device),
        "bin_confidence": torch.zeros(BINS, dtype=real, device=device),
        # Of distributions these are shares.
        "bin_hits": torch.zeros(BINS, dtype=real, device=device),
        "bin_count": torch.zeros(BINS, dtype=torch.int64, device=device),
    }


def _add(
    sums: dict[str, Tensor],
    logits: Tensor,
    probabilities: Tensor,
    label: Tensor,
    truth: Tensor,
    topk: tuple[int, ...],
) -> None:
    if not len(label):
        return
    predicted = logits.argmax(1)
    _count_pairs(sums["confusion"], label, predicted)
    real = sums["loss"].dtype
    wanted = truth.to(real) if truth.is_floating_point() else truth
    loss = F.cross_entropy(logits.to(real), wanted, reduction="sum")
    sums["loss"] += loss
    sums["batch_losses"] += loss / len(label)
    sums["count"] += len(label)
    sums["batches"] += 1
    if topk:
        rank = true_rank(logits, label)
        for position, k in enumerate(topk):
            sums["top_hits"][position] += (rank < k).sum()
    confidence, right, count = bin_sums(probabilities.amax(1).to(real), hits(wanted, predicted), BINS)
    sums["bin_confidence"] += confidence
    sums["bin_hits"] += right
    sums["bin_count"] += count


def _count_pairs(matrix: Tensor, labels: Tensor, predicted: Tensor) -> None:
    # bincount would wait for the GPU to learn how long its result is.
    pairs = labels * matrix.shape[1] + predicted
    matrix.view(-1).index_add_(0, pairs, torch.ones_like(pairs))


def _result(sums: Mapping[str, Tensor], topk: tuple[int, ...]) -> Scores:
    host = {name: total.detach().cpu() for name, total in sums.items()}
    count, batches = int(host["count"]), int(host["batches"])
    confusion = host["confusion"]
    scores = {
        "accuracy": _ratio(int(confusion.diagonal().sum()), count),
        "loss": _ratio(float(host["loss"]), count),
        "loss_mean_of_batches": _ratio(float(host["batch_losses"]), batches),
    }
    for k, found in zip(topk, host["top_hits"].tolist(), strict=True):
        scores[f"top{k}"] = _ratio(found, count)
    scores["macro_f1"] = macro_f1(confusion)
    gaps = (host["bin_confidence"].double() - host["bin_hits"].double()).abs().sum()
    scores["ece"] = _ratio(float(gaps), count)
    return scores


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else float("nan")
