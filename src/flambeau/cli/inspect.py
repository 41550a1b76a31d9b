"""``flambeau inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flambeau.cli.output import Debug, Json, Network, Output, Quiet, Settings, TrustCode, output, own_network

if TYPE_CHECKING:
    from flambeau.task import Shown
    from flambeau.workflow.inspecting import Inspection


def inspect(
    target: Annotated[
        str, typer.Argument(help="Data, a model's name, FILE.py:CLASS, a run folder, a model file or an exported file.")
    ],
    task: Annotated[
        str | None, typer.Option(help="For data or a network: its task.", metavar="NAME|FILE.py:NAME")
    ] = None,
    shape: Annotated[
        str, typer.Option("--input", help="For a network: the picture's channels, height and width.", metavar="CxHxW")
    ] = "1x28x28",
    classes: Annotated[int, typer.Option(help="For a network: how many classes.", min=1)] = 10,
    settings: Settings = None,
    network: Network = None,
    trust_code: TrustCode = False,
    samples: Annotated[int, typer.Option(help="For data: how many samples to show.", min=0)] = 20,
    augmented: Annotated[
        bool,
        typer.Option("--augmented", help="For data: show samples as training would vary them; --set changes how."),
    ] = False,
    png: Annotated[
        Path | None, typer.Option(help="For data: where the sample grid goes. Default: <name>-samples.png.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="For a network, run or model: also write a page with its graph and filters.", metavar="FILE"),
    ] = None,
    example: Annotated[
        str | None, typer.Option(help="For that page: show what the layers make of this input.", metavar="INPUT")
    ] = None,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Look at data, a network's layers, a run, a model file or an exported file."""
    with output(json, debug, quiet) as to:
        from flambeau.export.portable.card import format_of

        form = format_of(Path(target))
        if form is not None:
            _print_exported(to, Path(target), form)
            return
        from flambeau.errors import UsageError
        from flambeau.workflow.inspecting import inspect as look

        found = look(
            target,
            task=task,
            shape=_shape(shape),
            classes=classes,
            settings={} if augmented else _arguments(settings or []),
            network=own_network(network),
            trust_code=trust_code,
            varied=(settings or []) if augmented else None,
        )
        if augmented and found.dataset is None:
            raise UsageError("Only data can be shown augmented.", where="--augmented", received=f"a {found.kind}")
        facts = found.facts
        if html is not None or example is not None:
            _write_page(found, html, example)
            facts = {**facts, "html": str(html)}
        if found.dataset is None:
            _PRINTERS[found.kind](to, facts)
        else:
            lines, path = _samples(to, found.samples(samples) if samples else [], png)
            shown = {"samples": str(path)} if path else {}
            _print_data(to, facts, {**found.about, **shown}, lines)
            facts = {**facts, **({"samples": lines} if lines else shown)}
        to.result({"kind": found.kind, **facts})


def _write_page(found: Inspection, html: Path | None, example: str | None) -> None:
    from flambeau import files
    from flambeau.errors import UsageError

    if html is None:
        raise UsageError("An example is shown on a page.", where="--example", remedy="Name the page: --html FILE.")
    if found.page is None:
        raise UsageError(
            "There is no network to write a page about.",
            where="--html",
            expected="a network, a finished run or a model file",
            received=found.kind,
        )
    files.write(html, found.page(example).encode())


def _arguments(settings: list[str]) -> dict[str, Any]:
    """The arguments of a network among the settings, which can hold nothing else here."""
    from flambeau.errors import UsageError
    from flambeau.recipe import with_settings

    given = with_settings({}, settings)
    arguments = given.pop("model", {})
    if given or not isinstance(arguments, dict):
        raise UsageError(
            "Here only the arguments of a network can be set.",
            where="--set",
            expected="model.NAME=VALUE, such as model.width=32",
            received=", ".join(settings),
            remedy="Pictures' size and classes are said with --input and --classes.",
        )
    return arguments


def _shape(text: str) -> tuple[int, int, int]:
    from flambeau.errors import UsageError

    sides = text.lower().split("x")
    if len(sides) != 3 or not all(side.isdigit() and int(side) > 0 for side in sides):
        raise UsageError("This is not a shape.", where="--input", expected="CxHxW, such as 3x64x64", received=text)
    channels, height, width = map(int, sides)
    return channels, height, width


def _samples(to: Output, shown: list[str | Shown], png: Path | None) -> tuple[list[str], Path | None]:
    """The samples that are text; a picture is written as a PNG and shown in the terminal."""
    written = None
    for item in shown:
        if isinstance(item, str):
            continue
        written = png or Path(item.name)
        to.picture(item, written)
    return [item for item in shown if isinstance(item, str)], written


