"""What can go wrong inside PyTorch while it computes, said in terms of the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from flambeau.core import Observer, Record, State
from flambeau.engine import device as devices
from flambeau.errors import ModelError, TrainingError
from flambeau.recipe import Recipe
from flambeau.run import Run
from flambeau.workflow.telling import Teller


@contextmanager
def computing(recipe: Recipe) -> Iterator[None]:
    """Computes inside the ``with`` block as a recipe says, and explains what PyTorch cannot do of it.

    Raises:
        TrainingError: An operation has no deterministic form, the network cannot be compiled, or memory is too small
            for something else than a batch of training.
    """
    with devices.deterministic(recipe.train.deterministic):
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"Memory is too small: {_first_line(error)}",
                remedy="Lower train.eval_batch_size where it happened in validation or test, else train.batch_size.",
            ) from error
        except (RuntimeError, ModelError) as error:
            # A trial of the network before training says what stopped it by a ModelError of its own.
            cause = error.__cause__ if isinstance(error, ModelError) else error
            explained = _explained(recipe, cause) if isinstance(cause, RuntimeError) else None
            if explained is None:
                raise
            raise explained from error


def _explained(recipe: Recipe, error: RuntimeError) -> TrainingError | None:
    if recipe.train.deterministic and "deterministic" in str(error):
        return TrainingError(
            f"An operation of this network has no deterministic form: {_first_line(error)}",
            where="train.deterministic",
            remedy="Replace it in the network, or set train.deterministic = false.",
        )
    if recipe.train.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return TrainingError(
            f"The network cannot be compiled: {_first_line(error)}",
            where="train.compile",
            remedy="Set train.compile = false.",
        )
    return None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def halvings_told(run: Run, teller: Teller) -> Observer:
    """Says, and writes into the run, when memory was too small for a batch and smaller parts are taken from now on."""
    told = int(run.info.get("halvings", 0))

    def observe(record: Record, state: State) -> None:
        nonlocal told
        if state.halvings > told:
            told = state.halvings
            run.save_info(halvings=told)
            parts = run.recipe.train.accumulate * 2**told
            teller.notes([f"out of memory at step {record.step}: batches go through in {parts} parts from here on"])

    return observe
