"""An exported file as a model: it takes what the model took, and answers as it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from flambeau.errors import BadRows, FlambeauError, MissingExtra, ModelError, UsageError, one_line
from flambeau.export.portable import card as cards
from flambeau.export.portable.asking import Asked, Inputs, Run, Shown
from flambeau.export.portable.card import Card
from flambeau.export.portable.fronts import FRONTS, Front
from flambeau.export.portable.together import grouped, rows_of
from flambeau.export.portable.translating import translating
from flambeau.tasks.answers import KINDS, Answers, asked

TRANSLATION = "translation"
"""The front of files that are searched, two together."""


class Exported:
    """An exported file with what is needed to ask it. Made by :func:`open_exported`.

    Attributes:
        card: What the file says about itself.
        view: How people ask, and what they are shown.
    """

    def __init__(self, card: Card, run: Run) -> None:
        self.card = card
        self._run = run
        self._front, self._answers = _known(card)
        self.view = Shown(self._front.inputs, self._answers.line, self._answers.cells)

    def predict(
        self, inputs: Sequence[Any], *, top: int | None = None, abstain_below: float | None = None
    ) -> list[Any]:
        """The answers to raw inputs, as :meth:`flambeau.Model.predict` gives them but for ``doubt``.

        Args:
            inputs: Paths, bytes, pictures or arrays; or texts.
            top: How many classes to list; all by default.
            abstain_below: Gives no answer where the most probable class has less than this probability.

        Raises:
            BadRows: An input cannot be read.
            ModelError: The file cannot be run on an input.
            UsageError: ``abstain_below`` is not a probability, or the answers have none.
        """
        return asked(self.answers([self.read(inputs)])[0], top, abstain_below)

    def read(self, inputs: Sequence[Any]) -> list[Inputs]:
        """What goes into the graph, for neighbours of one shape together.

        Raises:
            BadRows: Some cannot be read.
        """
        bad: dict[int, FlambeauError] = {}
        made = list(self._front.batches(inputs, self.card.about, bad))
        if bad:
            raise BadRows(bad)
        return made

    def answers(self, parts: Sequence[list[Inputs]]) -> list[list[Any]]:
        """The answers to each part's inputs, in order; neighbours of one shape go through the graph together."""
        batches = [batch for part in parts for batch in part]
        rows = [row for group in grouped(batches, self.card.about) for row in self._answered(group)]
        ends = list(accumulate(sum(map(rows_of, part)) for part in parts))
        return [rows[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _answered(self, batch: Inputs) -> list[Any]:
        values, about = self.card.values, self.card.about["answer"]
        names = about["targets"] if "targets" in about else values["classes"]
        return [self._answers.of(names, row) for row in self._run(batch)[self._answers.output].tolist()]


def _known(card: Card) -> tuple[Front, Answers]:
    about = card.about
    front, kind = FRONTS.get(str(about.get("front"))), KINDS.get(str(about.get("answer", {}).get("kind")))
    if front is None or kind is None or len(card.values["inputs"]) != 1:
        raise UsageError(
            f"Exported files of the task {card.values['task']} are not answered here.",
            where=card.path,
            expected="a model of pictures or texts, or a translator",
            remedy="Ask the run or the model file that it was exported from, or call the file from code of your own: "
            "`flambeau inspect` says what goes in and comes out.",
        )
    return front, kind


def open_exported(path: Path, form: str, *, trust_code: bool = False) -> Asked:
    """A file that can be asked.

    Args:
        path: The file.
        form: Its format, which :func:`flambeau.export.portable.card.format_of` tells.
        trust_code: Runs the machine code that an AOTInductor package holds. Only for files whose origin is known.

    Raises:
        ModelError: It is damaged, or is none of ours, or holds code that is not trusted.
        MissingExtra: What runs it is not installed.
        UsageError: Nothing here makes its inputs.
    """
    card = read_card(path, form)
    if form == "aoti" and not trust_code:
        raise ModelError(
            "The file holds compiled code, which runs when it is opened.",
            where=path,
            remedy="Say --trust-code to run it here, if you know where the file comes from.",
        )
    if card.about.get("front") == TRANSLATION:
        return translating(card, lambda file: _guarded(_runner(file, form), file))
    _known(card)  # before anything large is loaded for nothing
    return Exported(card, _guarded(_runner(path, form), path))


def read_card(path: Path, form: str) -> Card:
    """What a file says about itself. Raises as :func:`open_exported` does; nothing is run."""
    return onnx_card(onnx_session(path), path) if form == "onnx" else cards.read(cards.in_archive(path, form), path)


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
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the package raises classes of its own
        raise ModelError(
            "The ONNX file cannot be loaded.",
            where=path,
            received=one_line(error, 300),
            remedy="It is damaged, cut short, or needs a newer ONNX Runtime; export or copy it again.",
        ) from error


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


def _guarded(run: Run, path: Path) -> Run:
    """A call whose failure is an error that names the file."""

    def call(inputs: Inputs) -> Inputs:
        try:
            return run(inputs)
        except Exception as error:  # runtimes raise classes of their own
            raise ModelError("The file cannot be run.", where=path, received=one_line(error, 300)) from error

    return call


def _runner(path: Path, form: str) -> Run:
    if form == "onnx":
        session = onnx_session(path)
        return lambda inputs: run_session(session, inputs)
    import torch

    from flambeau import catalog
    from flambeau.core import Batch

    try:
        run = catalog.find("formats", form).open(path)
    except FlambeauError:
        raise
    except Exception as error:  # PyTorch raises whatever it meets in a damaged file
        raise ModelError(
            "The file cannot be loaded.",
            where=path,
            received=one_line(error, 300),
            remedy="It is damaged, or of a PyTorch or a machine that this one is not; export it again here.",
        ) from error

    def call(inputs: Inputs) -> Inputs:
        batch: Batch = {name: torch.from_numpy(value) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in run(batch).items()}

    return call
