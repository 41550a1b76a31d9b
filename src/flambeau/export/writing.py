"""A model written in a form that other programs read."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flambeau import catalog, files
from flambeau.core import Batch
from flambeau.engine.evaluate import evaluation_mode
from flambeau.errors import ModelError, UsageError, one_line
from flambeau.export import gate
from flambeau.export.calibration import Calls, calibration_calls, latency
from flambeau.export.formats import Format, Runner
from flambeau.export.portable.card import VERSION
from flambeau.export.precision import in_half
from flambeau.export.recurrence import with_gates
from flambeau.model import Model, load
from flambeau.program import Call, Graph, Port, Program, Wish
from flambeau.recipe import parse
from flambeau.run import Run
from flambeau.workflow.rows import rows_of

Tell = Callable[[str], None]

LARGEST = 4096
"""The longest side of pictures that a graph is made for; larger ones are a slip of the finger."""


def export_model(
    model: str | Path | Run | Model,
    out: str | Path | None = None,
    format: str = "state-dict",  # noqa: A002 - as the command's option
    *,
    static: bool = False,
    size: int | tuple[int, int] | None = None,
    weights: str = "float32",
    network: Any = None,
    trust_code: bool = False,
    tell: Tell = lambda sentence: None,
) -> dict[str, Any]:
    """Writes a model in another format.

    Args:
        model: A run, a model, or the path of one.
        out: The file to write; one of that name is replaced. Default: beside the model, named after the format.
        format: ``state-dict``, a ``.pth`` file for plain PyTorch; ``onnx``, ``pt2``, ``aoti``, ``torchscript``, graphs
            that hold the preprocessing too; or a format of another package.
        static: Graphs only: one row of one shape, without layout and resize, for compilers of small devices.
        size: Height and width of pictures that the graph works at, where that is not the model's own.
        weights: ``float32``; ``float16`` for a file of half the size that computes in float32; ``int8`` for arithmetic
            in 8 bits, where the format has it.
        network: As for :func:`flambeau.load`.
        trust_code: As for :func:`flambeau.load`.
        tell: Told what is going on, in sentences.

    Returns:
        What the format says about the file: ``out`` and, for ``state-dict``, ``tensors`` and ``preprocessing`` (size,
        channels, mean and standard deviation of pixels in [0, 1], classes); for graphs ``files``, ``examples`` (how
        many test examples were compared, ``of`` how many), ``strangers`` (made-up inputs of other shapes),
        ``differences`` (the largest one of each output), ``scores`` and ``model_scores`` on these examples, and for
        ``int8`` ``milliseconds`` of a call with ``float32`` and ``int8``.

    Raises:
        UsageError: Nobody knows the format, or the task has no such form.
        MissingExtra: The format needs a package that is not installed.
        ModelError: The model cannot be loaded or exported, or the file does not answer as the model does.
        FlambeauError: The file cannot be written.

    Example:
        >>> export_model("runs/demo", "model.onnx", "onnx")["differences"]          # doctest: +SKIP
        {'probabilities': 2.9e-07}
    """
    chosen = catalog.find("formats", format)
    loaded = model if isinstance(model, Model) else load(model, network=network, trust_code=trust_code)
    if not isinstance(chosen, Format):
        if static or size is not None or weights != "float32":
            raise UsageError("Shape and precision can be chosen for graphs only.", where=f"--format {format}")
        path = _named(_path(model, out, ".pth" if format == "state-dict" else ".txt"))
        result: dict[str, Any] = chosen(loaded, path)
        return result
    chosen.require()
    known = (*chosen.weights, *(("int8",) if chosen.quantize else ()))
    if weights not in known:
        raise UsageError(
            f"The format {format} has no such weights.", where="--weights", expected=", ".join(known), received=weights
        )
    path = _named(_path(model, out, chosen.suffix), chosen)
    return _export_graphs(_sized(loaded, size), path, chosen, Wish(static, chosen.plain), weights, tell)


def _path(model: str | Path | Run | Model, out: str | Path | None, suffix: str) -> Path:
    if out is not None:
        return Path(out)
    if isinstance(model, Model):
        raise UsageError("Where to write is not said.", where="out")
    home = model.path if isinstance(model, Run) else Path(model)
    return home / f"model{suffix}" if home.is_dir() else home.with_suffix(suffix)


def _named(path: Path, form: Format | None = None) -> Path:
    """A path that can be the name of a file of a format.

    Raises:
        UsageError: It is a folder or in none, or does not end as the format's files have to.
    """
    if form is not None and not path.parent.is_dir():
        raise UsageError(
            "There is no such folder to write to.", where=path.parent, remedy="Make it, or choose another."
        )
    if path.is_dir():
        raise UsageError(
            "This is a folder, and a file is to be written.",
            where="--out",
            received=path,
            remedy=f"Name the file, as in {path / 'model'}{'' if form is None else form.suffix}.",
        )
    if form is not None and form.strict and path.suffix != form.suffix:
        raise UsageError(
            f"Files of the format {form.name} have to end in {form.suffix}.",
            where="--out",
            received=path,
            remedy=f"Name it {path.with_suffix(form.suffix)}.",
        )
    return path


def _sized(model: Model, size: int | tuple[int, int] | None) -> Model:
    """A copy of the model on the CPU that works at another size of pictures, where one is asked for."""
    made = Model(copy.deepcopy(model.network).cpu(), model.task, model.facts, model.description)
    if size is None:
        return made
    if "size" not in model.facts or "rules" not in model.facts:
        raise UsageError("A size is for models of pictures.", where="--size", received=model.task.name)
    sides = (size, size) if isinstance(size, int) else size
    if not 1 <= min(sides) <= max(sides) <= LARGEST:
        raise UsageError("This is not a size.", where="--size", expected=f"sides from 1 to {LARGEST:,}", received=size)
    made.facts = {**model.facts, "size": list(sides)}
    _try(made)
    return made


def _try(model: Model) -> None:
    """Runs a model once at the size that was asked for.

    Raises:
        ModelError: Its network cannot take pictures of it.
    """
    try:
        with torch.inference_mode(), evaluation_mode(model.network):
            model.task.predict(model.network, model.task.example(model.facts))
    except Exception as error:  # networks raise whatever their layers do
        raise ModelError(
            "The network cannot take pictures of this size.",
            where="--size",
            received=one_line(error, 300),
            remedy="Choose a larger or a smaller one, or leave --size out for the size that it was trained at.",
        ) from error


def _export_graphs(model: Model, out: Path, form: Format, wish: Wish, weights: str, tell: Tell) -> dict[str, Any]:
    program = program_of(model, wish)
    rows, reason = rows_of(model, "test")
    if reason is not None:
        tell(f"Only made-up inputs are compared, for {reason}.")
    written = in_half(program) if weights == "float16" else program
    calls = calibration_calls(model, program) if weights == "int8" else None
    with _aside(out) as folder:
        paths: dict[str, Path] = {}
        for graph in written.graphs:
            path = _graph_path(Path(folder) / out.name, graph.name, len(written.graphs) > 1)
            tell(f"Writing {path.name} ...")
            card = _card(model, written, graph, weights)
            if calls is not None and form.quantize is not None:
                form.quantize(graph, path, card, calls[graph.name])
            else:
                form.write(graph, path, card)
            paths[graph.name] = path
        for end, content in program.beside.items():
            (Path(folder) / f"{out.stem}.{end}").write_bytes(content)
        tell("Comparing it with the model ...")
        call = calling(form, paths)
        verdict = gate.pass_through(model, program, call, rows, exact=weights == "float32")
        speeds = {} if calls is None else _speeds(program, form, call, calls, Path(folder))
        kept = []
        for path in sorted(Path(folder).iterdir()):
            kept.append(out.parent / path.name)
            os.replace(path, kept[-1])  # noqa: PTH105 - each file appears whole or not at all
    if wish.static:
        beside = out.with_suffix(".json")
        files.write_json(beside, json.loads(_card(model, written, written.graphs[0], weights)))
        kept.append(beside)
    return {
        "out": str(out),
        "format": form.name,
        "files": [str(path) for path in kept],
        "bytes": sum(path.stat().st_size for path in kept),
        "examples": verdict.examples,
        "of": verdict.of,
        "strangers": verdict.strangers,
        "differences": verdict.differences,
        "scores": verdict.after,
        "model_scores": verdict.before,
        "milliseconds": speeds,
        "select": model.task.metrics(parse(model.description.recipe), model.facts).select,
        "inputs": {f"{graph.name}.{port.name}": _told(port) for graph in program.graphs for port in graph.inputs},
        "outputs": {f"{graph.name}.{name}": about for graph in program.graphs for name, about in graph.outputs.items()},
    }


def _speeds(program: Program, form: Format, call: Call, calls: Calls, folder: Path) -> dict[str, float]:
    """Milliseconds of a call of the graphs in whole numbers and, in a file of the same format, in float32."""
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        paths = {graph.name: Path(aside) / f"{graph.name}{form.suffix}" for graph in program.graphs}
        for graph in program.graphs:
            form.write(graph, paths[graph.name], json.dumps(_ports(graph)))
        return {"float32": latency(calling(form, paths), calls), "int8": latency(call, calls)}


def _aside(out: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder beside a file that is to be written."""
    try:
        return tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")
    except OSError as error:
        raise UsageError(
            f"Nothing can be written to this folder: {error.strerror}.", where=out.parent, remedy="Choose another."
        ) from error


