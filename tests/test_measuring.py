"""What is measured before the first step: the search for a learning rate, and how much fits into the time."""

from __future__ import annotations

import itertools
import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_toys import PLAIN, batch, classification, equal, network, state_of, stream, weights_of
from torch import nn

import flambeau
from flambeau.core import Record, State
from flambeau.engine.search import HIGHEST, LOWEST, STEPS, choose, search
from flambeau.errors import RecipeError, TrainingError, UsageError
from flambeau.run import Run
from flambeau.workflow.job import Job, assemble
from flambeau.workflow.measuring import with_epochs, with_rate
from flambeau.workflow.planning import resolve
from flambeau.workflow.telling import Teller
from flambeau.workflow.training import rules_of

QUICK = ["log.tensorboard=false", "model.widths=[32]", "train.batch_size=32"]


def train(out: Path, *settings: str, **more: Any) -> Run:
    given: dict[str, Any] = {"model": "mlp", "epochs": 2, "device": "cpu", "quiet": True, **more}
    return flambeau.train("digits", settings=[*QUICK, *settings], out=out, **given)


def learnable(count: int) -> list[dict[str, torch.Tensor]]:
    """Batches whose labels follow from the inputs."""
    made = [batch(32, seed=number) for number in range(count)]
    return [{**data, "label": data["x"][:, :3].argmax(1)} for data in made]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_rates_grow_evenly_until_the_loss_does(name: str) -> None:
    state = state_of(network(), classification(name=name, lr=1.0))
    found = search(state, stream(learnable(7)), PLAIN)
    rates = [rate for rate, _, _ in found.points]
    assert rates[0] == LOWEST and rates[-1] <= HIGHEST * 1.001 and len(rates) <= STEPS
    ratios = [later / earlier for earlier, later in itertools.pairwise(rates)]
    assert max(ratios) - min(ratios) < 1e-9
    lowest = min(found.points, key=lambda point: point[2])[0]
    assert found.rate == pytest.approx(lowest / 5, rel=0.05) and LOWEST < found.rate < 5
    # Trained with it, the loss falls well below where it began.
    fresh = state_of(network(), classification(name=name, lr=found.rate))
    from flambeau.engine.update import update

    losses = [float(update(fresh, data, PLAIN).losses["loss"]) for data in 10 * learnable(7)]
    assert losses[-1] < 0.6 * losses[0]


def test_a_loss_that_never_falls_gives_no_rate() -> None:
    with pytest.raises(TrainingError, match="did not fall at any") as caught:
        choose([(10.0**-n, 2.3, 2.3) for n in range(6)])
    assert caught.value.where == "optimizer.lr"
    with pytest.raises(TrainingError, match="did not fall at any"):
        choose([])


def test_the_number_found_is_the_recipes_before_the_first_step(tmp_path: Path) -> None:
    """A run that is killed at its first step goes on with the same rate, and the search changes nothing else."""

    class StoppedError(Exception):
        pass

    def stop(record: Record, state: State) -> None:
        if record.kind == "step":
            raise StoppedError

    with pytest.raises(StoppedError):
        train(tmp_path / "a" / "run", "optimizer.lr=auto", "model.dropout=0.2", observers=[stop])
    begun = Run(tmp_path / "a" / "run")
    rate = begun.recipe.optimizer.lr
    assert isinstance(rate, float) and begun.info["found"]["search"]["rate"] == rate
    resumed = flambeau.resume(begun.path, quiet=True)
    by_hand = train(tmp_path / "b" / "run", f"optimizer.lr={rate}", "model.dropout=0.2")
    assert (resumed.path / "metrics.jsonl").read_bytes() == (by_hand.path / "metrics.jsonl").read_bytes()
    assert equal(weights_of(resumed.model.network), weights_of(by_hand.model.network))
    assert "Search for a learning rate" in resumed.report.read_text()
    assert "Search for a learning rate" not in by_hand.report.read_text()


