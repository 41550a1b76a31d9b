"""What computes the answers: a model in PyTorch, or an exported file in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flambeau.errors import UsageError
from flambeau.wire import Wire

if TYPE_CHECKING:
    from flambeau.columns import Split
    from flambeau.export.portable.asking import Asked
    from flambeau.model import Model

Answer = dict[str, Any]


class Engine(Protocol):
    """Reads raw inputs and answers them; the two steps are apart so that examples of several requests go together."""

    platform: str
    """As the Open Inference Protocol calls the framework."""
    wire: Wire
    about: Mapping[str, Any]
    """What there is to say of the model: ``task``, ``classes``, ``scores``, ``data``, ``provenance``."""

    @property
    def model(self) -> Model | None:
        """The model in PyTorch, where that is what answers."""

    def read(self, rows: Sequence[Any]) -> Any:
        """Examples from raw rows. Raises ``BadRows`` naming those that cannot be read."""

    def answers(self, parts: Sequence[Any]) -> list[list[Answer]]:
        """The answers to each part's rows, in order."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Raw rows that are read where they are computed: for small inputs another thread costs more than it saves."""

    rows: Sequence[Any]


def computing(engine: Engine) -> Callable[[Sequence[Any]], list[list[Answer]]]:
    """The engine's answers to parts that may still have to be read.

    Example:
        >>> computing(engine)([engine.read(["a"]), Unread(["b", "c"])])      # doctest: +SKIP
    """

    def compute(parts: Sequence[Any]) -> list[list[Answer]]:
        return engine.answers([engine.read(part.rows) if isinstance(part, Unread) else part for part in parts])

    return compute


class TorchEngine:
    """A model as training left it: the same ``read``, ``predict`` and ``decode``."""

    platform = "pytorch_flambeau"

    def __init__(self, model: Model, megapixels: float) -> None:
        if model.task.wire is None:
            raise UsageError(
                f"The task {model.task.name} does not say how its models are asked over a network.",
                remedy="Give its record a wire (docs/extending.md).",
            )
        rules = model.facts.get("rules")
        if rules is not None:
            least = min(megapixels, rules["max_megapixels"])
            model.facts = {**model.facts, "rules": {**rules, "max_megapixels": least}}
        self.model = model
        self.wire = model.task.wire(model.facts)
        self.about: Mapping[str, Any] = {"architecture": model.description.architecture["name"], **model.summary()}

    def read(self, rows: Sequence[Any]) -> Split:
        """As :meth:`flambeau.Model.read`."""
        return self.model.read(rows)

    def answers(self, parts: Sequence[Split]) -> list[list[Answer]]:
        """One forward pass over the rows of all parts."""
        from flambeau.columns import joined
        from flambeau.export.portable.together import shared_out

        made = self.model.answers(parts[0] if len(parts) == 1 else joined(parts))
        return shared_out(made, [len(part) for part in parts])


class ExportedEngine:
    """An exported file; one of ONNX needs no PyTorch."""

    model = None

    def __init__(self, asked: Asked, wire: Wire, platform: str) -> None:
        self.platform = platform
        self.asked = asked
        self.wire = wire
        self.about = asked.card.values

    def read(self, rows: Sequence[Any]) -> Any:
        """What goes into the graph, for rows of like shape together."""
        return self.asked.read(rows)

    def answers(self, parts: Sequence[Any]) -> list[list[Answer]]:
        """The graph is called for the rows of all parts whose shapes are equal together."""
        return self.asked.answers(parts)


def torch_engine(path: Path, megapixels: float, *, network: Any, trust_code: bool, device: str) -> TorchEngine:
    """The model of a run folder or a file. Raises as :func:`flambeau.load` does."""
    from flambeau.model import load

    return TorchEngine(load(path, device=device, network=network, trust_code=trust_code), megapixels)


PLATFORMS = {"onnx": "onnxruntime_onnx", "openvino": "openvino"}

ASKED = {"tokens": ("text", "continuations"), "words": ("query", "neighbours")}
"""The wire of files whose graphs take and give something else than those who ask, by ``preprocessing.front``."""


def exported_engine(path: Path, form: str, megapixels: float, *, trust_code: bool) -> ExportedEngine:
    """An exported file. Raises as ``flambeau predict`` does of one."""
    from flambeau.export.portable.exported import open_exported
    from flambeau.tasks.wires import wire

    opened = open_exported(path, form, trust_code=trust_code)
    about = opened.card.about
    if "rules" in about:
        rules = about["rules"]
        rules["max_megapixels"] = min(megapixels, rules["max_megapixels"])
    answer = about["answer"]
    facts = {**about, "classes": opened.card.values.get("classes"), "targets": answer.get("targets")}
    front, kind = ASKED.get(str(about["front"]), (str(about["front"]), str(answer["kind"])))
    made = wire(front, kind, facts)
    return ExportedEngine(opened, made, PLATFORMS.get(form, f"pytorch_{form}"))


def converted_engine(path: Path, megapixels: float, *, network: Any, trust_code: bool) -> ExportedEngine:
    """A run or a model as ONNX: exported into a folder, compared, and read, after which the folder is not needed."""
    import tempfile

    from flambeau.export.portable.card import format_of
    from flambeau.export.writing import export_model

    with tempfile.TemporaryDirectory(prefix="flambeau-serve-", ignore_cleanup_errors=True) as folder:
        result = export_model(path, Path(folder) / "model.onnx", "onnx", network=network, trust_code=trust_code)
        file = next(Path(name) for name in result["files"] if name.endswith(".onnx"))
        return exported_engine(file, format_of(file) or "onnx", megapixels, trust_code=False)
