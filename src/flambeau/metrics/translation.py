"""Scores of translations as sums that add up over batches: the loss of each token, and BLEU as sacreBLEU counts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flambeau.core import Batch, Metrics, Scores
from flambeau.errors import MissingExtra

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

ORDER = 4
"""The longest n-grams that BLEU counts."""

Texts = Callable[[Tensor], Sequence[str]]
"""The texts that rows of numbers stand for."""


def translation(decode: Texts) -> Metrics:
    """The scores of translations; models are selected by ``bleu``, more is better.

    ``add`` takes outputs with ``tokens`` ``(N, L)`` int64, ``nll`` ``(N,)`` floating point and ``hits`` ``(N,)`` (see
    below), and a batch with ``target`` ``(N, T)`` int64 padded with 0, its first column ``<s>``, and ``reference``
    ``(N, B)``, the UTF-8 bytes of the reference, padded with 0. The result holds

    - ``bleu``: corpus BLEU from 0 to 100 with sacreBLEU's defaults (Papineni et al. 2002; Post 2018), whose settings
      :func:`signature` states. It compares texts, so it does not depend on how they were cut into tokens;
    - ``loss``: the mean negative log-likelihood of the reference's tokens, each given the true ones before it, in nats;
    - ``perplexity``: e to the loss;
    - ``token_accuracy``: the fraction of them that were the most probable;
    - ``length_ratio``: words in the translations over words in the references.

    Args:
        decode: Texts from the numbers of their tokens, padding and special tokens left out.

    Example:
        >>> metrics = translation(lambda tokens: ["a cat sat on the mat"] * len(tokens))
        >>> sums = metrics.start(torch.device("cpu"))
        >>> outputs = {"tokens": torch.zeros(1, 1), "nll": torch.tensor([8.0]), "hits": torch.tensor([6])}
        >>> batch = {"target": torch.ones(1, 9), "reference": bytes_of(["a cat sat on the mat"])}
        >>> metrics.add(sums, outputs, batch)
        >>> scores = metrics.result(sums)
        >>> round(scores["bleu"]), scores["loss"], scores["token_accuracy"]
        (100, 1.0, 0.75)
    """

    def add(sums: dict[str, Tensor], outputs: Batch, batch: Batch) -> None:
        tokens = (batch["target"][:, 1:] != 0).sum()
        sums["count"] += tokens
        sums["nll"] += outputs["nll"].to(sums["nll"].dtype).sum()
        sums["hits"] += outputs["hits"].sum()
        counted = statistics(decode(outputs["tokens"]), texts_of(batch["reference"]))
        sums["bleu"] += counted.to(sums["bleu"].device)

    return Metrics(
        start=_start,
        add=add,
        result=_result,
        select="bleu",
        mode="max",
        columns=(("bleu", ".2f"), ("loss", ".4f")),
    )


def statistics(hypotheses: Sequence[str], references: Sequence[str]) -> Tensor:
    """What BLEU is made of, as sums that add up: int64 ``(10,)``.

    Words of the hypotheses and of the references; how many n-grams of 1 to 4 words are in the reference too; and how
    many n-grams there are.

    Example:
        >>> statistics(["the cat sat"], ["the cat sat down"]).tolist()
        [3, 4, 3, 2, 1, 0, 3, 2, 1, 0]
    """
    if not hypotheses:
        return torch.zeros(2 + 2 * ORDER, dtype=torch.int64)
    made = _metric().corpus_score(list(hypotheses), [list(references)])
    return torch.tensor([made.sys_len, made.ref_len, *made.counts, *made.totals], dtype=torch.int64)


def bleu_of(counted: Tensor) -> float:
    """Corpus BLEU from 0 to 100 from summed :func:`statistics`; NaN without any reference."""
    hypotheses, references, *rest = counted.tolist()
    if not references:
        return float("nan")
    metric = _metric()
    made = metric.compute_bleu(
        correct=rest[:ORDER],
        total=rest[ORDER:],
        sys_len=hypotheses,
        ref_len=references,
        smooth_method=metric.smooth_method,
        smooth_value=metric.smooth_value,
        effective_order=metric.effective_order,
        max_ngram_order=ORDER,
    )
    return float(made.score)


def sentence_bleu(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
    """BLEU of each sentence by itself, over the lengths of n-grams that it has: for finding good and bad ones."""
    metric = _metric(effective_order=True)
    return [
        float(metric.sentence_score(hypothesis, [reference]).score)
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]


def bleu_interval(
    hypotheses: Sequence[str], references: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of corpus BLEU by drawing the sentences again, with replacement (Koehn 2004).

    Args:
        hypotheses: The translations.
        references: What they should have been.
        resamples: How often to draw.
        seed: Of the draws.
    """
    if not hypotheses:
        return float("nan"), float("nan")
    metric = _metric()
    rows = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        made = metric.corpus_score([hypothesis], [[reference]])
        rows.append([made.sys_len, made.ref_len, *made.counts, *made.totals])
    counted = torch.tensor(rows, dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        bleu_of(counted[torch.randint(len(rows), (len(rows),), generator=generator)].sum(0)) for _ in range(resamples)
    ]
    low, high = torch.tensor(drawn, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(low), float(high)


def signature() -> str:
    """sacreBLEU's signature: everything that its number depends on beside the texts."""
    metric = _metric()
    metric.corpus_score(["a"], [["a"]])  # it knows the number of references only after it has seen some
    return str(metric.get_signature())


def bytes_of(texts: Sequence[str]) -> Tensor:
    """Texts as UTF-8, uint8 ``(N, B)``, padded with 0 on the right.

    Example:
        >>> texts_of(bytes_of(["Tür", ""]))
        ['Tür', '']
    """
    encoded = [text.encode() for text in texts]
    width = max(map(len, encoded), default=0)
    return torch.frombuffer(
        bytearray(b"".join(text.ljust(width, b"\0") for text in encoded)) or bytearray(1), dtype=torch.uint8
    )[: width * len(encoded)].view(len(encoded), width)


def texts_of(rows: Tensor) -> list[str]:
    """The texts of :func:`bytes_of`."""
    return [bytes(row).rstrip(b"\0").decode("utf-8", "replace") for row in rows.cpu().to(torch.uint8).numpy()]


def _start(device: torch.device) -> dict[str, Tensor]:
    real = torch.float32 if device.type == "mps" else torch.float64
    return {
        "count": torch.zeros((), dtype=torch.int64, device=device),
        "nll": torch.zeros((), dtype=real, device=device),
        "hits": torch.zeros((), dtype=torch.int64, device=device),
        "bleu": torch.zeros(2 + 2 * ORDER, dtype=torch.int64, device=device),
    }


def _result(sums: Mapping[str, Tensor]) -> Scores:
    count = int(sums["count"])
    loss = float(sums["nll"]) / count if count else float("nan")
    counted = sums["bleu"].cpu()
    return {
        "bleu": bleu_of(counted),
        "loss": loss,
        "perplexity": float(torch.tensor(loss, dtype=torch.float64).exp()),
        "token_accuracy": int(sums["hits"]) / count if count else float("nan"),
        "length_ratio": int(counted[0]) / int(counted[1]) if counted[1] else float("nan"),
    }


def _metric(**settings: Any) -> BLEU:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise MissingExtra("sacrebleu", "text", "scoring translations") from error
    return BLEU(**settings)
