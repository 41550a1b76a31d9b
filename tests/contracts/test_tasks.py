"""What holds for the record of every task, whatever the task is; a new one needs an entry in ``small_data.py`` only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conduct import as_rows, close_rows, prepared, raw, recipe_of, same_rows, some_rows, source
from small_data import CASES, PREPARED, case, small, swept
from torch import Tensor, nn

from flambeau import catalog
from flambeau.columns import Column, Ragged, Split
from flambeau.core import Batch, Draw
from flambeau.data.loader import batches, stream
from flambeau.datasets import task_of
from flambeau.engine.update import micro_batches
from flambeau.errors import ModelError
from flambeau.recipe import OPTIONAL, Part, parse, with_settings
from flambeau.task import Shown, Task
from flambeau.workflow.job import seed_everything

TASKS = catalog.task_names()

every_task = pytest.mark.parametrize("name", TASKS)


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all contract tests keep what they share."""
    return tmp_path_factory.getbasetemp()


def built(name: str, base: Path) -> nn.Module:
    """A fresh model of the case, as training begins with, but in evaluation mode."""
    task, recipe = catalog.task(name), recipe_of(name, base)
    facts, dataset = prepared(name, base)
    seed_everything(recipe.seed)
    model = task.build(recipe, facts, catalog.builder(recipe.model.name, task))
    task.ready(model, dataset)
    return model.eval()


def first_batch(name: str, base: Path, split: str = "test", size: int = 6) -> Batch:
    """A batch as evaluation meets it."""
    task, (_, dataset) = catalog.task(name), prepared(name, base)
    lengths = task.lengths(dataset.splits[split]) if task.lengths else None
    return next(batches(dataset.splits[split], task.collate, size, lengths=lengths))


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch."""
    return {name: tensor[rows] for name, tensor in batch.items()}


def as_json(value: Any) -> Any:
    """A value after it has been written and read; fails when it is no JSON."""
    return json.loads(json.dumps(value, allow_nan=False))


@every_task
def test_there_is_data_to_try_it_on(name: str) -> None:
    assert case(name).settings


def test_no_data_is_left_of_a_task_that_is_gone() -> None:
    assert set(CASES) <= set(TASKS)


def test_a_task_without_data_is_told_where_to_add_some() -> None:
    with pytest.raises(
        pytest.fail.Exception, match=r"'regression': write a function .* tests/contracts/small_data\.py"
    ):
        case("regression")


@every_task
def test_the_record_says_what_people_need(name: str) -> None:
    task = catalog.task(name)
    assert task.name == name
    assert task.about.endswith(".") and task.about[0].isupper() and "\n" not in task.about
    assert task.intake.forms and not task.intake.forms.endswith(".")
    assert task.view.asks and task.view.asks.split()[0].removesuffix("...").isupper()
    assert catalog.networks(task), f"The family {task.family!r} has no network."
    assert set(task.parts) <= set(OPTIONAL) - {"options"}
    assert task.options is None or issubclass(task.options, Part)


@every_task
def test_its_own_recipe_is_for_it(name: str) -> None:
    task = catalog.task(name)
    recipe = parse({**catalog.tables(task), "task": name}, checks=catalog.CHECKS)
    assert recipe.data.source is None, "The recipe for any data must not name one."
    assert recipe.model.name in catalog.networks(task)
    assert task.checks(recipe) == []


@every_task
def test_a_setting_that_it_does_not_have_is_a_mistake(name: str) -> None:
    task = catalog.task(name)
    unused = [part for part in OPTIONAL[:-1] if part not in task.parts]
    first = {"images": {"max_aspect": 3.0}, "augment": {"shift": 2}, "text": {"lower": True}, "audio": {"mels": 32}}
    tables = {**catalog.tables(task), "task": name}
    for part in unused:
        assert any(part in mistake for mistake in catalog.check_names({**tables, part: first[part]})), part
    options = {**tables.get("options", {}), "no_such_option": 1}
    assert any("no_such_option" in mistake for mistake in catalog.check_names({**tables, "options": options}))


def model_arguments(task: Task, network: str) -> dict[str, Any]:
    """The arguments of a network among its small settings."""
    model: dict[str, Any] = with_settings({}, small(task, network)).get("model", {})
    return model


ONE_SHAPE = ("sequential", "tutorial-cifar10")
"""Networks for inputs of one size, or with a number of classes written in: they may refuse the small problem."""

NETWORKS = [(name, network) for name in TASKS for network in swept(name)]


@pytest.mark.parametrize(("name", "network"), NETWORKS)
def test_a_small_problem_is_enough_to_build_and_to_trace(name: str, network: str) -> None:
    task = catalog.task(name)
    builder, given = catalog.network(network, task), model_arguments(task, network)
    if network in PREPARED:
        pytest.skip(f"{network} is built from a checkpoint; test_families.py does")
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in builder(task.toy, **given).state_dict().items()}
    recipe = parse({**catalog.tables(task), "task": name, "model": {"name": network, **given}})
    try:
        model = task.build(recipe, task.toy, builder).eval()
    except ModelError:
        assert network in ONE_SHAPE
        return
    here = {key: tensor.shape for key, tensor in builder(task.toy, **given).state_dict().items()}
    assert here == shapes
    with torch.inference_mode():
        batch = task.example(task.toy)
        outputs = task.predict(model, {**batch, "row": torch.arange(len(next(iter(batch.values()))))})
        assert_rows(outputs, 1)
        assert task.trace is None or task.trace(model, batch) is not None


def assert_rows(outputs: Any, count: int) -> None:
    """That a task predicted tensors with the batch's rows in front."""
    assert outputs and isinstance(outputs, dict)
    for key, tensor in outputs.items():
        assert isinstance(tensor, Tensor), f"{key} is no tensor"
        assert len(tensor) == count, f"{key} has {len(tensor)} rows for a batch of {count}"


