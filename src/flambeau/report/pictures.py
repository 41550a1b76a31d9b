"""The sections of a report that a picture classifier's predictions fill: scores, confusion, calibration, mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flambeau.metrics.calibration import cross_entropy, expected_calibration_error, reliability
from flambeau.metrics.classification import true_rank
from flambeau.metrics.tables import (
    accuracy_interval,
    by_class,
    macro_f1,
    macro_f1_interval,
    most_confused,
    when_sure,
    wilson,
)
from flambeau.report import figures
from flambeau.report.elements import (
    TILE,
    escape,
    fold,
    number,
    percent,
    percent_range,
    picture,
    table,
    tiles,
)
from flambeau.report.elements import figures as side_by_side
from flambeau.report.page import Card, Section

if TYPE_CHECKING:
    from flambeau.task import Outcome

MISTAKES = 24
SAMPLES = 40
"""Pictures that are shown."""

HEAT = (220, 50, 32)
"""The colour that a heat map lays over a picture."""

LONG = 40
"""From this many classes on the table by class starts with the worst ones and hides the rest."""


@dataclass(frozen=True, slots=True)
class ClassificationReport:
    """What is reported about one pass over a split of labelled pictures.

    Attributes:
        classes: The K names.
        split: The name of the split that was scored.
        labels: True classes, ``(N,)`` int64; of distributions the likeliest.
        logits: ``(N, K)``, before the temperature.
        probabilities: ``(N, K)``, after it; what the model says.
        confusion: ``(K, K)`` int64, true classes by rows.
        temperature: What the logits are divided by, 1 when nothing was fitted.
        fitted_on: The split that the temperature was fitted on, empty when nothing was fitted.
        images: The pictures that were scored, ``(N, C, H, W)`` uint8.
        names: Their file names.
        samples: Pictures of the training split, ``(M, C, H, W)`` uint8; a grid shows the first 40.
        sample_labels: Their classes, ``(M,)`` int64.
        noun: What the examples are, in the plural.
        singular: What one of them is.
        target: The distributions over the classes where rows have these, ``(N, K)``.
        looked: For pictures and a class of each: how much each place spoke for it, ``(n, H, W)`` from 0 to 1, or None
            where the network cannot say.
    """

    classes: Sequence[str]
    split: str
    labels: Tensor
    logits: Tensor
    probabilities: Tensor
    confusion: Tensor
    temperature: float = 1.0
    fitted_on: str = ""
    images: Tensor | None = None
    names: Sequence[str] | None = None
    samples: Tensor | None = None
    sample_labels: Tensor | None = None
    noun: str = "pictures"
    singular: str = "picture"
    target: Tensor | None = None
    looked: Callable[[Tensor, Tensor], Tensor | None] = lambda images, classes: None

    @property
    def truth(self) -> Tensor:
        """What probabilities are held against: the distributions, or else the classes."""
        return self.labels if self.target is None else self.target


def classification_of(outcome: Outcome, **more: Any) -> ClassificationReport:
    """The report of what a classifier said of a split, whatever it classifies.

    Args:
        outcome: Its outputs are ``label``, ``logits`` and ``probabilities``; ``confusion`` is among its sums.
        **more: What the task can show beyond them, such as pictures, and the nouns of its examples.
    """
    outputs = outcome.evaluation.outputs
    return ClassificationReport(
        classes=outcome.facts["classes"],
        split=outcome.split,
        labels=outputs["label"],
        logits=outputs["logits"],
        probabilities=outputs["probabilities"],
        confusion=outcome.evaluation.sums["confusion"],
        temperature=outcome.calibration.get("temperature", 1.0),
        fitted_on="validation" if outcome.calibration else "",
        target=outputs.get("target"),
        **more,
    )


def classification_cards(report: ClassificationReport) -> list[Card]:
    """The headline numbers of a classifier: accuracy, macro F1, cross-entropy and calibration error."""
    total = int(report.confusion.sum())
    right = int(report.confusion.diagonal().sum())
    loss = cross_entropy(report.logits, report.truth, report.temperature)
    raw = cross_entropy(report.logits, report.truth)
    f1 = percent_range(*macro_f1_interval(report.confusion))
    return [
        (
            f"{report.split} accuracy",
            percent(right / total if total else None),
            f"95 %: {percent_range(*accuracy_interval(report.confusion))}",
        ),
        ("macro F1", percent(macro_f1(report.confusion)), f"95 %: {f1}"),
        ("cross-entropy", f"{loss:.3f}", f"nats; {raw:.3f} before temperature" if report.fitted_on else "nats"),
        ("calibration error", percent(expected_calibration_error(report.probabilities, report.truth)), "15 bins"),
    ]


def classification_sections(report: ClassificationReport) -> list[Section]:
    """The sections in the order of a page: scores, confusion, by class, calibration, mistakes, samples.

    What there are no data for is left out.

    Args:
        report: Predictions and what belongs to them.
    """
    if not len(report.labels):
        return [Section("Scores", f"<p>The {escape(report.split)} split holds no {report.noun} to score.</p>")]
    made = (scores(report), confusion(report), classes(report), calibration(report), mistakes(report), samples(report))
    return [section for section in made if section is not None]


def scores(report: ClassificationReport) -> Section:
    """The scores over all examples, with intervals."""
    total = len(report.labels)
    right = int(report.confusion.diagonal().sum())
    rows: list[list[object]] = [
        [
            "accuracy",
            percent(right / total),
            percent_range(*wilson(right, total)),
            f"{number(right)} of {number(total)}",
        ]
    ]
    rank = true_rank(report.logits, report.labels)
    for k in (3, 5):
        if len(report.classes) >= 2 * k:
            hits = int((rank < k).sum())
            rows.append([f"top-{k}", percent(hits / total), percent_range(*wilson(hits, total)), ""])
    interval = percent_range(*macro_f1_interval(report.confusion))
    rows.append(["macro F1", percent(macro_f1(report.confusion)), interval, "mean over the classes that occur"])
    plain = cross_entropy(report.logits, report.truth)
    if report.fitted_on:
        after = cross_entropy(report.logits, report.truth, report.temperature)
        rows.append(["cross-entropy", f"{after:.4f}", "", f"nats; {plain:.4f} before temperature"])
    else:
        rows.append(["cross-entropy", f"{plain:.4f}", "", "nats"])
    lead = (
        f"On the {number(total)} {report.noun} of the {report.split} split. Intervals hold the true value 95 times in "
        f"100: Wilson's for proportions, a bootstrap over the {report.noun} for macro F1. They speak of the choice of "
        f"test {report.noun}, not of training again with another seed."
    )
    return Section("Scores", table(["score", "value", "95 % interval", ""], rows, numeric=(1, 2)), lead)


def confusion(report: ClassificationReport) -> Section:
    """The confusion matrix as a figure, and the pairs that are confused most."""
    count = len(report.classes)
    drawn = figures.confusion(report.confusion, report.classes)
    pairs = most_confused(report.confusion, report.classes, limit=10 if count <= figures.LABELLED else 20)
    rows = [[pair["truth"], pair["prediction"], pair["count"], percent(pair["share"])] for pair in pairs]
    heading = ["truth", "taken for", "times", "of its class"]
    none = f"<p>No {report.singular} was taken for another class.</p>"
    listed = table(heading, rows, numeric=(2, 3)) if rows else none
    what = "Rows are true classes, columns predictions; the stronger a colour, the larger the share of the row."
    more = " There are too many classes to name them all; the table below lists the pairs." if count > 30 else ""
    return Section("Confusion", f'<div class="wide">{drawn}</div><h3>Most confused</h3>{listed}', what + more)


def classes(report: ClassificationReport) -> Section:
    """Precision, recall and F1 of each class."""
    rows = by_class(report.confusion, report.classes)
    columns = ["class", report.noun, "precision", "95 %", "recall", "95 %", "F1", "95 %"]

    def cells(row: dict[str, object]) -> list[object]:
        made: list[object] = [row["class"], row["support"]]
        for name in ("precision", "recall", "f1"):
            value, low, high = (_real(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
            made += [percent(value), percent_range(low, high, digits=0)]
        return made

    def shown(part: Sequence[dict[str, object]]) -> str:
        return table(columns, [cells(row) for row in part], numeric=range(1, 8))

    drawn = f'<div class="wide">{figures.class_bars(rows)}</div>'
    lead = f"Precision: how many predictions of the class are right. Recall: how many of its {report.noun} are found."
    if len(rows) <= LONG:
        return Section("By class", drawn + shown(rows), lead)
    lead += f" The figure shows the {LONG} classes with the lowest F1."
    return Section("By class", drawn + fold(f"All {len(rows)} classes", shown(rows)), lead)


def _real(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def calibration(report: ClassificationReport) -> Section:
    """Whether confidence can be believed, before and after the temperature."""
    raw = report.logits.softmax(1)
    before = expected_calibration_error(raw, report.truth)
    after = expected_calibration_error(report.probabilities, report.truth)
    curves = [("before", "second", reliability(raw, report.truth))] if report.fitted_on else []
    curves.append(("after" if curves else "the model", "accent", reliability(report.probabilities, report.truth)))
    if report.fitted_on:
        lead = (
            f"A temperature of {number(report.temperature, 3)}, fitted on the {report.fitted_on} split, takes the "
            f"expected calibration error from {percent(before)} to {percent(after)}. It divides the logits and changes "
            "no prediction."
        )
    else:
        lead = (
            f"The expected calibration error is {percent(after)}. No temperature was fitted: there is no validation "
            f"split of its own, or it has fewer than 100 {report.noun}."
        )
    caption = (
        "On the dashed line, predictions made with 80 % confidence are right 80 % of the time; below it, less often."
    )
    drawn = figures.reliability_diagram(curves)
    heading = ["answers only from", "answered", "accuracy of these", "95 %"]
    rows = [
        [percent(row.least, 0), percent(row.answered), percent(row.accuracy), percent_range(*row.interval)]
        for row in when_sure(report.probabilities, report.labels)
    ]
    sure = table(heading, rows, numeric=range(4), caption="What abstaining gains: flambeau predict --abstain-below P")
    return Section("Calibration", side_by_side((caption, drawn)) + sure, lead)


def mistakes(report: ClassificationReport) -> Section | None:
    """The wrong predictions that the model was surest of, as pictures."""
    if report.images is None:
        return None
    confidence, predicted = report.probabilities.max(1)
    wrong = (predicted != report.labels).nonzero().squeeze(1)
    order = wrong[confidence[wrong].argsort(descending=True, stable=True)][:MISTAKES]
    if not len(order):
        all_right = f"<p>Every {report.singular} of the {escape(report.split)} split was recognised.</p>"
        return Section("Mistakes", all_right)
    heat = report.looked(report.images[order], predicted[order])
    entries = []
    for place, row in enumerate(order.tolist()):
        said, truth = str(report.classes[int(predicted[row])]), str(report.classes[int(report.labels[row])])
        name = "" if report.names is None else str(report.names[row])
        sure = percent(float(confidence[row]), 0 if confidence[row] < 0.995 else 1)
        below = f'<span class="said">{escape(said)} {sure}</span><span>is {escape(truth)}</span>'
        below += f'<span class="name" title="{escape(name)}">{escape(name.rsplit("/", 1)[-1])}</span>' if name else ""
        alt = f"{truth}, taken for {said}"
        shown = picture(report.images[row], alt)
        if heat is not None:
            shown += picture(heated(report.images[row], heat[place]), f"what spoke for {said}")
        entries.append((shown, below))
    lead = (
        f"The {len(order)} wrong predictions that the model was surest of, of {number(len(wrong))} in all: what it "
        "said with its confidence, and what the label says. Wrong labels tend to show up here."
    )
    if heat is not None:
        lead += (
            " The red in the second picture is what spoke for the answer (Grad-CAM: the last maps of the network, "
            "weighted by the answer's gradient, so it is coarse)."
        )
    return Section("Mistakes", tiles(entries), lead)


def heated(image: Tensor, heat: Tensor) -> Tensor:
    """A picture with a heat map over it.

    Args:
        image: ``(C, H, W)`` uint8, grey or RGB.
        heat: ``(H, W)`` from 0 to 1.

    Returns:
        ``(3, H, W)`` uint8.
    """
    colour = torch.tensor(HEAT, dtype=torch.float32).view(3, 1, 1)
    # A pale grey picture below, so that red on it is heat and nothing else.
    grey = image.to(torch.float32).mean(0, keepdim=True) * 0.6 + 102
    share = 0.85 * heat.cpu().unsqueeze(0)
    return ((1 - share) * grey + share * colour).round().to(torch.uint8)


def samples(report: ClassificationReport) -> Section | None:
    """A grid of labelled training pictures."""
    if report.samples is None or report.sample_labels is None or not len(report.samples):
        return None
    shown = min(SAMPLES, len(report.samples))
    names = [str(report.classes[label]) for label in report.sample_labels[:shown].tolist()]
    return sample_grid(report.samples[:shown], names, report.noun, "labels")


def sample_grid(images: Tensor, captions: Sequence[str], noun: str, target: str) -> Section:
    """A grid of training pictures with captions, which say their target (in the plural, as is the noun)."""
    entries = [(picture(image, text, side=TILE), escape(text)) for image, text in zip(images, captions, strict=True)]
    noun = noun[:1].upper() + noun[1:]
    lead = f"{noun} of the training split as the network gets them before augmentation, with their {target}."
    return Section("Samples", tiles(entries, "samples"), lead)


def spread_sample(labels: Tensor, count: int = SAMPLES) -> Tensor:
    """Row numbers of a sample that shows every class as evenly as possible, class after class, ``(n,)`` int64.

    The first rows of each class are taken, so the same split always shows the same pictures.

    Args:
        labels: Classes, ``(N,)`` int64.
        count: How many rows are wanted.

    Example:
        >>> spread_sample(torch.tensor([1, 1, 1, 0, 2]), 4).tolist()
        [3, 0, 1, 4]
    """
    order = labels.argsort(stable=True)
    sorted_labels = labels[order]
    starts = torch.searchsorted(sorted_labels, sorted_labels)
    within = torch.arange(len(labels)) - starts
    chosen = (within * (int(labels.max()) + 1 if len(labels) else 1) + sorted_labels).argsort(stable=True)[:count]
    return order[chosen.sort().values]
