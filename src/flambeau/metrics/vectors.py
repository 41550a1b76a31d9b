"""Scores of word vectors: how well they tell a word's real context from noise, and which words they put close."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from flambeau.core import Batch, Metrics, Scores

NAMES = ("loss", "predictions", "wins", "comparisons")


def negative_sampling() -> Metrics:
    """The loss of negative sampling on held-out text; models are selected by it, less is better.

    ``add`` takes sums for each block, all ``(B,)``: ``loss`` (nats), ``predictions`` (how many it is summed over),
    ``wins`` and ``comparisons`` (of a true logit with a noise word's; a tie counts half). The result holds

    - ``loss``: nats a prediction; ``(1 + negatives) ln 2`` before anything is learnt;
    - ``auc``: how often what was really there scores above a noise word, the area under the ROC curve.

    Both are NaN when there was nothing to predict.

    Example:
        >>> metrics = negative_sampling()
        >>> sums = metrics.start(torch.device("cpu"))
        >>> metrics.add(sums, {name: torch.tensor([value]) for name, value in zip(NAMES, (6.0, 2, 9.0, 12))}, {})
        >>> metrics.result(sums)
        {'loss': 3.0, 'auc': 0.75}
    """

    def start(device: torch.device) -> dict[str, Tensor]:
        real = torch.float32 if device.type == "mps" else torch.float64
        return {name: torch.zeros((), dtype=real, device=device) for name in NAMES}

    def add(sums: dict[str, Tensor], outputs: Batch, batch: Batch) -> None:
        for name in NAMES:
            sums[name] += outputs[name].detach().to(sums[name].dtype).sum()

    return Metrics(
        start=start, add=add, result=_result, select="loss", mode="min", columns=(("loss", ".4f"), ("auc", ".2%"))
    )


def _result(sums: Mapping[str, Tensor]) -> Scores:
    host = {name: float(total) for name, total in sums.items()}
    return {
        "loss": host["loss"] / host["predictions"] if host["predictions"] else float("nan"),
        "auc": host["wins"] / host["comparisons"] if host["comparisons"] else float("nan"),
    }


def block_sums(true: Tensor, counted: Tensor, noise: Tensor, negatives: int) -> dict[str, Tensor]:
    """What :func:`negative_sampling` adds up, from the logits of a batch.

    Args:
        true: Logits of what was there, ``(B, W, C)``.
        counted: Which of them are predictions, ``(B, W, C)`` bool.
        noise: Logits of N noise words for each word, ``(B, W, N)``.
        negatives: As how many noise words these N count.
    """
    weight = counted.sum(2)
    wins = torch.zeros(len(true), dtype=torch.float64, device=true.device)
    ordered = noise.sort(dim=2).values.contiguous()
    below = torch.searchsorted(ordered, true.contiguous())
    up_to = torch.searchsorted(ordered, true.contiguous(), right=True)
    wins = ((below + up_to) * counted).sum((1, 2)).to(wins.dtype if true.device.type != "mps" else torch.float32) / 2
    return {
        "loss": losses(true, counted, noise, negatives).sum(1),
        "predictions": weight.sum(1),
        "wins": wins,
        "comparisons": weight.sum(1) * noise.shape[2],
    }


def losses(true: Tensor, counted: Tensor, noise: Tensor, negatives: int) -> Tensor:
    """The loss of negative sampling, summed over the predictions of each word: ``(B, W)``, in nats.

    N noise words that are shared stand for ``negatives`` drawn for each prediction: the sum over them is weighted with
    ``negatives / N``, which leaves the expected loss what it is.
    """
    hits = (F.softplus(-true) * counted).sum(2)
    return hits + F.softplus(noise).sum(2) * counted.sum(2) * (negatives / noise.shape[2])


def unit(vectors: Tensor) -> Tensor:
    """Vectors ``(V, D)`` divided by their lengths; a vector of zeros stays one."""
    return F.normalize(vectors, dim=1)


def nearest(vectors: Tensor, queries: Tensor, count: int, without: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The vectors of the largest cosine with each query.

    Args:
        vectors: ``(V, D)``.
        queries: ``(n, D)``.
        count: How many are wanted; fewer come when there are fewer.
        without: Numbers of vectors that are not wanted, ``(n, q)`` int64; -1 for none.

    Returns:
        Their numbers ``(n, k)`` int64 and cosines ``(n, k)``, the largest first.
    """
    cosines = unit(queries) @ unit(vectors).T
    spared = 0
    if without is not None and without.shape[1]:
        spared = without.shape[1]
        # Where there is none to leave out, the last column is written to and cut off again.
        spare = F.pad(cosines, (0, 1))
        places = torch.where(without < 0, cosines.shape[1], without)
        cosines = spare.scatter(1, places, float("-inf"))[:, :-1]
    values, numbers = cosines.topk(max(0, min(count, len(vectors) - spared)), dim=1)
    return numbers, values
