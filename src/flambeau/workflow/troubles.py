"""What can go wrong inside PyTorch while it computes, said in terms of the recipe."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from flambeau.core import Observer, Record, State
from flambeau.engine import device as devices
from flambeau.errors import FlambeauError, ModelError, TrainingError
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
        except ModelError as error:
            # A trial of the network before training says by an error of its own what stopped it.
            _explain(recipe, error.__cause__)
            raise
        except FlambeauError:
            raise
        except Exception as error:
            _explain(recipe, error)
            raise


def _explain(recipe: Recipe, error: BaseException | None) -> None:
    explained = None if error is None else _explained(recipe, error)
    if explained is not None:
        raise explained from error


def _explained(recipe: Recipe, error: BaseException) -> TrainingError | None:
    """What a setting of the recipe has to do with an error of PyTorch's, or None when it has nothing to do with it."""
    if recipe.train.deterministic and "deterministic" in str(error):
        return TrainingError(
            f"An operation of this network has no deterministic form: {_first_line(error)}",
            where="train.deterministic",
            remedy="Replace it in the network, or set train.deterministic = false.",
        )
    if recipe.train.precision != "float32" and any(word in str(error) for word in ("dtype", "scalar type")):
        return TrainingError(
            f"The network does not train in {recipe.train.precision}: {_first_line(error)}",
            where="train.precision",
            remedy="Set train.precision = 'float32', or cast in forward() what is combined.",
        )
    if recipe.train.compile and _came_through_compiled_code(error):
        return TrainingError(
            f"The network cannot be trained compiled ({type(error).__name__}: {_first_line(error)}).",
            where="train.compile",
            remedy="Set train.compile = false.",
        )
    return None


def _came_through_compiled_code(error: BaseException) -> bool:
    files = (frame.filename for frame in traceback.extract_tb(error.__traceback__))
    return any(part in file for file in files for part in ("_dynamo", "_inductor", "_functorch", "torchinductor"))


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
