"""Pictures into labels: any number of them a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from flambeau.columns import Split
from flambeau.core import Batch, Builder, Facts
from flambeau.data import targets
from flambeau.data.pictures import ROLES, picture_inputs
from flambeau.data.preview import describe
from flambeau.data.splits import with_test_and_validation
from flambeau.models.classifier import Classifier, check_fit
from flambeau.program import Program, Wish
from flambeau.recipe import Part, Recipe
from flambeau.task import Intake, Outcome, Shown, Task, View
from flambeau.tasks import image_inputs, tags
from flambeau.tasks.common import column_checks, tensors
from flambeau.tasks.picture_program import picture_program


class LabelOptions(Part):
    """What only this task has."""

    labels: tuple[str, ...] = ()
    """The columns of a table, one for each label, that say 0 or 1. Without them the label column names the labels."""


def _wanted(recipe: Recipe) -> tuple[str, ...]:
    return LabelOptions.model_validate(recipe.options).labels


def facts(split: Split, info: Mapping[str, Any], recipe: Recipe) -> Facts:
    """The labels, picture size and channels, and the rules that pictures are read by."""
    image_inputs.require_target(split, info, "labels", targets.LABELS)
    return {"classes": list(info["classes"]), **image_inputs.facts_of(split, info, recipe)}


def measure(split: Split, facts: Facts, recipe: Recipe) -> Facts:
    """The facts with statistics of the pictures, and how many have each label."""
    return {**facts, **tags.counted(split), **image_inputs.statistics(split, facts, recipe)}


def build(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """The named network behind its normalisation; checked with an example of the right shape."""
    network = builder(facts, **recipe.model.arguments())
    check_fit(network, facts)
    return Classifier(network, facts["mean"], facts["std"])


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Logits and probabilities, ``(N, K)`` float32."""
    return tags.outputs_of(model(batch["image"]))


def program(model: nn.Module, facts: Facts, wish: Wish) -> Program:
    """One graph: pictures to a probability for each label."""
    return picture_program(
        model,
        facts,
        wish,
        predict=predict,
        outputs=tags.EXPORTED,
        restore=tags.restored,
        compared=tags.COMPARED,
        answer={"kind": "labels", "least": tags.LEAST},
    )


def captions(classes: Sequence[str], rows: Split) -> list[str]:
    """The labels of rows, in a line each."""
    given = rows.tensor("labels").tolist()
    return [", ".join(name for name, on in zip(classes, row, strict=True) if on) or "none" for row in given]


def samples(dataset: Any, count: int) -> list[str | Shown]:
    """A grid of pictures with their labels."""
    return image_inputs.samples(dataset, count, lambda rows: captions(dataset.info["classes"], rows))


def report(outcome: Outcome) -> tuple[list[Any], list[Any]]:
    """Headline numbers, scores by label, the surest mistakes, samples."""
    from flambeau.report.targets import label_cards, label_sections

    train, classes = outcome.dataset.splits["train"], outcome.facts["classes"]
    rows = tags.by_label(outcome.evaluation, outcome.facts)
    shown = train.slice(0, min(40, len(train)))
    return label_cards(outcome), label_sections(outcome, rows, shown.tensor("image"), captions(classes, shown))


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    mistakes = image_inputs.checks(recipe) + column_checks(recipe, *ROLES) + tags.checks(recipe)
    if recipe.augment.mixes:
        mistakes.append("augment.mixup, augment.cutmix: mix classes, and here a picture has labels; set both to 0")
    return mistakes


INTAKE = Intake(
    forms=targets.LABELS,
    claims=lambda path: False,
    open=lambda path, recipe: targets.open_tables(
        path, recipe, _wanted(recipe), targets.labels_of(_wanted(recipe)), targets.LABELS
    ),
    of_python=lambda source, name, origin, recipe: targets.of_python(
        source, name, origin, targets.labels_of_python, "labels classes"
    ),
    divide=lambda dataset, recipe: with_test_and_validation(dataset, recipe.data),
    describe=describe,
    align=tags.align,
)

VIEW = View(
    asks="PICTURE...",
    inputs=picture_inputs,
    line=tags.line,
    cells=tags.cells,
    breakdown=tags.breakdown,
    report=report,
    tell=lambda outcome, recipe: [*tags.tell(outcome)],
    about=image_inputs.about,
    samples=samples,
    thumbnail=image_inputs.thumbnail,
    noun="pictures",
    private=(*image_inputs.PRIVATE, "examples"),
)

TASK = Task(
    name="image-multilabel",
    about="Any number of labels for each picture.",
    family="pictures",
    recipe="multilabel",
    input="image",
    intake=INTAKE,
    view=VIEW,
    facts=facts,
    read=image_inputs.read,
    measure=measure,
    collate=tensors,
    transform=image_inputs.transform,
    build=build,
    phases=lambda recipe, facts: tags.phases_of(recipe, facts, lambda model, batch: model(batch["image"])),
    metrics=tags.metrics,
    predict=predict,
    decode=tags.decode,
    example=image_inputs.example,
    toy={"classes": ["a", "b", "c"], "size": [28, 28], "channels": 1, "mean": None, "std": None},
    parts=("images", "augment"),
    options=LabelOptions,
    checks=checks,
    keep=tags.KEPT,
    doubts=image_inputs.doubts,
    program=program,
)
