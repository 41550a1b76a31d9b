"""What tasks share that give each example one of several classes, whatever an example is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.columns import Split
from flambeau.core import Batch, Evaluation, Facts, Loss, Metrics, Phase
from flambeau.errors import DataError, ModelError
from flambeau.metrics.calibration import expected_calibration_error, fit_temperature
from flambeau.metrics.classification import classification
from flambeau.metrics.tables import accuracy_interval, by_class
from flambeau.program import Compared
from flambeau.recipe import Recipe
from flambeau.task import Breakdown, Outcome
from flambeau.tasks import answers
from flambeau.tasks.common import loss_checks, loss_name, optimizer_checks, optimizer_of, renumbered

FEWEST = 100
"""Below so many validation examples a temperature follows chance more than the model, and none is fitted."""

LOWEST, HIGHEST = 0.1, 10.0
"""Between these a fitted temperature is believed."""

KEPT = ("logits", "probabilities", "label", "target")
"""What an evaluation keeps for calibration and report."""

Forward = Callable[[nn.Module, Batch], Tensor]
"""Logits ``(N, K)`` of a batch."""


def phases_of(recipe: Recipe, facts: Facts, forward: Forward) -> tuple[Phase, ...]:
    """One phase: one of :data:`LOSSES`, weighted by class where the recipe says so.

    What is learnt is the class ``label``, int64 ``(N,)``, or where a batch has one the distribution ``target``, float32
    ``(N, K)``. The loss of a distribution is the sum over the classes of share times weight times negative
    log-probability, and its count that of share times weight. So the two agree where all of a row is one class, and the
    mean stays a weighted mean (PyTorch's own divides by the number of rows, whatever the weights).
    """
    weights = class_weights(recipe, facts)
    smoothing = recipe.loss.label_smoothing
    summed = _SUMMED[loss_name(recipe, LOSSES)]

    def loss(model: nn.Module, batch: Batch) -> Loss:
        outputs = forward(model, batch)
        weight = None if weights is None else outputs.new_tensor(weights)
        return Loss(summed(outputs, batch.get("target", batch["label"]), weight, smoothing))

    def count(batch: Batch) -> float:
        if weights is None:
            return len(batch["label"])
        by_class = torch.tensor(weights, dtype=torch.float64, device=batch["label"].device)
        if "target" in batch:
            return float((batch["target"] @ by_class.to(batch["target"].dtype)).sum(dtype=torch.float64))
        return float(by_class[batch["label"]].sum())

    return (Phase("loss", loss, count, optimizer_of(recipe)),)


def _cross_entropy(logits: Tensor, wanted: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
    return F.cross_entropy(logits, wanted, weight=weight, reduction="sum", label_smoothing=smoothing)


def _nll(outputs: Tensor, wanted: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
    """Negative log-likelihood of outputs that are log-probabilities already."""
    if wanted.is_floating_point():
        return -(outputs * (wanted if weight is None else wanted * weight)).sum()
    return F.nll_loss(outputs, wanted, weight=weight, reduction="sum")


def _kl(logits: Tensor, wanted: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
    """Kullback-Leibler divergence: cross-entropy less the wanted distribution's own entropy, which is 0 for a class."""
    crossed = F.cross_entropy(logits, wanted, weight=weight, reduction="sum")
    if not wanted.is_floating_point():
        return crossed
    own: Tensor = torch.special.xlogy(wanted, wanted)
    return crossed + (own if weight is None else own * weight).sum()


def _hinge(power: int) -> Callable[[Tensor, Tensor, Tensor | None, float], Tensor]:
    """How far the other classes' scores come within 1 of the true one's (Crammer and Singer, JMLR 2001), over K."""

    def summed(scores: Tensor, label: Tensor, weight: Tensor | None, smoothing: float) -> Tensor:
        return F.multi_margin_loss(scores, label, p=power, weight=weight, reduction="sum")

    return summed


_SUMMED = {
    "cross-entropy": _cross_entropy,
    "nll": _nll,
    "kl": _kl,
    "hinge": _hinge(1),
    "squared-hinge": _hinge(2),
}

LOSSES = tuple(_SUMMED)


def class_weights(recipe: Recipe, facts: Facts) -> list[float] | None:
    """A weight for each class; ``balanced`` gives n / (classes · n of the class), as scikit-learn does.

    Raises:
        ModelError: There is not one weight for each class.
    """
    wanted = recipe.loss.class_weights
    if wanted is None:
        return None
    classes = facts["classes"]
    if wanted == "balanced":
        counts = facts["counts"]
        return [sum(counts) / (len(classes) * max(1, count)) for count in counts]
    if len(wanted) != len(classes):
        raise ModelError(
            "There must be one weight for each class.",
            where="loss.class_weights",
            expected=f"{len(classes)} numbers, in the order {', '.join(classes[:12])}",
            received=len(wanted),
        )
    return list(wanted)


def metrics(recipe: Recipe, facts: Facts) -> Metrics:
    """Accuracy and what belongs to it."""
    return classification(len(facts["classes"]))


def outputs_of(model: nn.Module, logits: Tensor) -> dict[str, Tensor]:
    """Logits ``(N, K)`` and calibrated probabilities ``(N, K)``, both float32."""
    return {"logits": logits, "probabilities": torch.softmax(logits / cast(Tensor, model.temperature), dim=1)}


EXPORTED = {"probabilities": "calibrated probabilities of the classes, (N, K) float32"}
"""What comes out of an exported graph."""

COMPARED = (Compared("probabilities", ranked=True),)
"""What an exported file must agree in."""


def restored(model: nn.Module, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`outputs_of` gives, from the probabilities alone: logits are known but for a constant a row."""
    probabilities = outputs["probabilities"]
    tiny = torch.finfo(torch.float32).tiny
    return {"logits": probabilities.clamp(min=tiny).log() * cast(Tensor, model.temperature), **outputs}


def decode(outputs: Batch, facts: Facts) -> list[dict[str, Any]]:
    """For each example its class, the probability of that, and all classes from the most probable on."""
    # By logits: what wins is what wins when accuracy is counted, also where probabilities round to equals.
    rows = zip(outputs["probabilities"].tolist(), outputs["logits"].tolist(), strict=True)
    return [answers.class_of(facts["classes"], probabilities, logits) for probabilities, logits in rows]


def truth(rows: Split, facts: Facts) -> list[str]:
    """The class of each row."""
    return [str(facts["classes"][label]) for label in rows.tensor("label").tolist()]


line, cells = answers.class_line, answers.class_cells


def calibrate(model: nn.Module, outputs: Mapping[str, Tensor]) -> dict[str, float]:
    """Fits the temperature on validation logits and stores it in the model."""
    logits, truth = outputs["logits"], outputs.get("target", outputs["label"])
    if len(truth) < FEWEST:
        return {}
    temperature = fit_temperature(logits, truth)
    if not LOWEST < temperature < HIGHEST:
        # So few mistakes (or so few right answers) that any confidence fits: there is nothing to calibrate by.
        temperature = 1.0
    stored = cast(Tensor, model.temperature)
    stored.fill_(temperature)
    return {
        "temperature": float(stored),
        "val/ece_before": expected_calibration_error(torch.softmax(logits, 1), truth),
        "val/ece_after": expected_calibration_error(torch.softmax(logits / float(stored), 1), truth),
    }


def align(split: Split, info: Mapping[str, Any], facts: Facts) -> Split:
    """Rows of other data with their labels renumbered to the model's classes, by name.

    Raises:
        DataError: The data has classes that the model does not know.
    """
    remedy = "Name the classes (for a folder: its class folders) as the model does, or leave the others out."
    numbers, label = renumbered(info, facts, "classes", remedy), split.tensor("label")
    aligned = split.with_columns(label=label.new_tensor(numbers)[label])
    if "target" not in split.columns:
        return aligned
    theirs, classes = [str(name) for name in info["classes"]], facts["classes"]
    if len(theirs) != len(classes) and theirs == [str(number) for number in range(len(theirs))]:
        raise DataError(
            "The distributions are over another number of classes.",
            where=info.get("source"),
            expected=f"{len(classes)} numbers for each row, in the order {', '.join(classes[:20])}",
            received=f"{len(theirs)} numbers",
        )
    given = split.tensor("target")
    target = given.new_zeros(len(given), len(classes))
    target[:, numbers] = given
    return aligned.with_columns(target=target)


def breakdown(evaluation: Evaluation, facts: Facts) -> Breakdown:
    """The interval of the accuracy, and precision, recall and F1 of each class."""
    confusion = evaluation.sums["confusion"]
    rows = by_class(confusion, facts["classes"])
    keys = ("precision", "recall", "f1")
    cells = [[row["class"], *(_number(row[key]) for key in keys), f"{row['support']:,}"] for row in rows]
    return Breakdown(
        {"accuracy": accuracy_interval(confusion)}, [["class", *keys, "examples"], *cells], {"classes": rows}
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def tell(outcome: Outcome, recipe: Recipe) -> list[str]:
    """Accuracy and loss on the test split, and accuracy by class where the recipe shows it."""
    scores, confusion = outcome.evaluation.scores, outcome.evaluation.sums["confusion"]
    told = []
    if recipe.show.by_class:
        rates = (confusion.diagonal() / confusion.sum(1).clamp(min=1)).tolist()
        names: Sequence[str] = recipe.show.class_names or outcome.facts["classes"]
        told += [f"accuracy of {name:<10} {100 * rate:5.1f} %" for name, rate in zip(names, rates, strict=True)]
    low, high = accuracy_interval(confusion)
    text = (
        f"test accuracy {scores['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}), "
        f"average loss {scores['loss']:.4f}"
    )
    # The tutorials print this other average; elsewhere it would only raise the question of which to believe.
    in_walk = recipe.show.step or recipe.show.epoch
    told.append(f"{text} (mean of batch means {scores['loss_mean_of_batches']:.6f})" if in_walk else text)
    return told


def counted(split: Split, classes: int) -> list[float]:
    """How many rows of each of so many classes a training split has; of distributions the sums of the shares."""
    if "target" in split.columns:
        return [round(total, 6) for total in split.tensor("target").sum(0, dtype=torch.float64).tolist()]
    return torch.bincount(split.tensor("label"), minlength=classes).tolist()


def require_loss(split: Split, info: Mapping[str, Any], recipe: Recipe) -> None:
    """Refuses distributions where the loss wants one class for each row.

    Raises:
        DataError: It is a hinge.
    """
    if "target" in split.columns and _wants_one_class(recipe):
        raise DataError(
            f"The loss {recipe.loss.name} wants one class for each row, and the data has distributions over them.",
            where=info.get("source"),
            remedy="Set loss.name to cross-entropy or kl, or give the class that is right as the label.",
        )


def _wants_one_class(recipe: Recipe) -> bool:
    return loss_name(recipe, LOSSES).endswith("hinge")


def checks(recipe: Recipe, *, mixes: bool = False, soft: bool = False) -> list[str]:
    """Settings that contradict each other.

    Args:
        recipe: All of them.
        mixes: Whether examples are mixed with others.
        soft: Whether the recipe names columns that hold a number for each class.
    """
    mistakes = loss_checks(recipe, LOSSES)
    if _wants_one_class(recipe):
        one = "loss.name: hinge and squared-hinge want one class an example, and"
        mistakes += [f"{one} mixup and CutMix mix them"] if mixes else []
        mistakes += [f"{one} options.classes gives distributions; choose cross-entropy or kl"] if soft else []
    return mistakes + optimizer_checks(recipe)
