"""``flambeau train``."""

from __future__ import annotations

from json import dumps as json_text
from pathlib import Path
from typing import Annotated, Any

import typer

from flambeau.cli.output import Debug, Device, Json, Output, Quiet, Settings, output

Source = Annotated[
    str | None,
    typer.Argument(
        help="A built-in data set, a file or folder of your own (`flambeau tasks` says in which forms), or "
        "FILE.py:CLASS. May be left out when the recipe names it."
    ),
]
Out = Annotated[Path | None, typer.Option(help="The run folder; default runs/<data>-<model>-<time>.", metavar="FOLDER")]


def train(
    source: Source = None,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe's name (see `flambeau recipes`) or file.", metavar="NAME|FILE.toml")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The network: a name (see `flambeau models`) or a class.", metavar="NAME|FILE.py:CLASS"),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="What is learnt (see `flambeau tasks`); by default what the data looks like.",
            metavar="NAME|FILE.py:NAME",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Plans as many passes as fit into so many minutes, all in all.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is random.")] = None,
    device: Device = None,
    threads: Annotated[int | None, typer.Option(help="Threads on the CPU; more or fewer change the last bits.")] = None,
    settings: Settings = None,
    augment: Annotated[
        str | None, typer.Option(help="How much training pictures are varied.", metavar="none|light|strong")
    ] = None,
    balanced: Annotated[bool, typer.Option("--balanced", help="Weigh classes by how rare they are.")] = False,
    group: Annotated[
        str | None,
        typer.Option(
            help="Keeps groups on one side of a split: a table's column; for a folder a regular expression on paths.",
            metavar="COLUMN|REGEX",
        ),
    ] = None,
    on_bad: Annotated[
        str | None, typer.Option(help="What to do about rows that cannot be read.", metavar="fail|skip")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="A run or a saved model to go on from, with other classes.", metavar="RUN|MODEL")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Trains so many runs, each tested on another part of the data; prints mean and spread."),
    ] = None,
    out: Out = None,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Train a model, measure it, save it and write a report."""
    with output(json, debug, quiet) as to:
        wished = {
            "data.on_bad": on_bad,
            # As a text of TOML, so that a column called 7 stays a text.
            "data.group": None if group is None else json_text(group, ensure_ascii=False),
            "loss.class_weights": "balanced" if balanced else None,
            "train.minutes": minutes,
            "train.threads": threads,
            "augment.preset": augment,
        }
        flags = [f"{key}={value}" for key, value in wished.items() if value is not None]
        asked: dict[str, Any] = {"recipe": recipe, "model": model, "task": task, "epochs": epochs, "seed": seed}
        asked |= {"device": device, "settings": [*(settings or []), *flags], "init": init, "out": out}
        asked |= {"console": to.console}
        to.result(_once(source, asked) if folds is None else _folds(to, source, folds, asked))


def _once(source: str | None, asked: dict[str, Any]) -> dict[str, Any]:
    from flambeau.workflow.training import train as train_model

    return train_model(source, **asked).summary()


def _folds(to: Output, source: str | None, folds: int, asked: dict[str, Any]) -> dict[str, Any]:
    from flambeau.workflow.folding import RECORD, train_folds

    found = train_folds(source, folds, **asked)
    rows = [["", "mean", "std", *(f"fold {number}" for number in range(1, folds + 1))]]
    for name, spread in found.scores.items():
        if name.startswith(("test/", "baseline/")):
            rows.append([name, *(f"{value:.4f}" for value in (spread.mean, spread.std, *spread.values))])
    to.table(rows, right=frozenset(range(1, folds + 3)))
    to.text(f"written to {found.path / RECORD}")
    return found.summary()
