"""``flambeau inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flambeau.cli.output import Debug, Json, Output, Quiet, Settings, output

if TYPE_CHECKING:
    from flambeau.core import Dataset


def inspect(
    target: Annotated[str, typer.Argument(help="Data, a model's name, FILE.py:CLASS, a run folder or a model file.")],
    shape: Annotated[
        str, typer.Option("--input", help="For a network: the picture's channels, height and width.", metavar="CxHxW")
    ] = "1x28x28",
    classes: Annotated[int, typer.Option(help="For a network: how many classes.", min=1)] = 10,
    settings: Settings = None,
    samples: Annotated[int, typer.Option(help="For data: how many samples to show.", min=0)] = 20,
    png: Annotated[
        Path | None, typer.Option(help="For data: where the sample grid goes. Default: <name>-samples.png.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Look at data, a network's layers, a run or a model file."""
    with output(json, debug, quiet) as to:
        from flambeau.recipe import with_settings
        from flambeau.workflow.inspecting import inspect as look

        arguments = with_settings({}, settings or []).get("model", {})
        found = look(target, shape=_shape(shape), classes=classes, settings=arguments)
        facts = found.facts
        if found.dataset is not None and samples:
            facts = {**facts, "samples": str(_grid(to, found.dataset, samples, png))}
        if not json:
            _PRINTERS[found.kind](to, facts)
        to.result({"kind": found.kind, **facts})


def _shape(text: str) -> tuple[int, int, int]:
    from flambeau.errors import UsageError

    sides = text.lower().split("x")
    if len(sides) != 3 or not all(side.isdigit() and int(side) > 0 for side in sides):
        raise UsageError("This is not a shape.", where="--input", expected="CxHxW, such as 3x64x64", received=text)
    channels, height, width = map(int, sides)
    return channels, height, width


def _grid(to: Output, dataset: Dataset, count: int, png: Path | None) -> Path:
    """Writes the sample grid as PNG and shows it in the terminal."""
    import io

    from flambeau import files
    from flambeau.data.preview import grid, samples, to_terminal

    pictures, captions = samples(dataset, count)
    path = png or Path(f"{dataset.name}-samples.png")
    buffer = io.BytesIO()
    grid(pictures, captions).save(buffer, "PNG")
    files.write(path, buffer.getvalue())
    if not to.json and to.console.is_terminal:
        columns = max(1, to.console.width // 22)
        to.console.print(to_terminal(pictures[: 2 * columns], captions[: 2 * columns], columns))
    return path


def _print_data(to: Output, facts: dict[str, Any]) -> None:
    to.text(f"{facts['name']}: {', '.join(f'{count:,} {split}' for split, count in facts['rows'].items())}")
    splits = list(facts["counts"])
    to.text(f"\n{'class':<24}" + "".join(f"{split:>10}" for split in splits))
    for name in facts["classes"]:
        to.text(f"{name:<24}" + "".join(f"{facts['counts'][split].get(name, 0):>10,}" for split in splits))
    sizes = ", ".join(f"{size['width']}x{size['height']} ({size['count']:,})" for size in facts["sizes"][:5])
    to.text(f"\nsizes     {sizes}")
    to.text(f"channels  {facts['channels']}")
    to.text(f"mean      {_rounded(facts['mean'])}\nstd       {_rounded(facts['std'])}  (of pixels in [0, 1])")
    for key in ("source", "licence", "homepage", "hash", "samples"):
        if facts.get(key):
            to.text(f"{key:<9} {facts[key]}")
    for note in facts["notes"]:
        to.text(f"note: {note}")


def _print_network(to: Output, facts: dict[str, Any]) -> None:
    rows = facts["layers"]
    width = max(len(f"{row['name']} {row['type']}") for row in rows)
    to.text(f"input {'x'.join(map(str, facts['input']))}")
    for row in rows:
        shape = "x".join(map(str, row["output"][1:])) if row["output"] else "-"
        adds = "-" if row["multiply_adds"] is None else f"{row['multiply_adds']:,}"
        head = f"{row['name']} {row['type']}"
        to.text(f"{head:<{width}}  {shape:>12}  {row['parameters']:>10,} parameters  {adds:>12} multiply-adds")
        if row["formula"]:
            to.text(f"{'':<{width}}  {row['formula']}")
    to.text(f"in all {facts['parameters']:,} parameters, {facts['multiply_adds']:,} multiply-adds a picture")


def _print_run(to: Output, facts: dict[str, Any]) -> None:
    data = facts["data"]
    to.text(f"{facts['run']}: {facts['status']}, recipe {facts['recipe']['name']}")
    to.text(f"data {data['name']} {data['examples']}, device {facts['device']}, {facts['threads']} threads")
    for line in facts["metrics"]:
        values = "  ".join(f"{k} {v:.4f}" for k, v in line.items() if "/" in k and isinstance(v, float))
        to.text(f"epoch {line['epoch'] + 1}: {values}")
    for name, value in facts.get("scores", {}).items():
        to.text(f"{name:<28} {value:.6f}")


def _print_model(to: Output, facts: dict[str, Any]) -> None:
    data = facts["data"]
    to.text(f"{facts['architecture']} for {facts['task']}, trained on {data['name']}")
    to.text(f"classes: {', '.join(facts['classes'])}")
    _print_network(to, facts)
    for name, value in facts["scores"].items():
        to.text(f"{name:<28} {value:.6f}")
    to.text(", ".join(f"{name} {value}" for name, value in facts["provenance"].items()))


def _rounded(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


_PRINTERS = {"data": _print_data, "network": _print_network, "run": _print_run, "model": _print_model}
