"""``flambeau predict``."""

from __future__ import annotations

import csv
import io
import json as json_module
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flambeau.cli.output import Debug, Device, Json, Network, Output, Quiet, TrustCode, output

if TYPE_CHECKING:
    from flambeau.errors import FlambeauError
    from flambeau.model import Model


class Format(StrEnum):
    """How predictions are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def predict(
    model: Annotated[Path, typer.Argument(help="A run folder or a model file.", metavar="RUN|MODEL")],
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.", metavar="PATH...")],
    top: Annotated[int, typer.Option(help="How many classes to list.", min=1)] = 3,
    format: Annotated[Format, typer.Option(help="table, json or csv.")] = Format.TABLE,  # noqa: A002 - the option's name
    device: Device = None,
    network: Network = None,
    trust_code: TrustCode = False,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Predict the class of pictures. What cannot be read is named, the rest is answered, and the exit code is 2."""
    with output(json, debug, quiet) as to:
        from flambeau.model import load
        from flambeau.userfile import load_object

        made_by = load_object(network) if network else None
        loaded = load(model, device=device or "auto", network=made_by, trust_code=trust_code)
        files = _expanded(paths)
        answered, failed = _predict(loaded, files, top)
        _print(to, format, answered, top)
        for row in answered:
            if "doubt" in row and not quiet:
                to.note(f"{row['path']}: {row['doubt']}")
        for error in failed:
            found = f" It is {error['received']}." if "received" in error else ""
            typer.echo(f"error: {error['path']}: {error['problem']}{found}", err=True)
        to.result({"predictions": answered, "errors": failed})
        if failed:
            raise typer.Exit(2)


def _expanded(paths: list[Path]) -> list[Path]:
    """The files themselves, with folders replaced by the pictures in them, in order of their names."""
    from flambeau.data.opening import EXTENSIONS
    from flambeau.errors import DataError

    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(entry for entry in path.rglob("*") if entry.suffix.lower() in EXTENSIONS)
        if not inside:
            raise DataError(
                "There is no picture in the folder.",
                where=path,
                expected=f"files ending in {', '.join(sorted(EXTENSIONS))}",
            )
        files += inside
    return files


def _predict(model: Model, paths: list[Path], top: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Predictions of what can be read, and errors for the rest; in portions, so that a folder of any size fits."""
    from flambeau.errors import BadRows
    from flambeau.model import BATCH

    answered: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    there = [path for path in paths if path.exists()]
    failed += [
        {"path": str(path), "type": "DataError", "problem": "There is no such file."}
        for path in paths
        if not path.exists()
    ]
    for start in range(0, len(there), BATCH):
        portion = there[start : start + BATCH]
        bad: dict[int, Any] = {}
        try:
            rows = model.predict(portion, top=top)
        except BadRows as error:
            bad = error.rows
            good = [path for number, path in enumerate(portion) if number not in bad]
            rows = model.predict(good, top=top) if good else []
        readable = [path for number, path in enumerate(portion) if number not in bad]
        answered += [{"path": str(path), **row} for path, row in zip(readable, rows, strict=True)]
        failed += [{"path": str(portion[number]), **_told(error)} for number, error in bad.items()]
    return answered, failed


def _told(error: FlambeauError) -> dict[str, object]:
    """An unreadable picture's error, without where (its path) and the remedy, which is one for training data."""
    return {name: value for name, value in error.as_dict().items() if name not in ("where", "remedy")}


def _print(to: Output, form: Format, rows: list[dict[str, Any]], top: int) -> None:
    if form is Format.JSON and not to.json:
        to.text(json_module.dumps(rows, ensure_ascii=False, indent=2))
    elif form is Format.CSV:
        to.text(_csv(rows, top).rstrip("\n"))
    elif form is Format.TABLE:
        width = max((len(row["path"]) for row in rows), default=0)
        for row in rows:
            classes = "  ".join(f"{entry['class']} {entry['probability']:.1%}" for entry in row["classes"])
            to.text(f"{row['path']:<{width}}  {classes}")


def _csv(rows: list[dict[str, Any]], top: int) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    count = max((len(row["classes"]) for row in rows), default=min(top, 1))
    writer.writerow(["path", *(f"{name}{n}" for n in range(1, count + 1) for name in ("class", "probability"))])
    for row in rows:
        writer.writerow(
            [row["path"], *(cell for e in row["classes"] for cell in (e["class"], f"{e['probability']:.6f}"))]
        )
    return text.getvalue()
