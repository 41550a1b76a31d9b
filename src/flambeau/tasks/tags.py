"""What tasks share in which each example has any number of labels, whatever an example is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.columns import Split
from flambeau.core import Batch, Evaluation, Facts, Loss, Metrics, Phase
from flambeau.errors import ModelError
from flambeau.metrics.multilabel import average_precision, f1, multilabel
from flambeau.program import Compared
from flambeau.recipe import Recipe
from flambeau.task import Breakdown, Outcome
from flambeau.tasks.common import loss_checks, loss_name, optimizer_checks, optimizer_of, renumbered

KEPT = ("probabilities", "labels")
"""What an evaluation keeps for the report."""

LEAST = 0.5
"""From this probability on a label is said."""

Elementwise = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def _bce(logits: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight, reduction="none")


def _hinge(power: int) -> Elementwise:
    """How far a score falls short of 1 on the right side of 0 (squared, for 2)."""

    def elementwise(scores: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
        short = (1 - (2 * labels - 1) * scores).clamp(min=0) ** power
        return short if weight is None else short * torch.where(labels > 0.5, weight, 1.0)

    return elementwise


_ELEMENTWISE: Mapping[str, Elementwise] = {"bce": _bce, "hinge": _hinge(1), "squared-hinge": _hinge(2)}

LOSSES = tuple(_ELEMENTWISE)


def phases_of(recipe: Recipe, facts: Facts, forward: Callable[[nn.Module, Batch], Tensor]) -> tuple[Phase, ...]:
    """One phase: one of :data:`LOSSES`, the mean over all labels of all rows.

    Class weights weigh the rows that have a label, against those that lack it.
    """
    elementwise, smoothing = _ELEMENTWISE[loss_name(recipe, LOSSES)], recipe.loss.label_smoothing
    weights = positive_weights(recipe, facts)

    def loss(model: nn.Module, batch: Batch) -> Loss:
        logits = forward(model, batch)
        wanted = batch["labels"].to(logits.dtype)
        wanted = wanted * (1 - smoothing) + smoothing / 2 if smoothing else wanted
        weight = None if weights is None else logits.new_tensor(weights)
        return Loss(elementwise(logits, wanted, weight).sum())

    return (Phase("loss", loss, lambda batch: batch["labels"].numel(), optimizer_of(recipe)),)


def positive_weights(recipe: Recipe, facts: Facts) -> list[float] | None:
    """What a row that has a label counts; ``balanced`` gives rows without it over rows with it.

    Raises:
        ModelError: There is not one weight for each label.
    """
    wanted, classes = recipe.loss.class_weights, facts["classes"]
    if wanted is None:
        return None
    if wanted == "balanced":
        return [max(1, facts["examples"] - count) / max(1, count) for count in facts["counts"]]
    if len(wanted) != len(classes):
        raise ModelError(
            "There must be one weight for each label.",
            where="loss.class_weights",
            expected=f"{len(classes)} numbers, in the order {', '.join(classes[:12])}",
            received=len(wanted),
        )
    return list(wanted)


def metrics(recipe: Recipe, facts: Facts) -> Metrics:
    """F1 and what belongs to it; the loss as it is trained, but without weights and smoothing."""
    elementwise = _ELEMENTWISE[loss_name(recipe, LOSSES)]
    made = multilabel(len(facts["classes"]))

    def add(sums: dict[str, Tensor], outputs: Batch, batch: Batch) -> None:
        losses = elementwise(outputs["logits"], batch["labels"].to(outputs["logits"].dtype), None)
        made.add(sums, {**outputs, "loss": losses.mean(1)}, batch)

    return replace(made, add=add)


def outputs_of(logits: Tensor) -> dict[str, Tensor]:
    """Logits and probabilities, both float32 ``(N, K)``; each label has a probability of its own."""
    logits = logits.float()
    return {"logits": logits, "probabilities": logits.sigmoid()}


EXPORTED = {"probabilities": "the probability of each label, (N, K) float32"}
"""What comes out of an exported graph."""

COMPARED = (Compared("probabilities"),)
"""What an exported file must agree in."""


def restored(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`outputs_of` gives, from the probabilities alone; where one rounds to 1, its logit is 16.6."""
    number = torch.finfo(torch.float32)
    return {"logits": outputs["probabilities"].clamp(number.tiny, 1 - number.eps / 2).logit(), **outputs}