def _graph_path(out: Path, name: str, several: bool) -> Path:
    """The file of a graph: the one asked for, or where there are several one for each, named after it."""
    return out.with_name(f"{out.stem}.{name}{out.suffix}") if several else out


def program_of(model: Model, wish: Wish) -> Program:
    """The graphs of a model.

    Raises:
        UsageError: Its task has none.
    """
    if model.task.program is None:
        raise UsageError(
            f"The task {model.task.name} says nothing about graphs, so its models cannot be exported as one.",
            remedy="Use --format state-dict, or give the task a program (docs/extending.md).",
        )
    return model.task.program(with_gates(model.network), model.facts, wish)


def calling(form: Format, paths: Mapping[str, Path]) -> Call:
    """Calls the files of a program."""
    runners: dict[str, Runner] = {name: form.open(path) for name, path in paths.items()}

    def call(name: str, inputs: Batch) -> dict[str, Tensor]:
        return runners[name](inputs)

    return call


def _card(model: Model, program: Program, graph: Graph, weights: str) -> str:
    """What the file says about itself, as a JSON text."""
    from flambeau import __version__

    told = {
        "card": VERSION,
        "task": model.task.name,
        **_ports(graph),
        **({"classes": model.classes} if model.classes else {}),
        "preprocessing": dict(program.card),
        "weights": weights,
        "scores": model.scores,
        "data": dict(model.description.data),
        "provenance": {**model.description.provenance, "exported_by": __version__, "torch": version("torch")},
    }
    return json.dumps(told, ensure_ascii=False)


def _ports(graph: Graph) -> dict[str, Any]:
    """What goes into a graph and comes out, which every file says of itself."""
    inputs = {port.name: _told(port) for port in graph.inputs}
    return {"graph": graph.name, "inputs": inputs, "outputs": dict(graph.outputs)}


def _told(port: Port) -> dict[str, Any]:
    """An input in JSON values; an axis that varies has a name in place of its length."""
    sides = zip(port.axes, port.example.shape, strict=True)
    return {
        "about": port.about,
        "dtype": str(port.example.dtype).removeprefix("torch."),
        "shape": [side if axis is None else axis for axis, side in sides],
    }