@pytest.mark.slow
def test_a_network_of_the_users_own_is_left_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    before = weights_of(net)
    began: list[dict[str, torch.Tensor]] = []

    def first(record: Record, state: State) -> None:
        if record.kind == "epoch-start":
            began.append(weights_of(net))

    flambeau.train(
        "digits", model=net, settings=["optimizer.lr=auto"], epochs=1, out=tmp_path / "run", quiet=True, device="cpu",
        observers=[first],
    )  # fmt: skip
    assert equal(began[0], before)


def job_of(*settings: str) -> Job:
    recipe = resolve("digits", None, model="mlp", device="cpu", settings=[*QUICK, *settings])
    return assemble(recipe, None, None, Teller(None, recipe))


PLANNED = [("constant", "cosine"), ("step", "cosine"), ("one-cycle", "one-cycle")]


@pytest.mark.parametrize(("schedule", "planned"), PLANNED)
def test_the_minutes_become_epochs_of_a_schedule_that_ends_at_zero(schedule: str, planned: str) -> None:
    job = job_of("train.minutes=30", f"schedule.name={schedule}", "schedule.warmup=2")
    now = time.monotonic()
    whole = with_epochs(job, rules_of(job.recipe), now)
    plan, recipe = whole.found["plan"], whole.recipe
    assert recipe.train.minutes is None and recipe.train.epochs == plan["epochs"] and recipe.schedule.name == planned
    assert 0 < plan["epoch"] < 20 and recipe.schedule.warmup == 2
    # Whatever the pace of this machine: epochs and the rest fill what was allowed, and not more.
    assert plan["epochs"] * plan["epoch"] < 0.95 * 1800 < (plan["epochs"] + 2) * plan["epoch"] + plan["end"] + 60
    assert with_epochs(whole, rules_of(recipe), now) is whole, "there is nothing left to plan"


def test_time_that_is_too_short_says_what_would_do() -> None:
    job = job_of("train.minutes=0.001")
    with pytest.raises(UsageError, match="Not even one epoch fits into") as caught:
        with_epochs(job, rules_of(job.recipe), time.monotonic())
    assert caught.value.expected is not None
    told = r"at least ([\d.]+): an epoch takes about [\d.]+ s, all the rest [\d.]+ s"
    found = re.fullmatch(told, caught.value.expected)
    assert found is not None
    enough = job_of(f"train.minutes={5 * float(found[1])}")
    assert with_epochs(enough, rules_of(enough.recipe), time.monotonic()).recipe.train.epochs >= 1


def test_epochs_and_minutes_do_not_go_together_and_the_stronger_wins() -> None:
    for asked in ({"epochs": 3}, {"settings": ["train.epochs=3", "train.minutes=2"]}):
        settings = ["train.minutes=2", *asked.pop("settings", [])]  # type: ignore[attr-defined]
        with pytest.raises(RecipeError, match="decides how many epochs there are, and 3 were asked for"):
            resolve("digits", None, settings=settings, **asked)  # type: ignore[arg-type]
    timed = {"train": {"minutes": 5}}
    assert resolve("digits", timed).train.minutes == 5
    assert resolve("digits", timed, epochs=4).train.minutes is None
    assert resolve("digits", timed, settings=["train.minutes=7"]).train.minutes == 7


def test_the_search_puts_the_generators_back() -> None:
    job = job_of("optimizer.lr=auto")
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    found = with_rate(job, rules_of(job.recipe))
    assert found.recipe.optimizer.lr != "auto" and job.recipe.optimizer.lr == "auto"
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


def test_a_task_of_two_losses_is_refused_before_data_is_read() -> None:
    with pytest.raises(RecipeError, match="auto is for one loss, and gan has discriminator and generator"):
        resolve("nowhere", None, task="gan", settings=["optimizer.lr=auto"])
    with pytest.raises(RecipeError, match=r"optimizer\.lr: expected 'auto' or a number, received 'fast'"):
        resolve("nowhere", None, settings=["optimizer.lr=fast"])
