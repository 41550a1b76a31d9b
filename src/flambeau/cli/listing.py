"""``flambeau tasks``, ``flambeau datasets``, ``flambeau models`` and ``flambeau recipes``."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import typer

from flambeau.cli.output import Debug, Json, Output, Quiet, output

INDENT = "    "


def datasets(json: Json = False, debug: Debug = False, quiet: Quiet = False) -> None:
    """List the built-in data sets, and where they are on this machine."""
    with output(json, debug, quiet) as to:
        from flambeau.workflow.listing import datasets as listed

        rows = listed()
        for row in rows:
            to.text(row["name"])
            if not quiet:
                _print_dataset(to, row)
        if not quiet:
            to.text("\nYour own data needs no name: give its path. `flambeau tasks` says in which forms.")
        to.result({"datasets": rows})


def _print_dataset(to: Output, row: dict[str, Any]) -> None:
    to.paragraph(row["about"], INDENT)
    if row["classes"]:
        to.paragraph(f"{len(row['classes'])} classes: {', '.join(row['classes'])}", INDENT)
    if row["licence"]:
        to.paragraph(f"licence: {row['licence']}", INDENT)
    if row["found"]:
        to.text(f"{INDENT}found: {row['found']}")
    elif row["download"]:
        size = row["download"] / 1e6
        told = f"{size:,.0f}" if size >= 10 else f"{size:.1f}"
        to.text(f"{INDENT}not on this machine; {told} MB to download when it is first used")


Wanted = Annotated[
    str | None, typer.Argument(help="A part of the names that are wanted, such as resnet; timm:resnet for timm's.")
]


def models(wanted: Wanted = None, json: Json = False, debug: Debug = False, quiet: Quiet = False) -> None:
    """List the networks and their arguments."""
    with output(json, debug, quiet) as to:
        from flambeau.workflow.listing import models as listed

        rows = listed(wanted)
        if quiet:
            for row in rows:
                to.text(row["name"])
        else:
            for number, (tasks, group) in enumerate(itertools.groupby(rows, lambda row: row["tasks"])):
                if number:
                    to.text()
                to.paragraph(f"for {', '.join(tasks)}:", "", INDENT)
                _print_models(to, list(group), everything=wanted is None)
            to.text(
                "\nParameters are counted for a small problem, such as ten classes of 1x28x28, and where there are "
                "weights, as published; `flambeau inspect NAME` shows the layers."
                "\nArguments are set as in --set model.width=32. A class of your own: --model FILE.py:CLASS"
            )
        to.result({"models": rows})


def _print_models(to: Output, rows: list[dict[str, Any]], *, everything: bool) -> None:
    """The networks of a family: our own one by one, those of other packages in a table for each package."""
    published: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["weights"]:
            published.setdefault(row["weights"]["publisher"], []).append(row)
        else:
            to.text(row["name"])
            _print_model(to, row)
    for publisher, theirs in published.items():
        arguments = ", ".join(_argument(*item) for item in theirs[0]["arguments"].items())
        to.paragraph(f"of {publisher}, each with the arguments {arguments}:", "", INDENT)
        cells = [[row["name"], _number(row["parameters"]), *_weights(**row["weights"])] for row in theirs]
        to.table(
            [["name", "parameters", "pictures", "weights", "licence of the weights"], *cells], frozenset({1, 2, 3})
        )
        if everything:
            to.text("`flambeau models resnet` lists those with resnet in their names, `flambeau models timm:` timm's.")


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _weights(publisher: str, side: int, megabytes: int | None, licence: str) -> list[str]:
    return [f"{side}x{side}", "-" if megabytes is None else f"{megabytes:,} MB", licence]


def _print_model(to: Output, row: dict[str, Any]) -> None:
    to.paragraph(row["about"], INDENT)
    if row["parameters"] is not None:
        to.text(f"{INDENT}{row['parameters']:,} parameters")
    if row["arguments"]:
        to.paragraph(f"arguments: {', '.join(_argument(*item) for item in row['arguments'].items())}", INDENT)


def _argument(name: str, default: Any) -> str:
    """An argument with its default as it is written in a recipe."""
    if default is None:
        return name
    if isinstance(default, bool):
        return f"{name} = {str(default).lower()}"
    if isinstance(default, tuple):
        return f"{name} = {list(default)}"
    return f'{name} = "{default}"' if isinstance(default, str) else f"{name} = {default}"


def tasks(json: Json = False, debug: Debug = False, quiet: Quiet = False) -> None:
    """List what can be learnt: the tasks, the data that each takes, and its networks."""
    with output(json, debug, quiet) as to:
        from flambeau.models.published import TORCHVISION
        from flambeau.workflow.listing import tasks as listed

        rows = listed()
        for row in rows:
            to.text(row["name"])
            if not quiet:
                to.paragraph(row["about"], INDENT)
                to.paragraph(f"data: {row['data']}", INDENT)
                if row["datasets"]:
                    to.paragraph(f"datasets: {', '.join(row['datasets'])}", INDENT)
                ours = [name for name in row["models"] if name not in TORCHVISION]
                more = (
                    f", and {len(row['models']) - len(ours)} of torchvision" if len(ours) < len(row["models"]) else ""
                )
                to.paragraph(f"models: {', '.join(ours)}{more}", INDENT)
                to.text(f"{INDENT}recipe: {row['recipe']}")
        to.result({"tasks": rows})


def recipes(json: Json = False, debug: Debug = False, quiet: Quiet = False) -> None:
    """List the named recipes."""
    with output(json, debug, quiet) as to:
        from flambeau.workflow.listing import recipes as listed

        rows = listed()
        width = max(len(row["name"]) for row in rows) + 2
        for row in rows:
            if quiet:
                to.text(row["name"])
            else:
                to.paragraph(f"{row['name']:<{width}}{row['about']}", "", " " * width)
        to.result({"recipes": rows})