@every_task
def test_data_is_claimed_by_its_task(name: str, base: Path) -> None:
    path = source(name, base)
    if case(name).claimed:
        assert task_of(str(path)) == name
    else:
        assert task_of(str(path)) in TASKS
    assert not catalog.task(name).intake.claims(base / "nothing-is-here")


@every_task
def test_data_is_described_in_json(name: str, base: Path) -> None:
    task, dataset = catalog.task(name), raw(name, base)
    found = task.intake.describe(dataset)
    assert as_json(found) == found
    assert found["name"] == dataset.name and found["hash"] == dataset.hash
    assert {"train", "test"} <= found["rows"].keys() and isinstance(found["notes"], list)
    told = task.view.about({"task": name, **found})
    assert all(isinstance(label, str) and isinstance(text, str) for label, text in told.items())
    assert ("classes" in found) == ("counts" in found)
    samples = task.view.samples(dataset, 3)
    assert samples and all(isinstance(sample, str | Shown) for sample in samples)


@every_task
def test_facts_are_json_and_the_same_every_time(name: str, base: Path) -> None:
    task, dataset, recipe = catalog.task(name), raw(name, base), recipe_of(name, base)
    first, again = (task.facts(dataset.splits["train"], dataset.info, recipe) for _ in range(2))
    assert as_json(first) == as_json(again) == first
    measured, _ = prepared(name, base)
    assert as_json(measured) == measured
    train = prepared(name, base)[1].splits["train"]
    assert as_json(task.measure(train, first, recipe)) == measured
    unknown = set(task.view.private) - measured.keys()
    # A fact that only some data has may be private too, such as what a pretrained encoder says of itself.
    assert not unknown or len(unknown) < len(task.view.private)


@every_task
def test_a_split_is_read_the_same_twice(name: str, base: Path) -> None:
    """A resume reads anew, and its batches must be those of before."""
    _, first = prepared(name, base)
    prepared.cache_clear()
    _, again = prepared(name, base)
    assert first.splits.keys() == again.splits.keys() and first.hash == again.hash
    for title, split in first.splits.items():
        for column in split.columns:
            assert as_rows(split[column]) == as_rows(again.splits[title][column]), (title, column)


@every_task
def test_many_rows_are_read_as_each_alone(name: str, base: Path) -> None:
    """``read`` and ``collate`` work row by row: bit for bit, but for the padding to a batch's widest row."""
    task, (facts, _) = catalog.task(name), prepared(name, base)
    some = some_rows(raw(name, base).splits["train"], 5)
    together = Split(task.read(some.columns, facts))
    batch = task.collate(together.columns)
    assert all(isinstance(tensor, Tensor) for tensor in batch.values())
    for row in range(len(some)):
        alone = Split(task.read(some.slice(row, row + 1).columns, facts))
        assert alone.columns.keys() == together.columns.keys()
        for column in together.columns:
            assert same_column(together[column][row : row + 1], alone[column]), (column, row)
        for key, tensor in task.collate(alone.columns).items():
            assert same_rows(batch[key][row : row + 1], tensor), (key, row)


def same_column(one: Column, other: Column) -> bool:
    """Whether two columns hold the same."""
    if isinstance(one, Ragged) and isinstance(other, Ragged):
        return torch.equal(one.values, other.values) and torch.equal(one.offsets, other.offsets)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and same_rows(one, other)
    return one == other


@every_task
def test_what_is_drawn_depends_on_seed_epoch_and_row_alone(name: str, base: Path) -> None:
    task, recipe, (facts, dataset) = catalog.task(name), recipe_of(name, base), prepared(name, base)
    transform = task.transform(recipe, facts)
    if transform is None:
        pytest.skip(f"{name} draws nothing with its data")
    plain = next(iter(stream(dataset.splits["train"], task.collate, batch_size=4, shuffle=False).epoch(0, 0)))
    before = torch.get_rng_state()
    whole = transform(plain, Draw(3, 1, plain["row"]))
    assert torch.equal(torch.get_rng_state(), before), "It draws from the global generator."
    again = transform(plain, Draw(3, 1, plain["row"]))
    assert all(same_rows(whole[key], again[key]) for key in whole)
    others = [transform(plain, Draw(seed, epoch, plain["row"])) for seed, epoch in ((3, 2), (4, 1))]
    for other in others:
        assert any(not same_rows(whole[key], other[key]) for key in whole), "Seeds and epochs make no difference."
    alone = rows_of(plain, slice(2, 3))
    found = transform(alone, Draw(3, 1, alone["row"]))
    for key in whole:
        assert same_rows(whole[key][2:3], found[key]), f"{key} depends on the rows beside it"


