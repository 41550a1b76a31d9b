"""What is measured before the first step: the search for a learning rate, and how much fits into the time."""

from __future__ import annotations

import itertools
import random
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
from flambeau.errors import RecipeError, TrainingError
from flambeau.run import Run
from flambeau.workflow.planning import resolve

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


def test_the_search_puts_the_generators_back(tmp_path: Path) -> None:
    from flambeau.workflow.job import assemble
    from flambeau.workflow.measuring import with_rate
    from flambeau.workflow.telling import Teller
    from flambeau.workflow.training import rules_of

    recipe = resolve("digits", None, model="mlp", device="cpu", settings=[*QUICK, "optimizer.lr=auto"])
    job = assemble(recipe, None, None, Teller(None, recipe))
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    found = with_rate(job, rules_of(recipe))
    assert found.recipe.optimizer.lr != "auto" and job.recipe.optimizer.lr == "auto"
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


def test_a_task_of_two_losses_is_refused_before_data_is_read() -> None:
    with pytest.raises(RecipeError, match="auto is for one loss, and gan has discriminator and generator"):
        resolve("nowhere", None, task="gan", settings=["optimizer.lr=auto"])
    with pytest.raises(RecipeError, match=r"optimizer\.lr: expected 'auto' or a number, received 'fast'"):
        resolve("nowhere", None, settings=["optimizer.lr=fast"])
