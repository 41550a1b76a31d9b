"""``flambeau import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flambeau.cli.output import Debug, Json, Quiet, Settings, output


def import_(
    weights: Annotated[Path, typer.Argument(help="A .pth file of plain PyTorch.", metavar="model.pth")],
    model: Annotated[str, typer.Option(help="The network: a name or FILE.py:CLASS.", metavar="NAME|FILE.py:CLASS")],
    classes: Annotated[Path, typer.Option(help="A text file with a class name a line.", metavar="FILE")],
    out: Annotated[Path | None, typer.Option(help="Default: the same name with .safetensors.", metavar="FILE")] = None,
    settings: Settings = None,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Turn weights that plain PyTorch saved into a model file."""
    with output(json, debug, quiet) as to:
        from flambeau.errors import UsageError
        from flambeau.export.importing import import_weights

        try:
            names = [line.strip() for line in classes.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(
                f"The file of class names cannot be read ({reason}).",
                where=classes,
                expected="a text file with a class name a line, in the order of the network's outputs",
            ) from error
        imported = import_weights(weights, model=model, classes=names, settings=settings or [])
        path = imported.save(out or weights.with_suffix(".safetensors"))
        size = "x".join(map(str, [imported.facts["channels"], *imported.facts["size"]]))
        to.text(f"{path}: {model}, pictures {size}, {len(names)} classes")
        to.result({"model": str(path), **imported.summary()})
