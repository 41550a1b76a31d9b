"""What runs an exported file: ONNX Runtime, OpenVINO or PyTorch, each imported for its own files only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flambeau.errors import FlambeauError, MissingExtra, ModelError, one_line
from flambeau.export.portable import card as cards
from flambeau.export.portable.asking import Inputs, Run
from flambeau.export.portable.card import Card


@dataclass(frozen=True, slots=True)
class File:
    """An exported file that has been looked at.

    Attributes:
        card: What it says about itself.
        load: Makes what runs it. Raises ``ModelError`` where it is damaged.
    """

    card: Card
    load: Callable[[], Run]


def look(path: Path, form: str) -> File:
    """An exported file of a format; nothing is run.

    Raises:
        ModelError: It is damaged, or is none of ours.
        MissingExtra: What reads it is not installed.
    """
    if form == "onnx":
        session = onnx_session(path)
        return File(onnx_card(session, path), lambda: _guarded(lambda inputs: run_session(session, inputs), path))
    text = cards.in_xml(path) if form == "openvino" else cards.in_archive(path, form)
    load = openvino_run if form == "openvino" else lambda file: _with_torch(file, form)
    return File(cards.read(text, path), lambda: _guarded(_loaded(load, path), path))


def _guarded(run: Run, path: Path) -> Run:
    """A call whose failure is an error that names the file."""

    def call(inputs: Inputs) -> Inputs:
        try:
            return run(inputs)
        except Exception as error:  # runtimes raise classes of their own
            raise ModelError("The file cannot be run.", where=path, received=one_line(error, 300)) from error

    return call


def _loaded(load: Callable[[Path], Run], path: Path) -> Run:
    try:
        return load(path)
    except FlambeauError:
        raise
    except Exception as error:  # runtimes raise whatever they meet in a damaged file
        raise _unloadable(path, error) from error


def _unloadable(path: Path, error: Exception) -> ModelError:
    return ModelError(
        "The file cannot be loaded.",
        where=path,
        received=one_line(error, 300),
        remedy="It is damaged or cut short, or needs another machine or a newer version of what runs it; copy it anew, "
        "or export it again here.",
    )


def onnx_session(path: Path) -> Any:
    """What runs an ONNX file on the CPU.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        ModelError: The file is damaged.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "onnx", "running ONNX files") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Threads that wait by spinning would take the time of a second processor for nothing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit():  # what other runtimes go by, and ONNX Runtime does not by itself
        options.intra_op_num_threads = int(threads)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the package raises classes of its own
        raise _unloadable(path, error) from error


def onnx_card(session: Any, path: Path) -> Card:
    """The card in the metadata of an ONNX file.

    Raises:
        ModelError: There is none, or it is damaged.
    """
    inputs = ", ".join(f"{value.name} {value.type}{value.shape}" for value in session.get_inputs())
    return cards.read(session.get_modelmeta().custom_metadata_map.get(cards.KEY), path, inputs)


def run_session(session: Any, inputs: Mapping[str, Any]) -> Inputs:
    """The outputs of an ONNX file by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def openvino_run(path: Path) -> Run:
    """What runs an OpenVINO file on the CPU, in float32.

    Raises:
        MissingExtra: OpenVINO is not installed.
        ModelError: The file with the weights is not beside it.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino", "openvino", "running OpenVINO files") from error
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ModelError(
            "An OpenVINO model has two files, and the one with the weights is not beside this one.",
            where=path,
            expected=weights.name,
            remedy="Keep the files together, under the names that `flambeau export` gave them.",
        )
    compiled = openvino.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.get_any_name() for output in compiled.outputs]

    def run(inputs: Inputs) -> Inputs:
        made = compiled({name: np.ascontiguousarray(value) for name, value in inputs.items()})
        return {name: np.array(made[place]) for place, name in enumerate(names)}

    return run


def _with_torch(path: Path, form: str) -> Run:
    import torch

    from flambeau import catalog
    from flambeau.core import Batch

    run = catalog.find("formats", form).open(path)

    def call(inputs: Inputs) -> Inputs:
        batch: Batch = {name: torch.from_numpy(value) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in run(batch).items()}

    return call
