"""The command line: one command a file; each parses, calls the API and prints."""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import re
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from flambeau import __version__
from flambeau.engine.memory import keep_freed_memory

COMMANDS = {
    "train": "train:train",
    "resume": "resume:resume",
    "evaluate": "evaluate:evaluate",
    "predict": "predict:predict",
    "sample": "sample:sample",
    "inspect": "inspect:inspect",
    "serve": "serve:serve",
    "container": "container:container",
    "export": "export:export",
    "eject": "eject:eject",
    "import": "import_:import_",
    "compare": "compare:compare",
    "tasks": "listing:tasks",
    "datasets": "listing:datasets",
    "models": "listing:models",
    "recipes": "listing:recipes",
}
"""Module and function of each command, in the order of ``--help``; a call imports only the one that it names."""


def application(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with these commands."""
    app = typer.Typer(
        name="flambeau",
        help="From labelled data to a trained, measured, saved and exported PyTorch model.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(callback)
    for name in names:
        module, _, function = COMMANDS[name].partition(":")
        app.command(name)(getattr(importlib.import_module(f"flambeau.cli.{module}"), function))
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flambeau {__version__}")
        raise typer.Exit


def callback(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """From labelled data to a trained, measured, saved and exported PyTorch model."""


# Typer brings Click along under a private name in some versions and depends on it in others.
_Misuse: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


_PLAIN = {
    r"^Value error, ": "",
    r"^Input should be a valid integer.*": "expected a whole number",
    r"^Input should be a valid number.*": "expected a number",
    r"^Input should be greater than or equal to ": "expected at least ",
    r"^Input should be ": "expected ",
}
"""What some versions of Typer say about a wrong value, and how we say it."""


def _plain(message: str) -> str:
    for pattern, text in _PLAIN.items():
        message = re.sub(pattern, text, message)
    return message


def _leave_garbage() -> None:
    """Keeps Python from looking through all that was imported for what can be freed, though the process ends: 40 ms.

    Packages that come with PyTorch count what is left then, and would call it leaked.
    """
    if "torch" not in sys.modules:
        gc.freeze()


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 2 misuse or bad input, 1 a bug of ours, 130 and 143 on signals."""
    given = sys.argv[1:] if arguments is None else arguments
    if arguments is None:  # the process is ours
        atexit.register(_leave_garbage)
    # GNU OpenMP, which PyTorch brings along on Linux, lets waiting threads spin for long: beside one other busy
    # program training took 5 to 15 times as long. Short spinning costs an idle machine nothing that could be measured.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # NumPy's OpenBLAS lets its threads wait likewise once they are started: 60 ms of a command that multiplies nothing.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    keep_freed_memory()
    named = {next((argument for argument in given if not argument.startswith("-")), "")}
    command: Any = typer.main.get_command(application(COMMANDS.keys() & named or COMMANDS))
    try:
        code = command.main(args=given, prog_name="flambeau", standalone_mode=False)
    except _Misuse as error:
        problem: Any = error
        problem.message = _plain(problem.message)
        problem.show()
        if "--json" in given:
            typer.echo(json.dumps({"error": {"type": "UsageError", "problem": problem.format_message()}}))
        sys.exit(2)
    except typer.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
