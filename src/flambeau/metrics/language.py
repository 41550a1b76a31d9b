"""Scores of a language model: how many nats the text costs, by token, by character and by byte.

Costs by character and byte do not depend on how the text was cut into tokens, so models with different tokenisers can
be compared by them. Tokens are counted exactly; other sums are float64 (float32 on MPS, which has no float64).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from flambeau.core import Batch, Metrics, Scores

_LARGEST_EXPONENT = 700.0


def language(context: int) -> Metrics:
    """The scores of text cut into windows; models are selected by ``loss``, less is better.

    ``add`` takes outputs with ``nats`` (float ``(N, context)``, what each token of a window costs, 0 beyond the text)
    and ``scored`` (bool, the same shape: whether there is a token), ``unknown`` (int64 ``(N,)``: how many of them are
    not in the vocabulary), and where they exist ``far_nats`` and ``far_tokens`` (``(N,)``: cost and number of tokens
    predicted from at least half a context). The batch has ``characters`` and ``bytes``, float32 ``(N,)``: what the
    scored tokens of a row stand for. The result holds

    - ``loss``: nats by token, and ``perplexity``: its exponential;
    - ``nats_per_character``, ``bits_per_character``, ``bits_per_byte``: the whole cost divided by the length of the
      text in UTF-8;
    - ``unknown``: the fraction of tokens that are not in the vocabulary;
    - ``far_nats_per_character``, ``far_bits_per_character``: as above, when every token but the first few of the text
      is predicted from at least half a context, as when windows overlap by half.

    Args:
        context: Tokens of a window.

    Example:
        >>> metrics = language(2)
        >>> sums = metrics.start(torch.device("cpu"))
        >>> outputs = {"nats": torch.tensor([[1.0, 3.0]]), "scored": torch.ones(1, 2, dtype=torch.bool)}
        >>> one = {"unknown": torch.zeros(1, dtype=torch.int64)}
        >>> size = torch.tensor([4.0])
        >>> metrics.add(sums, outputs | one, {"characters": size, "bytes": size})
        >>> metrics.result(sums)["loss"], metrics.result(sums)["nats_per_character"]
        (2.0, 1.0)
    """

    def start(device: torch.device) -> dict[str, Tensor]:
        real = torch.float32 if device.type == "mps" else torch.float64
        names = ("nats", "characters", "bytes", "far_nats", "batches")
        sums = {name: torch.zeros((), dtype=real, device=device) for name in names}
        counts = ("tokens", "unknown", "far_tokens")
        sums |= {name: torch.zeros((), dtype=torch.int64, device=device) for name in counts}
        sums["place_nats"] = torch.zeros(context, dtype=real, device=device)
        sums["place_tokens"] = torch.zeros(context, dtype=torch.int64, device=device)
        return sums

    return Metrics(
        start=start,
        add=_add,
        result=_result,
        select="loss",
        mode="min",
        columns=(("loss", ".4f"), ("bits_per_character", ".4f")),
    )


def _add(sums: dict[str, Tensor], outputs: Batch, batch: Batch) -> None:
    real = sums["nats"].dtype
    by_place = outputs["nats"].detach().to(real).sum(0)
    tokens = outputs["scored"].sum(0)
    sums["place_nats"] += by_place
    sums["place_tokens"] += tokens
    sums["nats"] += by_place.sum()
    sums["tokens"] += tokens.sum()
    sums["unknown"] += outputs["unknown"].sum()
    sums["characters"] += batch["characters"].to(real).sum()
    sums["bytes"] += batch["bytes"].to(real).sum()
    sums["batches"] += 1
    if "far_nats" in outputs:
        sums["far_nats"] += outputs["far_nats"].detach().to(real).sum()
        sums["far_tokens"] += outputs["far_tokens"].sum()


def _result(sums: Mapping[str, Tensor]) -> Scores:
    total = {name: value.item() for name, value in sums.items() if not value.dim()}
    loss = _ratio(total["nats"], total["tokens"])
    by_character = _ratio(total["nats"], total["characters"])
    scores = {
        "loss": loss,
        "perplexity": perplexity(loss),
        "nats_per_character": by_character,
        "bits_per_character": by_character / math.log(2),
        "bits_per_byte": _ratio(total["nats"], total["bytes"]) / math.log(2),
        "unknown": _ratio(total["unknown"], total["tokens"]),
    }
    if total["far_tokens"]:
        # A token costs on average what it costs here; the characters are those of the same tokens.
        far = _ratio(total["far_nats"], total["far_tokens"]) * _ratio(total["tokens"], total["characters"])
        scores |= {"far_nats_per_character": far, "far_bits_per_character": far / math.log(2)}
    return scores


def perplexity(loss: float) -> float:
    """The exponential of nats by token: among how many equally probable tokens the model would be as much in doubt."""
    return math.exp(loss) if loss < _LARGEST_EXPONENT else math.inf if loss == loss else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
