"""Cross-validation: a run for each fold of the data, tested on that one, and their scores as mean and spread."""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from flambeau import files
from flambeau.errors import RunError, UsageError
from flambeau.recipe import Recipe
from flambeau.run import RECIPE, Run
from flambeau.userfile import in_file
from flambeau.workflow.telling import Teller, console_for
from flambeau.workflow.training import is_named, recipe_for, resume, train

if TYPE_CHECKING:
    from rich.console import Console

RECORD = "folds.json"


@dataclass(frozen=True, slots=True)
class Spread:
    """A score over the folds.

    Attributes:
        mean: Of the folds' values.
        std: Their sample standard deviation.
        values: By fold.
    """

    mean: float
    std: float
    values: list[float]


@dataclass(frozen=True, slots=True)
class Folds:
    """What came out.

    Attributes:
        path: The folder that the runs lie in.
        runs: One for each fold.
        scores: By name, such as ``test/accuracy``.
    """

    path: Path
    runs: list[Run]
    scores: dict[str, Spread]

    def summary(self) -> dict[str, Any]:
        """What ``--json`` prints, and ``folds.json`` holds."""
        spreads = {
            name: {"mean": spread.mean, "std": spread.std, "values": spread.values}
            for name, spread in self.scores.items()
        }
        return {"folds": len(self.runs), "runs": [str(run.path) for run in self.runs], "scores": spreads}


def train_folds(
    source: Any = None,
    folds: int = 5,
    *,
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    model: str | nn.Module | type[nn.Module] | None = None,
    out: str | Path | None = None,
    console: Console | None = None,
    quiet: bool = False,
    **options: Any,
) -> Folds:
    """Trains once for each fold of the data, with that fold as the test split.

    Every row is in the test split of one run. Which rows make a fold depends on their content and ``data.split_seed``
    alone; classes are spread evenly, and identical rows and groups are in one fold. Called again with the same folder,
    it takes over the folds that are finished, resumes the one that is not, and goes on.

    Args:
        source: As for :func:`flambeau.train`; data without splits of its own.
        folds: How many, at least 2.
        recipe: As for :func:`flambeau.train`.
        model: As for :func:`flambeau.train`; a network that is given as an object is copied for each fold.
        out: The folder of the runs, which are called ``fold-1`` and so on; by default one under ``runs``.
        console: As for :func:`flambeau.train`.
        quiet: Prints nothing.
        **options: ``task``, ``epochs``, ``seed``, ``device``, ``settings`` and ``observers``, as for
            :func:`flambeau.train`.

    Raises:
        UsageError: There are fewer than two folds.
        RunError: The folder holds something else, or folds of other runs.
        DataError: The data cannot be divided into so many folds.

    Example:
        >>> found = train_folds("photos", 5, epochs=3)            # doctest: +SKIP
        >>> found.scores["test/accuracy"].mean                    # doctest: +SKIP
        0.91
    """
    if folds < 2:
        raise UsageError(
            "There is nothing to divide into folds by.",
            where="--folds",
            expected="a whole number from 2",
            received=folds,
            remedy="Take 5 or 10, as is usual, or leave --folds out to train one run.",
        )
    observers, settings = options.pop("observers", ()), list(options.pop("settings", ()))
    wanted = [
        recipe_for(source, recipe, model, settings=[*settings, f'data.fold="{number}/{folds}"'], **options)
        for number in range(1, folds + 1)
    ]
    path = Path(out) if out is not None else _default_folder(wanted[0].data.source, folds)
    _require_place(path, folds)
    told = console_for(console, quiet)
    runs: list[Run] = []
    for number, own_recipe in enumerate(wanted, 1):
        Teller(told, own_recipe).say(f"fold {number} of {folds}", style="bold")
        own = copy.deepcopy(model) if isinstance(model, nn.Module) else model
        runs.append(
            _fold(path / f"fold-{number}", own_recipe, source, own, observers=observers, console=told, quiet=quiet)
        )
        files.write_json(path / RECORD, Folds(path, runs, {}).summary() | {"folds": folds})
    found = Folds(path, runs, _spreads(runs))
    files.write_json(path / RECORD, found.summary())
    return found


def _default_folder(source: str | None, folds: int) -> Path:
    named = source or "data"
    stem = (named.rpartition(":")[2] if in_file(named) else Path(named).name.partition(".")[0]) or "data"
    return Path("runs") / f"{stem}-{folds}-folds-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def _require_place(path: Path, folds: int) -> None:
    """Refuses a folder that holds something else than runs on so many folds."""
    if path.exists() and not path.is_dir():
        raise RunError("This is a file, and the runs need a folder.", where=path, remedy="Choose another --out.")
    inside = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    strange = [name for name in inside if name != RECORD and not name.startswith(("fold-", files.TEMPORARY))]
    if strange or (path / RECIPE).is_file():
        raise RunError("The folder is not empty.", where=path, received=strange[0], remedy="Choose another --out.")
    if RECORD in inside:
        before = json.loads((path / RECORD).read_bytes()).get("folds")
        if before != folds:
            raise RunError(
                f"The folder holds {before} folds, and {folds} are asked for.",
                where=path,
                remedy="Choose another --out.",
            )


def _fold(path: Path, recipe: Recipe, source: Any, network: Any, **observing: Any) -> Run:
    """The finished run of one fold: as it is there, resumed, or trained."""
    given = None if is_named(source) else source
    own = None if isinstance(network, str) else network
    if not (path / RECIPE).is_file():
        return train(given, recipe=recipe, model=own, out=path, **observing)
    run = Run(path)
    if _comparable(run.recipe, recipe) != _comparable(recipe, recipe):
        raise RunError(
            "The run in the folder was trained by another recipe.",
            where=path,
            remedy="Choose another --out, or ask for the same as before.",
        )
    return run if run.finished else resume(run, source=given, model=own, **observing)


def _comparable(recipe: Recipe, wanted: Recipe) -> dict[str, Any]:
    """What a recipe says, without the batch size where that was left open: a run's recipe has its number."""
    train = (
        recipe.train if wanted.train.batch_size != "auto" else recipe.train.model_copy(update={"batch_size": "auto"})
    )
    return recipe.model_copy(update={"train": train}).to_dict()


def _spreads(runs: list[Run]) -> dict[str, Spread]:
    """Mean and spread of every score that all runs have."""
    names = [name for name in runs[0].scores if all(name in run.scores for run in runs)]
    columns = {name: [run.scores[name] for run in runs] for name in names}
    return {
        name: Spread(statistics.fmean(values), statistics.stdev(values), values) for name, values in columns.items()
    }
