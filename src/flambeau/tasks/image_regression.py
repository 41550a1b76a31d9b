"""Pictures into numbers: one, or several, a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from flambeau.columns import Split
from flambeau.core import Batch, Builder, Facts
from flambeau.data import targets
from flambeau.models.regressor import Regressor
from flambeau.program import Program, Wish
from flambeau.recipe import Part, Recipe
from flambeau.task import Intake, Outcome, Shown, Task, View
from flambeau.tasks import image_inputs, numbers
from flambeau.tasks.picture_program import picture_program
from flambeau.tasks.wires import wires


class NumberOptions(Part):
    """What only this task has."""

    targets: tuple[str, ...] = ()
    """The columns of a table that hold the numbers. Without them it is the label column."""


def _wanted(recipe: Recipe) -> tuple[str, ...]:
    named = NumberOptions.model_validate(recipe.options).targets
    label = recipe.data.columns.get("label")
    return named or ((label,) if label is not None else ())


def facts(split: Split, info: Mapping[str, Any], recipe: Recipe) -> Facts:
    """The numbers' names, picture size and channels, and the rules that pictures are read by."""
    image_inputs.require_target(split, info, "target", targets.NUMBERS)
    return {"targets": list(info["targets"]), **image_inputs.facts_of(split, info, recipe)}


def measure(split: Split, facts: Facts, recipe: Recipe) -> Facts:
    """The facts with statistics of the pictures and of the numbers."""
    found = numbers.measured(split, recipe, facts["targets"])
    return {**facts, **found, **image_inputs.statistics(split, facts, recipe)}


def build(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """The named network, with an output for each number, behind its normalisation."""
    # A builder of networks for pictures makes an output for each class.
    network = image_inputs.network_of(recipe, {**facts, "classes": facts["targets"]}, builder)
    known = {name: facts[name] for name in ("shift", "scale", "log")}
    return Regressor(network, facts["mean"], facts["std"], **known)


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The numbers ``(N, T)`` float32, in the units of the data and as the network gives them."""
    return numbers.outputs_of(model, model(batch["image"]))


def program(model: nn.Module, facts: Facts, wish: Wish) -> Program:
    """One graph: pictures to numbers."""
    return picture_program(
        model,
        facts,
        wish,
        predict=predict,
        outputs=numbers.EXPORTED,
        restore=lambda outputs: outputs,
        compared=numbers.compared(facts),
        answer={"kind": "numbers", "targets": facts["targets"]},
    )


def captions(rows: Split) -> list[str]:
    """The numbers of rows, in a line each."""
    return [", ".join(f"{value:.5g}" for value in row) for row in rows.tensor("target").tolist()]


def samples(dataset: Any, count: int) -> list[str | Shown]:
    """A grid of pictures with their numbers."""
    return image_inputs.samples(dataset, count, captions)


def report(outcome: Outcome) -> tuple[list[Any], list[Any]]:
    """Headline numbers, errors, predictions against the truth, the largest errors, samples."""
    from flambeau.report.pictures import SAMPLES
    from flambeau.report.targets import number_cards, number_sections

    shown = outcome.dataset.splits["train"].slice(0, SAMPLES)
    return number_cards(outcome), number_sections(outcome, shown.tensor("image"), captions(shown))


def checks(recipe: Recipe) -> list[str]:
    """Settings that contradict each other."""
    return image_inputs.checks(recipe) + numbers.checks(recipe) + image_inputs.unmixed_checks(recipe, "numbers")


INTAKE = Intake(
    **image_inputs.INTAKE_FIELDS,
    forms=targets.NUMBERS,
    claims=lambda path: False,
    open=lambda path, recipe: targets.open_tables(
        path, recipe, _wanted(recipe), targets.numbers_of(_wanted(recipe)), targets.NUMBERS
    ),
    of_python=lambda source, name, origin, recipe: targets.of_python(
        source, name, origin, targets.numbers_of_python, "target targets"
    ),
    align=numbers.align,
)

VIEW = View(
    **image_inputs.VIEW_FIELDS,
    line=numbers.line,
    cells=numbers.cells,
    truth=lambda rows, facts: captions(rows),
    breakdown=numbers.breakdown,
    report=report,
    tell=lambda outcome, recipe: [*numbers.tell(outcome)],
    samples=samples,
    noun="pictures",
    private=image_inputs.PRIVATE,
)

TASK = Task(
    name="image-regression",
    about="Numbers for each picture, such as an age or an angle.",
    recipe="regression",
    intake=INTAKE,
    view=VIEW,
    **image_inputs.TASK_FIELDS,
    facts=facts,
    measure=measure,
    build=build,
    phases=lambda recipe, facts: numbers.phases_of(recipe, lambda model, batch: model(batch["image"])),
    metrics=numbers.metrics,
    predict=predict,
    decode=numbers.decode,
    toy={
        "targets": ["value"],
        **image_inputs.TOY,
        "shift": [0.0],
        "scale": [1.0],
        "log": False,
        "range": [[-1.0, 1.0]],
        # What a network for pictures is tried with.
        "classes": ["value"],
    },
    options=NumberOptions,
    checks=checks,
    keep=numbers.KEPT,
    program=program,
    baseline=numbers.baseline,
    wire=wires("picture", "numbers"),
)