@every_task
def test_lengths_are_one_a_row(name: str, base: Path) -> None:
    task, (_, dataset) = catalog.task(name), prepared(name, base)
    if task.lengths is None:
        ragged = [c for c in dataset.splits["train"].columns.values() if isinstance(c, Ragged)]
        assert not ragged, "Rows of different lengths, and no `lengths`: batches would be half padding."
        return
    lengths = task.lengths(dataset.splits["train"])
    assert lengths.dtype == torch.int64 and lengths.shape == (len(dataset.splits["train"]),)
    assert int(lengths.min()) > 0


@every_task
@pytest.mark.parametrize("how", ["predict", "glance"])
def test_outputs_of_a_batch_are_those_of_its_rows(name: str, how: str, base: Path) -> None:
    task, model = catalog.task(name), built(name, base)
    predict = getattr(task, how)
    if predict is None:
        pytest.skip(f"{name} has no {how}")
    batch = first_batch(name, base)
    before = torch.get_rng_state()
    with torch.inference_mode():
        outputs = predict(model, batch)
        assert_rows(outputs, len(batch["row"]))
        for row in range(len(batch["row"])):
            for key, tensor in predict(model, rows_of(batch, slice(row, row + 1))).items():
                assert close_rows(outputs[key][row : row + 1], tensor), (key, row)
    assert torch.equal(torch.get_rng_state(), before), "It draws from the global generator."
    # A distribution over the classes is kept where rows have one.
    assert set(task.keep) - {"target"} <= outputs.keys() | batch.keys() or how == "glance"


@every_task
def test_scores_add_up_over_batches(name: str, base: Path) -> None:
    task, recipe, model = catalog.task(name), recipe_of(name, base), built(name, base)
    facts, _ = prepared(name, base)
    metrics, batch = task.metrics(recipe, facts), first_batch(name, base, size=10**6)
    halves = [rows_of(batch, slice(0, 3)), rows_of(batch, slice(3, None))]
    with torch.inference_mode():
        found = []
        for parts in ([batch], halves, halves[::-1]):
            sums = metrics.start(torch.device("cpu"))
            for part in parts:
                metrics.add(sums, task.predict(model, part), part)
            found.append(metrics.result(sums))
    assert metrics.select in found[0] and {title for title, _ in metrics.columns} <= found[0].keys()
    for other in found[1:]:
        for key in found[0].keys() - {"loss_mean_of_batches"}:  # the tutorials', which says itself that it depends
            assert other[key] == pytest.approx(found[0][key], rel=1e-3, abs=1e-5, nan_ok=True), key


@every_task
def test_the_loss_of_a_batch_is_the_sum_over_its_parts(name: str, base: Path) -> None:
    """By that a batch can be cut into micro-batches of any size (``train.accumulate``)."""
    task, recipe, model = catalog.task(name), recipe_of(name, base), built(name, base)
    batch = train_batch(task, name, base)
    for phase in task.phases(recipe, prepared(name, base)[0]):
        whole, parts = phase.loss(model, batch), micro_batches(batch, 3)
        assert whole.total.dim() == 0 and phase.count(batch) > 0
        if not whole.additive:
            continue
        assert sum(phase.count(part) for part in parts) == pytest.approx(phase.count(batch))
        found = sum(float(phase.loss(model, part).total.detach()) for part in parts)
        assert found == pytest.approx(float(whole.total.detach()), rel=1e-4)


@every_task
def test_every_parameter_is_trained_by_a_phase_and_every_phase_trains(name: str, base: Path) -> None:
    task, recipe, model = catalog.task(name), recipe_of(name, base), built(name, base).train()
    batch = train_batch(task, name, base)
    phases = task.phases(recipe, prepared(name, base)[0])
    assert len({phase.name for phase in phases}) == len(phases)
    trainable = {title for title, parameter in model.named_parameters() if parameter.requires_grad}
    chosen = [{title for title in trainable if phase.trains(title)} for phase in phases]
    assert set().union(*chosen) == trainable and sum(map(len, chosen)) == len(trainable)
    for phase, titles in zip(phases, chosen, strict=True):
        model.zero_grad(set_to_none=True)
        phase.loss(model, batch).total.backward()  # type: ignore[no-untyped-call]
        reached = {title for title, parameter in model.named_parameters() if parameter.grad is not None}
        assert titles <= reached, f"{phase.name} does not reach {sorted(titles - reached)[:3]}"


def train_batch(task: Task, name: str, base: Path) -> Batch:
    """A batch as training meets it: with whatever is drawn."""
    recipe, (facts, dataset) = recipe_of(name, base), prepared(name, base)
    train = dataset.splits["train"]
    lengths = task.lengths(train) if task.lengths else None
    made = stream(train, task.collate, batch_size=12, lengths=lengths, transform=task.transform(recipe, facts))
    return next(iter(made.epoch(0, 0)))
