"""``flambeau predict``."""

from __future__ import annotations

import csv
import io
import json as json_module
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flambeau.cli.output import Debug, Device, Json, Network, Output, Quiet, TrustCode, output, own_network

if TYPE_CHECKING:
    from flambeau.errors import FlambeauError
    from flambeau.export.portable.asking import Shown
    from flambeau.model import Model
    from flambeau.task import View


class Format(StrEnum):
    """How predictions are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def predict(
    model: Annotated[
        Path, typer.Argument(help="A run folder, a model file or an exported file.", metavar="RUN|MODEL|FILE")
    ],
    inputs: Annotated[
        list[str], typer.Argument(help="What to predict: pictures or folders of them, texts, ...", metavar="INPUT...")
    ],
    top: Annotated[int, typer.Option(help="How many classes to list.", min=1)] = 3,
    abstain_below: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Give no answer where no class has this probability.", metavar="P"),
    ] = None,
    format: Annotated[Format, typer.Option(help="table, json or csv.")] = Format.TABLE,  # noqa: A002 - the option's name
    gallery: Annotated[
        Path | None, typer.Option(help="Also write the inputs with their answers as one HTML page.", metavar="FILE")
    ] = None,
    device: Device = None,
    network: Network = None,
    trust_code: TrustCode = False,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Predict with a model. What cannot be read is named, the rest is answered, and the exit code is 2."""
    with output(json, debug, quiet) as to:
        from flambeau.export.portable.card import format_of

        form = format_of(model)
        if form is not None:
            _check_options({"--gallery": gallery, "--network": network, "--device": device}, model)
        asked = _loaded(model, device, network, trust_code) if form is None else _exported(model, form, trust_code)
        view = asked.view
        named = view.inputs(inputs)
        answered, failed = _predict(asked.predict, named, top, abstain_below)
        if gallery is not None and asked.model is not None:
            _write_gallery(gallery, asked.model, dict(named), answered, failed)
        _print(to, format, view, answered, top)
        for row in answered:
            if "doubt" in row and not quiet:
                to.note(f"{row['path']}: {row['doubt']}")
        silent = sum(bool(row.get("abstains")) for row in answered)
        if silent and not quiet:
            to.note(f"no answer to {silent:,} of {len(answered):,}: the model is less than {abstain_below:.0%} sure.")
        for error in failed:
            found = f" It is {error['received']}." if "received" in error else ""
            typer.echo(f"error: {error['path']}: {error['problem']}{found}", err=True)
        shown = {} if gallery is None else {"gallery": str(gallery)}
        to.result({"predictions": answered, "errors": failed, **shown})
        if failed:
            raise typer.Exit(2)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked: a model, or an exported file, which has none."""

    predict: Callable[..., list[dict[str, Any]]]
    view: View | Shown
    model: Model | None = None


def _loaded(path: Path, device: str | None, network: str | None, trust_code: bool) -> _Asked:
    from flambeau.model import load

    model = load(path, device=device or "auto", network=own_network(network), trust_code=trust_code)
    return _Asked(model.predict, model.task.view, model)


def _exported(path: Path, form: str, trust_code: bool) -> _Asked:
    # Nothing of this imports PyTorch where the file is ONNX: it takes longer than answering.
    from flambeau.export.portable.exported import open_exported

    exported = open_exported(path, form, trust_code=trust_code)
    return _Asked(exported.predict, exported.view)


def _check_options(given: dict[str, Any], path: Path) -> None:
    """Refuses what an exported file cannot be asked for."""
    from flambeau.errors import UsageError

    for option, value in given.items():
        if value is not None and str(value) not in ("auto", "cpu"):
            raise UsageError(
                f"{option} is for runs and model files, and {path} is an exported file.",
                where=option,
                received=value,
                remedy="Leave it out, or give the run that the file was exported from.",
            )


def _predict(
    ask: Callable[..., list[dict[str, Any]]], inputs: list[tuple[str, Any]], top: int, abstain_below: float | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Predictions of what can be read, and errors for the rest; in portions, so that a folder of any size fits."""
    from flambeau.errors import BadRows

    answered: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    there: list[tuple[str, Any]] = []
    for name, raw in inputs:
        if isinstance(raw, Path) and not raw.exists():
            failed.append({"path": name, "type": "DataError", "problem": "There is no such file."})
        else:
            there.append((name, raw))
    for start in range(0, len(there), _PORTION):
        portion = there[start : start + _PORTION]
        bad: dict[int, Any] = {}
        try:
            rows = ask([raw for _, raw in portion], top=top, abstain_below=abstain_below)
        except BadRows as error:
            bad = error.rows
            good = [raw for number, (_, raw) in enumerate(portion) if number not in bad]
            rows = ask(good, top=top, abstain_below=abstain_below) if good else []
        readable = [name for number, (name, _) in enumerate(portion) if number not in bad]
        answered += [{"path": name, **row} for name, row in zip(readable, rows, strict=True)]
        failed += [{"path": portion[number][0], **_told(error)} for number, error in bad.items()]
    return answered, failed


def _write_gallery(
    path: Path, model: Model, raw: dict[str, Any], answered: list[dict[str, Any]], failed: list[dict[str, Any]]
) -> None:
    from flambeau import files
    from flambeau.report.gallery import Answered, render_gallery

    view, about = model.task.view, model.summary()
    told = f"{about['architecture']}, trained on {about['data']['name']}"
    answers = [
        Answered(row["path"], row, view.line(row, 3), partial(view.thumbnail, raw[row["path"]], model.facts))
        for row in answered
    ]
    files.write(path, render_gallery(told, answers, failed).encode())


def _told(error: FlambeauError) -> dict[str, object]:
    """An unreadable input's error, without where (its name) and the remedy, which is one for training data."""
    return {name: value for name, value in error.as_dict().items() if name not in ("where", "remedy")}


def _print(to: Output, form: Format, view: View | Shown, rows: list[dict[str, Any]], top: int) -> None:
    if form is Format.JSON and not to.json:
        to.text(json_module.dumps(rows, ensure_ascii=False, indent=2))
    elif form is Format.CSV:
        to.text(_csv(rows, view, top).rstrip("\n"))
    elif form is Format.TABLE:
        width = min(_WIDEST, max((len(row["path"]) for row in rows), default=0))
        for row in rows:
            to.text(f"{row['path']:<{width}}  {view.line(row, top)}")


_PORTION = 64
"""Inputs that are read before any of them is answered."""

_WIDEST = 60
"""Longer names than this stand before their prediction as they are, so that one text does not push all others away."""


def _csv(rows: list[dict[str, Any]], view: View | Shown, top: int) -> str:
    text = io.StringIO()
    cells = [{"path": row["path"], **view.cells(row, top)} for row in rows]
    names = list(dict.fromkeys(["path", *(name for row in cells for name in row)]))
    writer = csv.DictWriter(text, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(cells)
    return text.getvalue()
