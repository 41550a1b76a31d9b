"""Pictures into labels: any number of them a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from flambeau.columns import Split
from flambeau.core import Batch, Facts
from flambeau.data import targets
from flambeau.program import Program, Wish
from flambeau.recipe import Part, Recipe
from flambeau.task import Intake, Outcome, Shown, Task, View
from flambeau.tasks import image_inputs, tags
from flambeau.tasks.picture_program import picture_program
from flambeau.tasks.wires import wires


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
    from flambeau.report.pictures import SAMPLES
    from flambeau.report.targets import label_cards, label_sections

    rows = tags.by_label(outcome.evaluation, outcome.facts)
    shown = outcome.dataset.splits["train"].slice(0, SAMPLES)
    named = captions(outcome.facts["classes"], shown)
    return label_cards(outcome), label_sections(outcome, rows, shown.tensor("image"), named)


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    return image_inputs.checks(recipe) + tags.checks(recipe) + image_inputs.unmixed_checks(recipe, "labels")


INTAKE = Intake(
    **image_inputs.INTAKE_FIELDS,
    forms=targets.LABELS,
    claims=lambda path: False,
    open=lambda path, recipe: targets.open_tables(
        path, recipe, _wanted(recipe), targets.labels_of(_wanted(recipe)), targets.LABELS, inner=list
    ),
    of_python=lambda source, name, origin, recipe: targets.of_python(
        source, name, origin, targets.labels_of_python, "labels classes"
    ),
    align=tags.align,
)

VIEW = View(
    **{**image_inputs.VIEW_FIELDS, "insight": image_inputs.class_insight},
    line=tags.line,
    cells=tags.cells,
    truth=lambda rows, facts: captions(facts["classes"], rows),
    breakdown=tags.breakdown,
    report=report,
    tell=lambda outcome, recipe: [*tags.tell(outcome)],
    samples=samples,
    noun="pictures",
    private=(*image_inputs.PRIVATE, "examples"),
)

TASK = Task(
    name="image-multilabel",
    about="Any number of labels for each picture.",
    recipe="multilabel",
    intake=INTAKE,
    view=VIEW,
    **image_inputs.TASK_FIELDS,
    facts=facts,
    measure=measure,
    build=image_inputs.build_classifier,
    phases=lambda recipe, facts: tags.phases_of(recipe, facts, lambda model, batch: model(batch["image"])),
    metrics=tags.metrics,
    predict=predict,
    decode=tags.decode,
    toy={"classes": ["a", "b", "c"], **image_inputs.TOY},
    options=LabelOptions,
    checks=checks,
    keep=tags.KEPT,
    program=program,
    wire=wires("picture", "labels"),
)