def _print_data(to: Output, facts: dict[str, Any], about: dict[str, str], lines: list[str]) -> None:
    to.text(f"{facts['name']}: {', '.join(f'{count:,} {split}' for split, count in facts['rows'].items())}\n")
    if "counts" in facts:
        splits = list(facts["counts"])
        rows = [["class", *splits]]
        rows += [[name, *(f"{facts['counts'][s].get(name, 0):,}" for s in splits)] for name in facts["classes"]]
        to.table(rows, frozenset(range(1, len(splits) + 1)))
        to.text()
    samples = {key: about[key] for key in ("samples",) if key in about}
    stated = {key: facts[key] for key in ("source", "licence", "homepage", "hash") if facts.get(key)}
    known = {key: value for key, value in about.items() if key not in samples} | stated | samples
    width = max((len(name) for name in known), default=0)
    for name, value in known.items():
        to.text(f"{name:<{max(9, width)}} {value}")
    for line in lines:
        to.paragraph(line, "  ", "    ")
    for note in facts["notes"]:
        to.paragraph(f"note: {note}", "", "      ")


def _print_network(to: Output, facts: dict[str, Any]) -> None:
    from flambeau.report.network import layer_rows

    to.text(f"input {'x'.join(map(str, facts['input']))}\n")
    rows = layer_rows(facts["layers"], times="x")
    rows = [[_count(cell) if isinstance(cell, int) else cell for cell in row] for row in rows]
    rows.append(["in all", "", "", f"{facts['parameters']:,}", f"{facts['multiply_adds']:,}", "for one example"])
    to.table(rows, frozenset({3, 4}))


def _print_run(to: Output, facts: dict[str, Any]) -> None:
    data = facts["data"]
    sizes = ", ".join(f"{count:,} {split}" for split, count in data["examples"].items())
    to.text(f"{facts['run']}: {facts['status']}\n")
    lines = {"recipe": facts["recipe"]["name"], "model": facts["recipe"]["model"]["name"]}
    lines |= {"data": f"{data['name']} ({sizes})", "device": f"{facts['device']}, {facts['threads']} threads"}
    if facts["status"] != "finished":
        lines["to go on"] = f"flambeau resume {facts['run']}"
    for name, value in lines.items():
        to.text(f"{name:<8} {value}")
    if facts["metrics"]:
        to.text()
        kinds = ("train/loss", "val/loss", *(f"val/{name}" for name in facts["shown"] if name != "loss"))
        shown = [name for name in kinds if name in facts["metrics"][0]]
        rows = [[str(line["epoch"] + 1), *(f"{line[name]:.4f}" for name in shown)] for line in facts["metrics"]]
        to.table([["epoch", *shown], *rows], frozenset(range(len(shown) + 1)))
    _print_scores(to, facts.get("scores", {}))
    if "layers" in facts:
        to.text()
        _print_network(to, facts)
    for note in facts["notes"]:
        to.paragraph(f"note: {note}", "", "      ")


def _print_model(to: Output, facts: dict[str, Any]) -> None:
    to.text(f"{facts['architecture']} for {facts['task']}, trained on {facts['data']['name']}")
    if facts["classes"]:
        to.paragraph(f"{len(facts['classes'])} classes: {', '.join(facts['classes'])}", "")
    _print_scores(to, facts["scores"])
    to.text()
    _print_network(to, facts)
    to.text("\n" + ", ".join(f"{name} {value}" for name, value in facts["provenance"].items()))


def _print_exported(to: Output, path: Path, form: str) -> None:
    from flambeau.export.portable.running import look

    card = look(path, form).card.values
    to.text(f"{form} file for {card['task']}, trained on {card.get('data', {}).get('name')}")
    if card.get("classes"):
        to.paragraph(f"{len(card['classes'])} classes: {', '.join(card['classes'])}", "")
    for name, told in card["inputs"].items():
        to.text(f"input    {name}: {told['dtype']} {' x '.join(map(str, told['shape']))}, {told['about']}")
    for name, told in card["outputs"].items():
        to.text(f"output   {name}: {told}")
    told = {name: value for name, value in card["preprocessing"].items() if isinstance(value, bool | int | float | str)}
    to.paragraph(", ".join(f"{name} {value}" for name, value in told.items() if len(str(value)) < _LONG), "")
    _print_scores(to, card.get("scores", {}))
    to.text("\n" + ", ".join(f"{name} {value}" for name, value in card.get("provenance", {}).items()))
    to.result({"kind": "exported", "format": form, **card})


_LONG = 200
"""Values of more characters are for programs, such as a tokeniser: ``--json`` prints them."""


def _print_scores(to: Output, scores: dict[str, float]) -> None:
    """Scores with a column for each split."""
    splits = list(dict.fromkeys(name.partition("/")[0] for name in scores))
    names = list(dict.fromkeys(name.partition("/")[2] for name in scores))
    if not names:
        return
    to.text()
    rows = [[name, *(_score(scores.get(f"{split}/{name}")) for split in splits)] for name in names]
    to.table([["score", *splits], *rows], frozenset(range(1, len(splits) + 1)))


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


_PRINTERS = {"network": _print_network, "run": _print_run, "model": _print_model}
