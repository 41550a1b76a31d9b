"""Scores of predicted numbers, as sums that add up over batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from flambeau.core import Batch, Metrics, Scores

SUMS = ("squares", "sizes", "total", "spread")


def regression(names: Sequence[str], shift: Sequence[float]) -> Metrics:
    """The scores of T predicted numbers; models are selected by ``loss``, less is better.

    ``add`` takes outputs with ``values`` ``(N, T)``, in the units of the data, and ``loss`` ``(N,)``, what training
    minimises, for each row; and a batch with ``target`` ``(N, T)``. The result holds

    - ``loss``: its mean;
    - ``mae`` and ``rmse``: the mean absolute error and the root of the mean squared error, in the units of the data;
    - ``r2``: 1 less the squared errors over those of always saying the mean of the rows that were scored;
    - of several numbers each of these three by name too (``mae/age``); then ``mae``, ``rmse`` and ``r2`` are the means
      over the numbers, which says little where their units differ.

    All are NaN when nothing was added, and ``r2`` also where the targets do not vary.

    Args:
        names: Of the T numbers.
        shift: About what the targets are, for the sums' precision: the training split's means.

    Example:
        >>> metrics = regression(["age"], [30.0])
        >>> sums = metrics.start(torch.device("cpu"))
        >>> outputs = {"values": torch.tensor([[31.0], [45.0]]), "loss": torch.zeros(2)}
        >>> metrics.add(sums, outputs, {"target": torch.tensor([[30.0], [42.0]])})
        >>> metrics.result(sums)["mae"]
        2.0
    """

    def start(device: torch.device) -> dict[str, Tensor]:
        real = torch.float32 if device.type == "mps" else torch.float64
        sums = {name: torch.zeros(len(names), dtype=real, device=device) for name in SUMS}
        scalars = {name: torch.zeros((), dtype=real, device=device) for name in ("loss", "count")}
        return {**sums, **scalars}

    def add(sums: dict[str, Tensor], outputs: Batch, batch: Batch) -> None:
        real = sums["squares"].dtype
        target = batch["target"].to(real)
        error = outputs["values"].detach().to(real) - target
        centred = target - target.new_tensor(shift)
        for name, values in zip(SUMS, (error**2, error.abs(), centred, centred**2), strict=True):
            sums[name] += values.sum(0)
        sums["loss"] += outputs["loss"].detach().to(real).sum()
        sums["count"] += len(target)

    def result(sums: Mapping[str, Tensor]) -> Scores:
        return _result({name: value.double().cpu() for name, value in sums.items()}, names)

    columns = (("loss", ".4f"), ("mae", ".4g"), ("r2", ".4f"))
    return Metrics(start=start, add=add, result=result, select="loss", mode="min", columns=columns)


def _result(sums: Mapping[str, Tensor], names: Sequence[str]) -> Scores:
    n = sums["count"]
    if not n:
        found = {"loss": torch.tensor(torch.nan), **dict.fromkeys(("mae", "rmse", "r2"), torch.full((1,), torch.nan))}
        return {name: float(value.mean()) for name, value in found.items()}
    spread = sums["spread"] - sums["total"] ** 2 / n
    each = {
        "mae": sums["sizes"] / n,
        "rmse": (sums["squares"] / n).sqrt(),
        # Numbers that do not vary cannot be explained better or worse.
        "r2": torch.where(spread > 1e-12 * sums["spread"], 1 - sums["squares"] / spread, torch.nan),
    }
    scores = {"loss": float(sums["loss"] / n), **{name: float(values.mean()) for name, values in each.items()}}
    if len(names) > 1:
        for name, values in each.items():
            scores |= {f"{name}/{title}": value for title, value in zip(names, values.tolist(), strict=True)}
    return scores
