"""A run with everything in memory that it takes to train it."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from flambeau import catalog
from flambeau.columns import Dataset
from flambeau.core import Batch, Builder, Facts, Metrics, State, Stream
from flambeau.data.loader import batches, stream
from flambeau.data.prepare import prepare
from flambeau.datasets import opened
from flambeau.engine import device as devices
from flambeau.engine.compiling import compile_in_place, require_compiler
from flambeau.engine.precision import choose as choose_precision
from flambeau.engine.precision import scaler_for
from flambeau.errors import UsageError
from flambeau.model import load_file
from flambeau.models.frozen import Frozen, head_of, plain_weights, transfer
from flambeau.models.initialize import initialize
from flambeau.models.published import published
from flambeau.recipe import Recipe
from flambeau.task import Task
from flambeau.userfile import in_file, load_object
from flambeau.workflow.starting import started
from flambeau.workflow.telling import Teller

BATCH_SIZES = ((1_000, 8), (10_000, 32))
"""Below so many training examples, this batch size."""

LARGEST_BATCH = 64


@dataclass(frozen=True, slots=True)
class Job:
    """What training a run needs.

    Attributes:
        recipe: What was asked for.
        task: What is learnt.
        facts: What the task learnt from the training split.
        dataset: Splits as the task reads them.
        device: Where it trains.
        builder: Makes the network.
        source: The source text of the user's own network class.
        seconds: Time spent so far, by purpose.
        teller: Says what goes on.
        found: What was found out by measurement before the first step, as JSON values.
    """

    recipe: Recipe
    task: Task
    facts: Facts
    dataset: Dataset
    device: torch.device
    builder: Builder
    source: str | None
    seconds: dict[str, float]
    teller: Teller
    found: Mapping[str, Any] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        """Training examples in a batch."""
        return int(self.recipe.train.batch_size)

    def metrics(self) -> Metrics:
        """What the task is scored by."""
        return self.task.metrics(self.recipe, self.facts)

    def stream(self) -> Stream:
        """The training batches."""
        return stream(
            self.dataset.splits["train"],
            self.task.collate,
            batch_size=self.batch_size,
            seed=self.recipe.seed,
            shuffle=self.recipe.data.shuffle,
            lengths=self._lengths("train"),
            transform=self.task.transform(self.recipe, self.facts),
            device=self.device,
        )

    def batches(self, split: str) -> Iterator[Batch]:
        """All rows of a split, each once."""
        size = self.recipe.train.eval_batch_size
        return batches(
            self.dataset.splits[split], self.task.collate, size, device=self.device, lengths=self._lengths(split)
        )

    def _lengths(self, split: str) -> Tensor | None:
        return self.task.lengths(self.dataset.splits[split]) if self.task.lengths else None

    def new_state(self) -> State:
        """The state before the first step: seeded, on the device."""
        model = self.fresh_model()
        if self.recipe.train.compile:
            compile_in_place(model, ragged=self.task.lengths is not None)
        return self.state_of(model)

    def fresh_model(self) -> nn.Module:
        """The network with its first weights, on the device; seeds the global generators."""
        seed_everything(self.recipe.seed)
        model = self.task.build(self.recipe, self.facts, self.builder)
        if self.recipe.initial.name != "default":
            initialize(model, self.recipe.initial.name, self.recipe.initial.std)
        self.task.ready(model, self.dataset)
        known = published(self.builder)
        if known is not None:
            network = cast(nn.Module, getattr(model, "network", model))
            known.begin(network, self.facts, self.recipe.model.arguments())
        if self.recipe.initial.model is not None:
            go_on_from(Path(self.recipe.initial.model), model, self.facts, self.recipe.model.name)
        return model.to(self.device)

    def state_of(self, model: nn.Module) -> State:
        """The state before the first step of a model."""
        phases = self.task.phases(self.recipe, self.facts)
        optimizers = {
            phase.name: phase.optimizer(
                [(n, p) for n, p in model.named_parameters() if phase.trains(n) and p.requires_grad]
            )
            for phase in phases
        }
        decay = self.recipe.train.ema
        ema = None if decay is None else {name: value.clone() for name, value in model.state_dict().items()}
        scaler = scaler_for(self.recipe.train.precision, self.device)
        return State(model, phases, optimizers, ema, scaler=scaler)

    def condensed(self, model: nn.Module) -> Job:
        """The job as the loop needs it: what never changes in training is computed beforehand, and not augmented."""
        splits = self.dataset.splits
        wanted = {name: splits[name] for name in ("train", "val") if name in splits}
        with self.timed("setup"), self.teller.busy("computing features"):
            made = {name: self.task.condense(model, split) for name, split in wanted.items()}
        if all(made[name] is split for name, split in wanted.items()):
            if any(isinstance(module, Frozen) for module in model.modules()):
                self.teller.notes(["what frozen layers make of an example is computed anew in every epoch"])
            return self
        rows = sum(map(len, wanted.values()))
        self.teller.notes([f"features of {rows:,} examples were computed once, so pictures are not augmented"])
        task = replace(self.task, transform=lambda recipe, facts: None)
        return replace(self, task=task, dataset=replace(self.dataset, splits={**splits, **made}))

    @contextmanager
    def timed(self, purpose: str) -> Iterator[None]:
        """Adds the time inside the ``with`` block to the seconds of a purpose."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[purpose] = self.seconds.get(purpose, 0.0) + time.monotonic() - start


