"""Scores where each example has any number of labels, as counts that add up over batches."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from flambeau.core import Batch, Metrics, Scores

COUNTS = ("hits", "wrong", "missed")


def multilabel(labels: int) -> Metrics:
    """The scores of K labels that an example may have or not; models are selected by ``micro_f1``, more is better.

    ``add`` takes outputs with ``probabilities`` ``(N, K)``, of which those of at least a half are said, and ``loss``
    ``(N,)``, what training minimises, for each row; and a batch with ``labels`` ``(N, K)``, 0 or 1. The result holds

    - ``micro_f1``: F1 of all decisions taken together;
    - ``macro_f1``: the mean F1 of the labels that occur as truth or are said;
    - ``exact``: the fraction of examples with every label right;
    - ``hamming``: the fraction of wrong decisions;
    - ``loss``: its mean.

    All are NaN when nothing was added, and both F1 also when no label occurs and none is said.

    Args:
        labels: K.

    Example:
        >>> metrics = multilabel(2)
        >>> sums = metrics.start(torch.device("cpu"))
        >>> outputs = {"probabilities": torch.tensor([[0.9, 0.2], [0.6, 0.7]]), "loss": torch.zeros(2)}
        >>> metrics.add(sums, outputs, {"labels": torch.tensor([[1, 0], [0, 1]])})
        >>> metrics.result(sums)["micro_f1"], metrics.result(sums)["exact"]
        (0.8, 0.5)
    """

    def start(device: torch.device) -> dict[str, Tensor]:
        real = torch.float32 if device.type == "mps" else torch.float64
        counts = {name: torch.zeros(labels, dtype=torch.int64, device=device) for name in COUNTS}
        scalars = {name: torch.zeros((), dtype=torch.int64, device=device) for name in ("exact", "count")}
        return {**counts, **scalars, "loss": torch.zeros((), dtype=real, device=device)}

    def add(sums: dict[str, Tensor], outputs: Batch, batch: Batch) -> None:
        said, true = outputs["probabilities"].detach() >= 0.5, batch["labels"] > 0.5
        for name, values in zip(COUNTS, (said & true, said & ~true, ~said & true), strict=True):
            sums[name] += values.sum(0)
        sums["exact"] += (said == true).all(1).sum()
        sums["count"] += len(true)
        sums["loss"] += outputs["loss"].detach().to(sums["loss"].dtype).sum()

    columns = (("loss", ".4f"), ("micro_f1", ".4f"))
    return Metrics(start=start, add=add, result=_result, select="micro_f1", mode="max", columns=columns)


def _result(sums: Mapping[str, Tensor]) -> Scores:
    host = {name: value.double().cpu() for name, value in sums.items()}
    n, labels = float(host["count"]), len(host["hits"])
    if not n:
        return dict.fromkeys(("loss", "micro_f1", "macro_f1", "exact", "hamming"), math.nan)
    wrong = host["wrong"] + host["missed"]
    return {
        "loss": float(host["loss"]) / n,
        "micro_f1": f1(float(host["hits"].sum()), float(wrong.sum())),
        "macro_f1": _mean([f1(hits, bad) for hits, bad in zip(host["hits"].tolist(), wrong.tolist(), strict=True)]),
        "exact": float(host["exact"]) / n,
        "hamming": float(wrong.sum()) / (n * labels),
    }


def f1(hits: float, wrong: float) -> float:
    """F1 from the hits, and from the false alarms and misses taken together; NaN where there is nothing of either.

    Example:
        >>> f1(2, 1)
        0.8
    """
    return 2 * hits / (2 * hits + wrong) if hits or wrong else math.nan


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def average_precision(scores: Tensor, true: Tensor) -> float:
    """The area under the steps of the precision-recall curve of one label; NaN where nothing is true.

    Rows of equal score are taken together, as no threshold can part them.

    Args:
        scores: ``(N,)`` floating point; more means yes.
        true: ``(N,)`` bool.

    Example:
        >>> average_precision(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([True, False, True]))
        0.8333333333333333
    """
    if not true.any():
        return math.nan
    order = scores.argsort(descending=True, stable=True)
    ranked, hit = scores[order], true[order].double()
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool)])
    hits = hit.cumsum(0)[last]
    said = torch.arange(1, len(scores) + 1, dtype=torch.float64)[last]
    gained = torch.diff(hits, prepend=hits.new_zeros(1)) / hit.sum()
    return float((gained * hits / said).sum())
