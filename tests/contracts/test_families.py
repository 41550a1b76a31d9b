"""Every network of every family trains on the data of every task that can have it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from conduct import close, inputs, source
from small_data import ARGUMENTS, PREPARED, case, small, swept

import flambeau
from flambeau import catalog
from flambeau.model import load
from flambeau.recipe import parse, with_settings

NETWORKS = [(name, network) for name in catalog.task_names() for network in swept(name)]

AS_CLASSES = {"image-multilabel": "mlp", "image-regression": "mlp"}
"""Tasks that give a network the pictures that image-classification does, for another target: one network is enough."""

TRAINED = [(name, network) for name, network in NETWORKS if AS_CLASSES.get(name, network) == network]

OTHER_SHAPE = {
    ("sound-classification", "lenet"): "for pictures of 28x28",
    ("sound-classification", "tutorial-cifar10"): "for pictures of 3x32x32",
}
"""Networks that cannot take what a task reads, whatever the settings."""


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all contract tests keep what they share."""
    return tmp_path_factory.getbasetemp()


def settings_of(name: str, network: str, folder: Path) -> list[str]:
    """The settings of a case with another network: what was said of the first one's arguments would be wrong."""
    own = [setting for setting in case(name).all_settings() if not setting.startswith("model.")]
    tables = catalog.task(name).parts
    fitting = [s for s in small(catalog.task(name), network) if s.split(".")[0] in ("model", "options", *tables)]
    own += [*fitting, "train.epochs=1"]
    return own + list(PREPARED[network](folder) if network in PREPARED else ())


def test_every_family_has_a_task_and_every_network_a_place() -> None:
    families = catalog.families()
    assert set(catalog.MODELS) == set(families)
    assert {name.rpartition("/")[2] for name in ARGUMENTS} <= {network for _, network in NETWORKS}
    assert set(OTHER_SHAPE) <= set(NETWORKS) and set(PREPARED) <= {network for _, network in NETWORKS}


@pytest.mark.parametrize(("name", "network"), NETWORKS)
def test_its_arguments_are_checked_before_any_data_is_read(name: str, network: str) -> None:
    wrong = {**catalog.tables(catalog.task(name)), "task": name, "model": {"name": network, "no_such_argument": 1}}
    assert any("no_such_argument" in mistake for mistake in catalog.check_names(wrong))
    known = catalog.arguments(catalog.network(network, catalog.task(name)))
    given = with_settings({}, small(catalog.task(name), network)).get("model", {})
    assert set(given) <= set(known)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "network"), TRAINED)
def test_every_network_trains_and_predicts(name: str, network: str, base: Path, tmp_path: Path) -> None:
    if (name, network) in OTHER_SHAPE:
        pytest.skip(f"{network} is {OTHER_SHAPE[name, network]} only")
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    run = flambeau.train(
        source(name, base),
        task=name,
        model=network,
        settings=settings_of(name, network, checkpoint),
        device="cpu",
        out=tmp_path / "run",
        quiet=True,
    )
    task = catalog.task(name)
    select = task.metrics(run.recipe, run.info["facts"]).select
    assert run.finished and run.recipe.model.name == network and math.isfinite(run.scores[f"test/{select}"])
    for path in sorted(checkpoint.glob("*")):
        path.unlink()  # a saved model needs nothing but its file
    model = load(run)
    asked = inputs(task, case(name), base)
    assert close(model.predict(asked)[0], model.predict(asked[0]))
    assert parse(run.recipe.to_dict(), checks=catalog.CHECKS if network not in PREPARED else ()) == run.recipe
