"""Every task through every command, on small data: train, kill and resume, evaluate, predict, inspect, report."""

from __future__ import annotations

import json
import math
import signal
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conduct import StoppedError, as_rows, close, close_rows, inputs, source, trained
from conftest import Command
from killing import Kill, carry_on, differences, fingerprint, kill
from small_data import case

import flambeau
from flambeau import catalog
from flambeau.columns import Dataset
from flambeau.core import Record, State
from flambeau.data.loader import batches
from flambeau.data.prepare import prepare
from flambeau.datasets import opened
from flambeau.engine import checkpoint
from flambeau.errors import UsageError
from flambeau.model import Model, load
from flambeau.task import Shown

TASKS = catalog.task_names()

every_task = pytest.mark.parametrize("name", TASKS)


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all contract tests keep what they share."""
    return tmp_path_factory.getbasetemp()


def epochs_of(run: flambeau.Run) -> list[dict[str, Any]]:
    return [line for line in run.metrics() if line["kind"] == "epoch"]


@cache
def data_of(run: Path) -> Dataset:
    """The splits that a run was trained on, as its task reads them."""
    recipe = flambeau.Run(run).recipe
    return prepare(opened(recipe), catalog.task(recipe.task), recipe)[1]


@every_task
def test_training_ends_with_finite_scores(name: str, base: Path) -> None:
    run = trained(name, base)
    task = catalog.task(name)
    metrics = task.metrics(run.recipe, run.info["facts"])
    assert run.finished and len(epochs_of(run)) == 2
    for title, _ in metrics.columns:
        assert all(math.isfinite(line[f"val/{title}"]) for line in epochs_of(run)), title
    selected = f"test/{metrics.select}"
    assert math.isfinite(run.scores[selected])
    assert run.recipe.task == name and run.info["data"]["examples"].keys() >= {"train", "val", "test"}
    losses = [line["train/loss"] for line in epochs_of(run)]
    assert len(set(losses)) == 2, "Training changes nothing."


@pytest.mark.slow
@every_task
def test_the_seed_decides_everything(name: str, base: Path, tmp_path: Path) -> None:
    run = trained(name, base)
    settings = case(name).all_settings("train.epochs=1")
    made = [
        flambeau.train(
            source(name, base),
            task=name,
            settings=settings,
            seed=seed,
            device="cpu",
            out=tmp_path / str(seed),
            quiet=True,
        )
        for seed in (run.recipe.seed, 5)
    ]
    first = [epochs_of(each)[0]["train/loss"] for each in (run, *made)]
    # A schedule is stretched over the epochs of a run, so one with fewer may leave another way after a step.
    if run.recipe.schedule.name == "constant":
        assert first[0] == first[1]
    assert first[1] != first[2]


@cache
def killed_and_resumed(name: str, base: Path, moment: str) -> flambeau.Run:
    """The same run as ``trained``, stopped by an exception in its second epoch, and carried on from a checkpoint."""
    whole = trained(name, base)
    steps = epochs_of(whole)[0]["step"]
    wanted = steps + max(1, steps // 2) if moment == "step" else 2 * steps
    out = base / "contracts" / name / moment / "run"

    def stop(record: Record, state: State) -> None:
        if record.kind == moment and record.step >= wanted:
            raise StoppedError

    before, checkpoint.INTERVAL_SECONDS = checkpoint.INTERVAL_SECONDS, 0.0
    try:
        with pytest.raises(StoppedError):
            flambeau.train(
                source(name, base),
                task=name,
                settings=case(name).all_settings(),
                device="cpu",
                out=out,
                observers=[stop],
                quiet=True,
            )
    finally:
        checkpoint.INTERVAL_SECONDS = before
    assert list((out / "checkpoints").glob("step-*")), "There is nothing to resume from."
    torch.manual_seed(99)  # whatever another process would have done with its generators
    resumed = flambeau.resume(out, quiet=True)
    assert resumed.info["history"][0]["from_step"] < wanted or moment == "validate"
    return resumed


@pytest.mark.slow
@every_task
def test_a_run_killed_in_an_epoch_ends_in_the_same_bits(name: str, base: Path) -> None:
    assert not differences(killed_and_resumed(name, base, "step").path, fingerprint(trained(name, base).path))


@pytest.mark.slow
@every_task
def test_a_run_killed_while_it_validates_ends_in_the_same_bits(name: str, base: Path) -> None:
    assert not differences(killed_and_resumed(name, base, "validate").path, fingerprint(trained(name, base).path))


@pytest.mark.slow
@every_task
def test_a_process_killed_in_an_epoch_is_carried_on_by_another(name: str, base: Path, tmp_path: Path) -> None:
    """As above, with real processes and a real signal; the one that carries on is started from nothing."""
    config, steps = f"{name}@{source(name, base)}", epochs_of(trained(name, base))[0]["step"]
    whole, killed = trained(name, base).path, tmp_path / "run"
    if torch.get_num_threads() != 1:  # the children have one thread, and other numbers of threads give other bits
        whole = tmp_path / "whole" / "run"
        carry_on(whole, config, fresh=True)
    assert kill(killed, Kill(config, "step", steps + max(1, steps // 2), 0.0)) == -signal.SIGKILL
    carry_on(killed, config, fresh=True)
    assert flambeau.Run(killed).info["history"], "It was not resumed."
    assert not differences(killed, fingerprint(whole))


@every_task
def test_checkpoints_hold_every_optimiser(name: str, base: Path) -> None:
    run, task = trained(name, base), catalog.task(name)
    last = max(run.checkpoints.glob("step-*"))
    held = safetensors.torch.load((last / "optimizer.safetensors").read_bytes())
    for phase in task.phases(run.recipe, run.info["facts"]):
        assert any(key.startswith(f"optimizer.{phase.name}") for key in held), phase.name


@every_task
def test_evaluating_gives_the_scores_of_the_run(name: str, base: Path) -> None:
    run = trained(name, base)
    for split in ("test", "val"):
        scored = flambeau.evaluate(run.path, split=split)
        wanted = {key.partition("/")[2]: value for key, value in run.scores.items() if key.startswith(f"{split}/")}
        assert {key: scored.scores[key] for key in wanted} == pytest.approx(wanted, rel=0, abs=0, nan_ok=True)
        assert scored.examples == len(data_of(run.path).splits[split])
        breakdown = scored.breakdown
        assert json.dumps(breakdown.json) and all(isinstance(cell, str) for row in breakdown.table for cell in row)
        for key, (low, high) in breakdown.intervals.items():
            assert low <= scored.scores[key] <= high, key


@every_task
def test_the_data_itself_can_be_given_to_evaluate(name: str, base: Path) -> None:
    run = trained(name, base)
    scored = flambeau.evaluate(run.path, source(name, base), split="train")
    assert scored.examples > 0 and scored.scores.keys() == flambeau.evaluate(run.path).scores.keys()


@every_task
def test_kept_outputs_stand_beside_their_rows(name: str, base: Path) -> None:
    """Evaluation may meet rows by length; what it keeps is in the order of the split all the same."""
    run, task = trained(name, base), catalog.task(name)
    if not task.keep:
        pytest.skip(f"{name} keeps nothing")
    kept = flambeau.evaluate(run.path).evaluation.outputs
    split, network = data_of(run.path).splits["test"], load(run).network
    assert kept.keys() <= set(task.keep)
    for row, batch in enumerate(batches(split, task.collate, 1)):
        if row % 5:
            continue
        with torch.inference_mode():
            alone = {**batch, **task.predict(network, batch)}
        for key, tensor in kept.items():
            assert close_rows(tensor[row : row + 1], alone[key]), (key, row)
    for key, tensor in kept.items():
        assert len(tensor) == len(split)
        if key in split.columns and isinstance(split[key], torch.Tensor):
            assert as_rows(tensor) == as_rows(split[key])


@every_task
def test_an_answer_does_not_depend_on_what_else_is_asked(name: str, base: Path) -> None:
    task, model = catalog.task(name), load(trained(name, base))
    asked = inputs(task, case(name), base)
    together = model.predict(asked)
    assert len(together) == len(asked) >= 2
    assert json.loads(json.dumps(together, allow_nan=False)) == together
    for one, answer in zip(asked, together, strict=True):
        assert close(model.predict([one])[0], answer)
        assert close(model.predict(one), answer)
        line, cells = task.view.line(answer, 2), task.view.cells(answer, 2)
        assert line and "\n" not in line.rstrip()
        assert cells and all(isinstance(text, str) for item in cells.items() for text in item)


@every_task
def test_a_model_saved_again_predicts_the_same(name: str, base: Path, tmp_path: Path) -> None:
    model = load(trained(name, base))
    again = load(model.save(tmp_path / "copy.safetensors"))
    assert isinstance(again, Model) and again.facts == model.facts and again.scores == model.scores
    asked = inputs(model.task, case(name), base)
    assert again.predict(asked) == model.predict(asked)
    assert json.dumps(again.summary()) and repr(again).startswith("Model(")


@every_task
def test_commands_about_a_run(name: str, base: Path, call: Command) -> None:
    run, found = trained(name, base), case(name)
    asked = found.asks(source(name, base))
    predicted = call("predict", run.path, *asked, "--json")
    assert predicted.code == 0 and len(predicted.json["predictions"]) == len(asked), predicted.err
    for form in ("table", "csv"):
        printed = call("predict", run.path, *asked, "--format", form)
        assert printed.code == 0 and len(printed.out.strip().splitlines()) >= len(asked), printed.err
    inspected = call("inspect", run.path, "--json")
    assert inspected.code == 0 and inspected.json["kind"] == "run" and inspected.json["layers"], inspected.err
    assert call("inspect", run.path).code == 0
    model = call("inspect", run.path / "model.safetensors", "--json")
    assert model.code == 0 and model.json["task"] == name, model.err
    evaluated = call("evaluate", run.path, "--json")
    assert evaluated.code == 0 and evaluated.json["split"] == "test", evaluated.err


@every_task
def test_commands_about_data_and_networks(name: str, base: Path, call: Command) -> None:
    data = source(name, base)
    data_facts = call("inspect", data, "--task", name, "--json")
    assert data_facts.code == 0 and data_facts.json["task"] == name, data_facts.err
    printed = call("inspect", data, "--task", name)
    assert printed.code == 0 and "train" in printed.out, printed.err
    network = trained(name, base).recipe.model.name
    layers = call("inspect", network, "--task", name, "--json")
    assert layers.code == 0 and layers.json["layers"] and layers.json["parameters"] > 0, layers.err


@pytest.mark.slow
@every_task
def test_two_runs_are_compared(name: str, base: Path, call: Command) -> None:
    one, other = trained(name, base), killed_and_resumed(name, base, "step")
    compared = call("compare", one.path, other.path, "--json")
    assert compared.code == 0 and compared.json["differences"] == {}, compared.err
    assert [run["scores"] for run in compared.json["runs"]] == [one.scores, other.scores]
    select = catalog.task(name).metrics(one.recipe, one.info["facts"]).select
    assert compared.json["best"][f"test/{select}"] == [0, 1]
    assert call("compare", one.path, other.path).code == 0


class Page(HTMLParser):
    """What a report is made of: its text, and whether its tags are closed."""

    void = frozenset(
        (
            "meta",
            "link",
            "br",
            "img",
            "hr",
            "input",
            "col",
            "path",
            "rect",
            "line",
            "circle",
            "polyline",
            "polygon",
            "use",
        )
    )

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asked += [value for key, value in attrs if key in ("src", "href") and value and "://" in value]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.void:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@every_task
def test_the_report_is_one_whole_page(name: str, base: Path) -> None:
    run, task = trained(name, base), catalog.task(name)
    text = run.report.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    page.close()
    assert not page.wrong and not page.open, (page.wrong[:3], page.open[:3])
    assert not [address for address in page.asked if not address.startswith("https://")]
    assert 'class="card' in text and text.count("<section") >= 3
    words = " ".join(" ".join(page.text).split())
    assert task.name in words or run.recipe.model.name in words
    assert " nan" not in words.casefold() and "None" not in words


@every_task
def test_new_examples_follow_from_the_seed(name: str, base: Path, call: Command, tmp_path: Path) -> None:
    run, task = trained(name, base), catalog.task(name)
    if task.sample is None:
        with pytest.raises(UsageError, match="makes no new examples"):
            flambeau.sample(run.path)
        assert call("sample", run.path).code == 2
        return
    model = load(run)
    before = torch.get_rng_state()
    made = [
        [item.png if isinstance(item, Shown) else item for item in flambeau.sample(model, n=3, length=20, seed=seed)]
        for seed in (4, 4, 5)
    ]
    assert made[0] and made[0] == made[1] != made[2]
    assert torch.equal(torch.get_rng_state(), before), "It draws from the global generator."
    printed = call("sample", run.path, "--n", 2, "--length", 10, "--json")
    assert printed.code == 0 and (printed.json["samples"] or printed.json["pictures"]), printed.err


@every_task
def test_snapshots_are_of_every_epoch(name: str, base: Path) -> None:
    run = trained(name, base)
    made = sorted(path.name for path in (run.path / "snapshots").glob("*.png"))
    assert made == ([] if catalog.task(name).snapshot is None else [f"epoch-{n:03}.png" for n in (1, 2)])


@every_task
def test_a_baseline_is_scored_by_the_same_names(name: str, base: Path) -> None:
    run, task = trained(name, base), catalog.task(name)
    reached = {key.partition("/")[2] for key in run.scores if key.startswith("baseline/")}
    assert bool(reached) == (task.baseline is not None)
    select = task.metrics(run.recipe, run.info["facts"]).select
    assert not reached or select in reached
    assert all(f"test/{key}" in run.scores for key in reached)