def assemble(
    recipe: Recipe, source: Any, network: Any, teller: Teller, *, device: str | None = None, free: bool = False
) -> Job:
    """Opens and reads the data, and finds the network's builder.

    Args:
        recipe: Checked.
        source: What to read instead of ``recipe.data.source``: objects of Python, or None.
        network: A network or class given in Python, or None.
        teller: Says what goes on.
        device: Stronger than the recipe's.
        free: Nobody has named a network, so that the data may have a say in it.
    """
    began = time.monotonic()
    chosen = devices.choose(device or recipe.train.device)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    recipe = with_precision(recipe, chosen)
    if recipe.train.compile:
        require_compiler(chosen)
    task = catalog.task(recipe.task)
    where = source if source is not None else recipe.data.source
    if where is None:
        raise UsageError(
            "There is nothing to train on: neither the command nor the recipe names data.",
            remedy=f"flambeau train SOURCE, where SOURCE is {task.intake.forms} or a name from `flambeau datasets`.",
        )
    raw = opened(recipe, where)
    if free:
        recipe, raw = started(recipe, raw, task)
    builder, text = builder_of(network, recipe)
    known = published(builder)
    weights = known.fetch(recipe.model.arguments()) if known is not None else None
    if weights is not None:
        teller.notes([f"training begins from the weights {weights}"])
    if recipe.initial.model is not None:
        teller.notes([f"training goes on from the weights of {recipe.initial.model}"])
    facts, dataset = prepare(raw, task, recipe)
    recipe = with_batch_size(recipe, len(dataset.splits["train"]))
    recipe = with_settled_model(recipe, builder, facts)
    return Job(recipe, task, facts, dataset, chosen, builder, text, {"setup": time.monotonic() - began}, teller)


def with_batch_size(recipe: Recipe, examples: int) -> Recipe:
    """The recipe with a number for the batch size: small data needs small batches to get enough steps."""
    if recipe.train.batch_size != "auto":
        return recipe
    size = next((size for limit, size in BATCH_SIZES if examples < limit), LARGEST_BATCH)
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"batch_size": size})})


def with_settled_model(recipe: Recipe, builder: Builder, facts: Facts) -> Recipe:
    """The recipe with what a network chooses by the data, so that the run's copy and the model say what was built."""
    known = published(builder)
    if known is None:
        return recipe
    part = recipe.model
    model = {"name": part.name, "freeze": part.freeze, **known.settle(facts, part.arguments())}
    return recipe.model_copy(update={"model": part.model_validate(model)})


def with_precision(recipe: Recipe, device: torch.device) -> Recipe:
    """The recipe with the precision that the device trains in, in place of ``auto``."""
    precision = choose_precision(recipe.train.precision, device)
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"precision": precision})})


def builder_of(network: Any, recipe: Recipe) -> tuple[Builder, str | None]:
    """The network's builder and, for a class of the user's own, its source text."""
    from flambeau.models.custom import from_object

    name = recipe.model.name
    if isinstance(network, nn.Module):
        return (lambda facts, **arguments: network), source_text(type(network))
    if network is None and in_file(name):
        network = load_object(name)
    if network is None:
        return catalog.builder(name, catalog.task(recipe.task)), None
    return (lambda facts, **arguments: from_object(network, facts, arguments, where=name)), source_text(network)


def source_text(made_by: Any) -> str | None:
    """The text of the file that defines a class: its imports and helpers are part of what it needs."""
    try:
        module = inspect.getmodule(made_by)
        return inspect.getsource(module if module and module.__name__ != "__main__" else made_by)
    except (OSError, TypeError):
        return None


def go_on_from(path: Path, model: nn.Module, facts: Facts, name: str) -> None:
    """Puts the weights of a saved model into a fresh one, by name.

    The last layer stays fresh unless the classes are the same, and the temperature is fitted anew. Where the fresh one
    is of a class of the user's own, by its ``name``, the saved one is taken to be of that class too.

    Raises:
        ModelError: There is no such model, or its weights do not fit; each that does not is named.
    """
    earlier = load_file(path, network=load_object(name) if in_file(name) else None)
    head = [] if earlier.facts.get("classes") == facts.get("classes") else [head_of(model)]
    transfer(model, plain_weights(earlier.network), where=path, without=["temperature", *head])


def seed_everything(seed: int) -> None:
    """Seeds the global generators of Python, NumPy and Torch, which initialisation and dropout draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def data_record(dataset: Dataset, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a run says about its data: name, hash, origin, sizes of the splits."""
    sizes = {name: len(dataset.splits[name]) for name in ("train", "test", "val") if name in dataset.splits}
    return {"name": dataset.name, "hash": dataset.hash, "source": dataset.info.get("source"), "examples": sizes}
