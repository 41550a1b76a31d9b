"""Pictures into classes: one label a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator
from torch import Tensor, nn

from flambeau.columns import Split
from flambeau.core import Batch, Facts, device_of
from flambeau.data.pictures import FORMS, claims_pictures, open_pictures, pictures_of_python
from flambeau.errors import DataError
from flambeau.program import Program, Wish
from flambeau.recipe import Part, Recipe
from flambeau.task import Intake, Outcome, Shown, Start, Task, View
from flambeau.tasks import image_inputs, labels
from flambeau.tasks.picture_program import picture_program
from flambeau.tasks.wires import wires

START = Start(
    {"name": "resnet18", "pretrained": True, "freeze": True},
    below=5_000,
    file="resnet18-f37072fd.pth",
    megabytes=45,
    gain="Features that were learnt from ImageNet's 1.2 million pictures mostly recognise more than so few can teach.",
)


def _several(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) == 1 or len(set(names)) < len(names):
        raise ValueError("expected two columns or more, each once")
    return names


class ClassOptions(Part):
    """What only this task has."""

    classes: Annotated[tuple[str, ...], AfterValidator(_several)] = ()
    """The columns of a table, one for each class, that hold its share or its votes. Without them there is a label."""


def _wanted(recipe: Recipe) -> tuple[str, ...]:
    return ClassOptions.model_validate(recipe.options).classes


def facts(split: Split, info: Mapping[str, Any], recipe: Recipe) -> Facts:
    """Classes, picture size and channels, and the rules that pictures are read by."""
    labels.require_loss(split, info, recipe)
    if _wanted(recipe) and "target" not in split.columns:
        raise DataError(
            "options.classes names columns of a table, and the data has one class for each picture.",
            where=info.get("source"),
            remedy="Leave options.classes out, or give a table with these columns.",
        )
    return {
        "classes": list(info["classes"]),
        **image_inputs.facts_of(split, info, recipe),
    }


def measure(split: Split, facts: Facts, recipe: Recipe) -> Facts:
    """The facts with statistics of the pictures and the number of each class."""
    counts = labels.counted(split, len(facts["classes"]))
    return {**facts, "counts": counts, **image_inputs.statistics(split, facts, recipe)}


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Logits ``(N, K)`` and calibrated probabilities ``(N, K)``, both float32."""
    return labels.outputs_of(model, model(batch["image"]))


def program(model: nn.Module, facts: Facts, wish: Wish) -> Program:
    """One graph: pictures to calibrated probabilities."""
    return picture_program(
        model,
        facts,
        wish,
        predict=predict,
        outputs=labels.EXPORTED,
        restore=lambda outputs: labels.restored(model, outputs),
        compared=labels.COMPARED,
        answer={"kind": "classes"},
    )


def report(outcome: Outcome) -> tuple[list[Any], list[Any]]:
    """Headline numbers and sections: scores, confusion, classes, calibration, mistakes, samples."""
    from flambeau.models.gradcam import grad_cam
    from flambeau.report.pictures import (
        classification_cards,
        classification_of,
        classification_sections,
        spread_sample,
    )

    def looked(images: Tensor, classes: Tensor) -> Tensor | None:
        device = device_of(outcome.model)
        return grad_cam(outcome.model, images.to(device), classes.to(device))

    train = outcome.dataset.splits["train"]
    chosen = spread_sample(train.tensor("label"))
    made = classification_of(
        outcome,
        images=outcome.dataset.splits[outcome.split].tensor("image"),
        names=_names(outcome),
        samples=train.tensor("image")[chosen],
        sample_labels=train.tensor("label")[chosen],
        looked=looked,
    )
    return classification_cards(made), classification_sections(made)


def _names(outcome: Outcome) -> list[str] | None:
    columns = outcome.dataset.splits[outcome.split].columns
    return [str(name) for name in columns["name"]] if "name" in columns else None


def tell(outcome: Outcome, recipe: Recipe) -> list[str | Shown]:
    """Accuracy and loss on the test split; first pictures and accuracy by class where the recipe shows them."""
    names = recipe.show.class_names or outcome.facts["classes"]
    shown = _first_pictures(outcome, recipe.show.samples, names) if recipe.show.samples else []
    return [*shown, *labels.tell(outcome, recipe)]


def _first_pictures(outcome: Outcome, count: int, names: Sequence[str]) -> list[str | Shown]:
    """The first test pictures with what was predicted and what they are."""
    from flambeau.data.preview import grid_png, to_terminal

    outputs = outcome.evaluation.outputs
    truth = [names[label] for label in outputs["label"][:count].tolist()]
    predicted = [names[label] for label in outputs["logits"][:count].argmax(1).tolist()]
    captions = [f"{guess} ({'right' if guess == name else name})" for guess, name in zip(predicted, truth, strict=True)]
    pictures = outcome.dataset.splits[outcome.split].tensor("image")[:count]
    strip = Shown(
        "first-test-pictures.png",
        grid_png(pictures, captions, min(count, 10)),
        lambda width: to_terminal(pictures, captions, max(1, min(count, width // 22))),
    )
    lines = [f'predicted "{guess}", actual "{name}"' for guess, name in zip(predicted, truth, strict=True)]
    return [strip, *lines]


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    mixes, soft = recipe.augment.mixes, bool(_wanted(recipe))
    return image_inputs.checks(recipe) + labels.checks(recipe, mixes=mixes, soft=soft)


INTAKE = Intake(
    **image_inputs.INTAKE_FIELDS,
    forms=FORMS,
    claims=claims_pictures,
    open=lambda path, recipe: open_pictures(path, recipe, _wanted(recipe)),
    of_python=lambda source, name, origin, recipe: pictures_of_python(source, name, origin, recipe, _wanted(recipe)),
    align=labels.align,
)

VIEW = View(
    **{**image_inputs.VIEW_FIELDS, "insight": image_inputs.class_insight},
    line=labels.line,
    cells=labels.cells,
    truth=labels.truth,
    breakdown=labels.breakdown,
    report=report,
    tell=tell,
    samples=image_inputs.samples,
    private=image_inputs.PRIVATE,
)

TASK = Task(
    name="image-classification",
    about="One of several classes for each picture.",
    recipe="pictures",
    intake=INTAKE,
    view=VIEW,
    **image_inputs.TASK_FIELDS,
    facts=facts,
    measure=measure,
    build=image_inputs.build_classifier,
    phases=lambda recipe, facts: labels.phases_of(recipe, facts, lambda model, batch: model(batch["image"])),
    metrics=labels.metrics,
    predict=predict,
    decode=labels.decode,
    toy={"classes": [str(number) for number in range(10)], **image_inputs.TOY},
    options=ClassOptions,
    checks=checks,
    keep=labels.KEPT,
    start=START,
    calibrate=labels.calibrate,
    program=program,
    wire=wires("picture", "classes"),
)