def decode(outputs: Batch, facts: Facts) -> list[dict[str, Any]]:
    """For each row ``labels``, the names from a probability of a half on, and ``classes``, all by probability."""
    names = facts["classes"]
    decoded = []
    for values in outputs["probabilities"].tolist():
        order = sorted(range(len(names)), key=lambda k: -values[k])
        ranked = [{"class": names[k], "probability": values[k]} for k in order]
        decoded.append({"labels": [e["class"] for e in ranked if e["probability"] >= LEAST], "classes": ranked})
    return decoded


def line(row: Mapping[str, Any], top: int) -> str:
    """The labels that are said, and of the others the most probable ones in brackets."""
    chances = {entry["class"]: entry["probability"] for entry in row["classes"]}
    said = [f"{name} {chances[name]:.1%}" for name in row["labels"]]
    rest = [f"{name} {value:.1%}" for name, value in chances.items() if name not in row["labels"]]
    rest = rest[: max(0, top - len(said))]
    return "  ".join([*(said or ["none"]), *([f"({'  '.join(rest)})"] if rest else [])])


def cells(row: Mapping[str, Any], top: int) -> dict[str, str]:
    """The labels that are said, and the probability of each label."""
    listed = {f"probability {entry['class']}": f"{entry['probability']:.6f}" for entry in row["classes"]}
    return {"labels": ";".join(row["labels"]), **dict(sorted(listed.items()))}


def align(split: Split, info: Mapping[str, Any], facts: Facts) -> Split:
    """Rows of other data with their labels in the model's order, by name; a label that it lacks is on no row.

    Raises:
        DataError: The data has labels that the model does not know.
    """
    numbers, given = renumbered(info, facts, "labels"), split.tensor("labels")
    made = given.new_zeros(len(given), len(facts["classes"]))
    made[:, numbers] = given
    return split.with_columns(labels=made)


def by_label(evaluation: Evaluation, facts: Facts) -> list[dict[str, Any]]:
    """For each label how often it is there, its precision, recall, F1 and average precision (None where undefined)."""
    sums, outputs = evaluation.sums, evaluation.outputs
    rows = []
    for k, name in enumerate(facts["classes"]):
        hits, wrong, missed = (int(sums[key][k]) for key in ("hits", "wrong", "missed"))
        ranking = average_precision(outputs["probabilities"][:, k], outputs["labels"][:, k] > 0) if outputs else None
        rows.append(
            {
                "label": name,
                "examples": hits + missed,
                "precision": hits / (hits + wrong) if hits + wrong else None,
                "recall": hits / (hits + missed) if hits + missed else None,
                "f1": _defined(f1(hits, wrong + missed)),
                "average_precision": _defined(ranking),
            }
        )
    return rows


def _defined(value: float | None) -> float | None:
    return None if value is None or value != value else value


def breakdown(evaluation: Evaluation, facts: Facts) -> Breakdown:
    """Scores of each label."""
    rows = by_label(evaluation, facts)
    keys = ("precision", "recall", "f1", "average_precision")
    table = [[r["label"], *("-" if r[k] is None else f"{r[k]:.4f}" for k in keys), f"{r['examples']:,}"] for r in rows]
    return Breakdown(
        table=[["label", *(key.replace("_", " ") for key in keys), "examples"], *table], json={"labels": rows}
    )


def tell(outcome: Outcome) -> list[str]:
    """F1 on the test split, and how many rows are wholly right."""
    scores = outcome.evaluation.scores
    return [
        f"test F1 {scores['micro_f1']:.4f} over all labels together, {scores['macro_f1']:.4f} as their mean; "
        f"every label right on {scores['exact']:.1%}"
    ]


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    mistakes = loss_checks(recipe, LOSSES)
    if recipe.show.by_class or recipe.show.class_names:
        mistakes.append(f"show.by_class, show.class_names: {recipe.task} tells no accuracy by class")
    return mistakes + optimizer_checks(recipe)


def counted(split: Split) -> dict[str, Any]:
    """Facts about the labels of a training split: how many rows have each (``counts``), and how many there are."""
    labels = cast(Tensor, split.columns["labels"])
    return {"counts": labels.sum(0, dtype=torch.int64).tolist(), "examples": len(labels)}
