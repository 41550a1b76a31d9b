"""The report of a run: the task's part between what holds for every run."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from flambeau.core import Metrics
from flambeau.report import run as sections
from flambeau.report.elements import number
from flambeau.report.page import Card, render
from flambeau.task import Outcome
from flambeau.workflow.spending import bottlenecks

if TYPE_CHECKING:
    from flambeau.run import Run
    from flambeau.workflow.job import Job


def render_report(run: Run, job: Job, outcome: Outcome) -> str:
    """The report as one HTML text that needs nothing outside itself."""
    cards, of_task = job.task.view.report(outcome)
    info, metrics = run.info, job.metrics()
    cards = [*cards, *_baseline_cards(metrics, outcome)]
    generic_before = [
        sections.curves(run.metrics(), [name for name, _ in metrics.columns]),
        sections.search(info.get("found", {}).get("search", {})),
    ]
    generic_after = [
        sections.data(_data_facts(run, outcome, job.task.view.private)),
        sections.recipe(run.recipe.to_toml()),
        sections.seconds(job.seconds, bottlenecks(job.seconds)),
        sections.history(_history(info)),
        sections.machine(info["versions"], info["machine"]),
    ]
    return render(
        title=f"{job.dataset.name} · {run.recipe.model.name}",
        subtitle=_subtitle(run, outcome, job.task.view.noun),
        cards=cards,
        sections=[*generic_before, *of_task, *generic_after],
        details={"run": run.path.resolve(), "recipe": run.recipe.name, "started": info["started"]},
        notes=warnings(run, metrics),
        footer=f"Made by Flambeau {info['versions']['flambeau']}.",
    )


def _subtitle(run: Run, outcome: Outcome, noun: str) -> str:
    epochs, chosen = run.info["epochs"], run.info["selected"]
    size = len(outcome.dataset.splits[outcome.split])
    kept = "the best on validation was kept" if chosen["why"].startswith("best") else "the last weights were kept"
    return f"{epochs} epoch{'s' if epochs != 1 else ''} of training; {kept}; scored once on {size:,} test {noun}."


def _baseline_cards(metrics: Metrics, outcome: Outcome) -> list[Card]:
    if outcome.baseline is None:
        return []
    name = metrics.select
    score = outcome.baseline.scores.get(name)
    return [] if score is None else [("baseline", number(score), f"{name} of {outcome.baseline.name}")]


def warnings(run: Run, metrics: Metrics) -> list[str]:
    """What must not be overlooked when a run's scores are read, in sentences."""
    return [*_on_test(run), *_below_baseline(run, metrics), *_in_the_way(run)]


def _below_baseline(run: Run, metrics: Metrics) -> list[str]:
    name, scores = metrics.select, run.info.get("scores", {})
    ours, simple = scores.get(f"test/{name}"), scores.get(f"baseline/{name}")
    if ours is None or simple is None or not metrics.better(simple, ours):
        return []
    return [
        f"The baseline, {run.info['baseline']}, does better on the test split: {name} {simple:.4f}, the network "
        f"{ours:.4f}. Use the baseline, or give the network more data, longer training or another recipe."
    ]


def _on_test(run: Run) -> list[str]:
    if run.recipe.data.validation == "test":
        return [
            "The test split also served as the validation split, as the recipe asks and as many introductions do. "
            "Once anything has been chosen by its scores, they no longer say how the model does on new data."
        ]
    return []


def _in_the_way(run: Run) -> list[str]:
    """What the machine did not allow as it was asked for."""
    said = []
    if skipped := run.info.get("skipped_steps"):
        said.append(f"{skipped:,} steps were skipped, because gradients overflowed float16.")
    if halvings := run.info.get("halvings"):
        parts = run.recipe.train.accumulate * 2**halvings
        said.append(
            f"Memory was too small for whole batches, which went through in {parts} parts. The gradient is that of the "
            "whole batch all the same; batch normalisation alone saw the parts."
        )
    return said


def _data_facts(run: Run, outcome: Outcome, private: Collection[str]) -> dict[str, Any]:
    data, facts, info = run.info["data"], outcome.facts, outcome.dataset.info
    shown = {"name": data["name"], "source": data["source"], "content hash (SHA-256)": data["hash"]}
    shown |= {name: info[name] for name in ("licence", "homepage") if info.get(name)}
    shown |= {name.replace("_", " "): value for name, value in facts.items() if name not in private}
    return {"notes": run.info["notes"], **shown, "examples": data["examples"]}


def _history(info: dict[str, Any]) -> list[dict[str, Any]]:
    first = {"started": info["started"], "from_step": 0, "warnings": []}
    return [first, *info["history"]] if info["history"] else []
