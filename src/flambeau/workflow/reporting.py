"""The report of a run: the task's part between what holds for every run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flambeau.core import Outcome
from flambeau.report import run as sections
from flambeau.report.page import render

if TYPE_CHECKING:
    from flambeau.run import Run
    from flambeau.workflow.job import Job


def render_report(run: Run, job: Job, outcome: Outcome) -> str:
    """The report as one HTML text that needs nothing outside itself."""
    cards, of_task = job.task.report(outcome)
    info = run.info
    generic_before = [sections.curves(run.metrics())]
    generic_after = [
        sections.data(_data_facts(run, outcome)),
        sections.recipe(run.recipe.to_toml()),
        sections.seconds(job.seconds),
        sections.history(_history(info)),
        sections.machine(info["versions"], info["machine"]),
    ]
    return render(
        title=f"{job.dataset.name} · {run.recipe.model.name}",
        subtitle=_subtitle(run, outcome),
        cards=cards,
        sections=[*generic_before, *of_task, *generic_after],
        details={"run": run.path.resolve(), "recipe": run.recipe.name, "started": info["started"]},
        notes=warnings(run),
        footer=f"Made by Flambeau {info['versions']['flambeau']}.",
    )


def _subtitle(run: Run, outcome: Outcome) -> str:
    epochs, chosen = run.info["epochs"], run.info["selected"]
    size = len(outcome.dataset.splits[outcome.split])
    kept = "the best on validation was kept" if chosen["why"].startswith("best") else "the last weights were kept"
    return f"{epochs} epoch{'s' if epochs != 1 else ''} of training; {kept}; scored once on {size:,} test examples."


def warnings(run: Run) -> list[str]:
    """What must not be overlooked when a run's scores are read, in sentences."""
    if run.recipe.data.validation == "test":
        return [
            "The test split also served as the validation split, as the recipe asks and as many introductions do. "
            "Once anything has been chosen by its scores, they no longer say how the model does on new data."
        ]
    return []


def _data_facts(run: Run, outcome: Outcome) -> dict[str, Any]:
    data, facts, info = run.info["data"], outcome.facts, outcome.dataset.info
    shown = {"name": data["name"], "source": data["source"], "content hash (SHA-256)": data["hash"]}
    shown |= {name: info[name] for name in ("licence", "homepage") if info.get(name)}
    shown |= {
        name.replace("_", " "): value for name, value in facts.items() if name not in ("rules", "counts", "brightness")
    }
    return {"notes": run.info["notes"], **shown, "examples": data["examples"]}


def _history(info: dict[str, Any]) -> list[dict[str, Any]]:
    first = {"started": info["started"], "from_step": 0, "warnings": []}
    return [first, *info["history"]] if info["history"] else []
