"""What all commands share: their common options, where text and JSON go, and how errors become exit codes."""

from __future__ import annotations

import json as json_module
import math
import shutil
import sys
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flambeau.errors import FlambeauError

if TYPE_CHECKING:
    from rich.console import Console

    from flambeau.task import Shown

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, text on standard error.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and results only.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps.", metavar="DEVICE")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting of the recipe, as in train.batch_size=32. Repeatable.", metavar="KEY=VALUE"),
]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Run the source text that such a model carries.")]
RunOrModel = Annotated[Path, typer.Argument(help="A run folder or a model file.", metavar="RUN|MODEL")]
Network = Annotated[
    str | None, typer.Option("--network", help="The class of a model of its own class.", metavar="FILE.py:CLASS")
]


class Output:
    """Where a command's text and result go.

    Args:
        json: The result goes to standard output as one JSON object, all text to standard error.
        quiet: No text but the result.
    """

    def __init__(self, json: bool, quiet: bool) -> None:
        self.json = json
        self.quiet = quiet

    @property
    def console(self) -> Console:
        """The console for people; it swallows everything when quiet."""
        from rich.console import Console

        return Console(stderr=self.json, quiet=self.quiet, highlight=False)

    def result(self, value: dict[str, Any]) -> None:
        """Prints the command's result as JSON, when that was asked for."""
        if self.json:
            typer.echo(json_module.dumps(_finite(value), ensure_ascii=False, default=str))

    def text(self, line: str = "") -> None:
        """Prints a line of the result for people, also when quiet; under ``--json`` on standard error."""
        if not (self.json and self.quiet):
            typer.echo(line, err=self.json)

    def paragraph(self, text: str, indent: str, further: str | None = None) -> None:
        """Prints a text in lines as wide as the terminal, each indented; the second and later ones by ``further``."""
        width = max(40, shutil.get_terminal_size().columns)
        later = indent if further is None else further
        self.text(textwrap.fill(text, width, initial_indent=indent, subsequent_indent=later, break_on_hyphens=False))

    def note(self, line: str) -> None:
        """Prints what deserves attention, on standard error, so that it never mixes with a result."""
        typer.echo(f"note: {line}", err=True)

    def table(self, rows: list[list[str]], right: frozenset[int] = frozenset()) -> None:
        """Prints aligned columns, the first row in bold on a terminal; those of these numbers end on a line."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for number, row in enumerate(rows):
            cells = [
                f"{cell:>{width}}" if place in right else f"{cell:<{width}}"
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            line = "  ".join(cells).rstrip()
            self.text(typer.style(line, bold=True) if number == 0 else line)

    def picture(self, shown: Shown, path: Path) -> None:
        """Writes a picture as a PNG, and shows it where text goes to a terminal."""
        from flambeau import files

        files.write(path, shown.png)
        console = self.console
        if not self.json and console.is_terminal:
            console.print(shown.terminal(console.width))

    def fail(self, error: FlambeauError) -> None:
        """Prints an error."""
        typer.echo(f"error: {error}", err=True)
        if self.json:
            typer.echo(json_module.dumps({"error": error.as_dict()}, ensure_ascii=False))


def own_network(named: str | None) -> Any:
    """What ``--network`` names, or None; its file is executed."""
    from flambeau.userfile import load_object

    return load_object(named) if named else None


def _finite(value: Any) -> Any:
    """The value with null for what is not a number: JSON has no NaN, and strict readers refuse it."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def output(json: bool, debug: bool, quiet: bool) -> Iterator[Output]:
    """The output of a command; errors inside the ``with`` block become messages and exit codes."""
    out = Output(json, quiet)
    try:
        yield out
    except FlambeauError as error:
        if debug:
            traceback.print_exc()
        out.fail(error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # Whoever read our output has closed it; there is nobody left to tell.
        sys.stderr.close()
        raise typer.Exit(0) from None
    except OSError as error:
        if debug:
            traceback.print_exc()
        out.fail(FlambeauError(f"{error.strerror or error}.", where=error.filename))
        raise typer.Exit(2) from None
    except Exception as error:
        if isinstance(error, typer.Exit):
            raise
        if debug:
            traceback.print_exc()
        hint = "" if debug else " --debug shows where."
        bug = FlambeauError(f"This is a bug in Flambeau: {type(error).__name__}: {error}.{hint}")
        out.fail(bug)
        raise typer.Exit(1) from None
