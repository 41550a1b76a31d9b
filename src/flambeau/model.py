"""The saved model: one ``.safetensors`` file that says what it is, and the object that predicts with it.

The file is a standard safetensors file. Its one metadata entry, ``flambeau``, is a JSON text with everything but the
weights: task, architecture by name, facts, preprocessing, scores, recipe, provenance, the SHA-256 of the tensor bytes
and its own. Nothing in it is ever executed; a network of the user's own class carries its source text and is built
only when the class is given or ``trust_code=True`` is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor, nn

from flambeau import catalog, files
from flambeau.columns import Split
from flambeau.core import Batch, Builder, Facts, device_of
from flambeau.engine import device as devices
from flambeau.engine.codec import without_aliases
from flambeau.engine.evaluate import evaluation_mode
from flambeau.errors import DataError, FlambeauError, ModelError
from flambeau.modelfile import Description, Header, pack, read_header
from flambeau.recipe import Recipe, parse
from flambeau.task import Task
from flambeau.tasks.answers import asked, with_doubt
from flambeau.userfile import in_file

if TYPE_CHECKING:
    from flambeau.run import Run

BATCH = 64


class Model:
    """A trained network with all that is needed to use it.

    Made by :func:`load` or by a run; not meant to be constructed by hand.

    Attributes:
        network: The network with its normalisation and temperature, in evaluation mode.
        task: What it does.
        facts: What it learnt from its training data (classes, size, statistics).
        description: What the file says about it.

    Example:
        >>> model = flambeau.load("runs/demo")                       # doctest: +SKIP
        >>> model.predict("shirt.png")["class"]                      # doctest: +SKIP
        'Shirt'
    """

    def __init__(self, network: nn.Module, task: Task, facts: Facts, description: Description) -> None:
        self.network = network.eval()
        self.task = task
        self.facts = facts
        self.description = description

    @property
    def classes(self) -> list[str]:
        """The class names, in the order of the logits."""
        return list(self.facts.get("classes", []))

    @property
    def scores(self) -> dict[str, float]:
        """The scores that were measured when it was trained, such as ``test/accuracy``."""
        return dict(self.description.scores)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return device_of(self.network)

    def to(self, device: str) -> Model:
        """Moves the weights to a device; returns the model itself."""
        self.network.to(devices.choose(device))
        return self

    def predict(self, inputs: Any, *, top: int | None = None, abstain_below: float | None = None) -> Any:
        """Predicts one input or several.

        Args:
            inputs: What the task takes. For pictures a path, bytes, a PIL picture, an array ``(H, W)`` or
                ``(H, W, C)``, a tensor ``(C, H, W)``, all uint8; for texts a ``str``. Or several: a list of these, or
                an array or tensor of pictures with a batch dimension in front.
            top: How many classes to list, where one of them is the answer; all by default.
            abstain_below: Gives no answer (``"class"`` is None, ``"abstains"`` is True) where the most probable class
                has less than this probability.

        Returns:
            For each input what the task's ``decode`` gives. For pictures ``{"class": name, "probability": p,
            "classes": [{"class": name, "probability": p}, ...]}``, the most probable class first, and ``"doubt"``, a
            sentence, for a picture unlike all that the model was trained on. One such dictionary for one input, a
            list for several.

        Raises:
            BadRows: An input cannot be read.
            UsageError: ``abstain_below`` is not a probability, or the model gives none.
        """
        several = _as_several(inputs)
        rows = [inputs] if several is None else several
        decoded: list[Any] = []
        for start in range(0, len(rows), BATCH):
            decoded += self._predict_rows(rows[start : start + BATCH])
        decoded = asked(decoded, top, abstain_below)
        return decoded[0] if several is None else decoded

    def _predict_rows(self, rows: list[Any]) -> list[Any]:
        return self.answers(self.read(rows))

    def read(self, rows: Sequence[Any]) -> Split:
        """Raw inputs as the examples that the network sees; those of several calls can be joined.

        Raises:
            BadRows: Some cannot be read.
        """
        return Split(self.task.read({self.task.input: list(rows)}, self.facts))

    def answers(self, examples: Split) -> list[Any]:
        """The answers to examples, in order, as :meth:`predict` gives them."""
        batch = self.task.collate(examples.columns)
        decoded = self.task.decode(self.outputs(batch), self.facts)
        doubts = self.task.doubts(batch, self.facts)
        return [with_doubt(row, doubt) for row, doubt in zip(decoded, doubts, strict=True)]

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """What the network gives for a batch, on the model's device and without gradients."""
        on_device = {name: tensor.to(self.device) for name, tensor in batch.items()}
        with torch.inference_mode(), evaluation_mode(self.network):
            return self.task.predict(self.network, on_device)

    def save(self, path: str | Path) -> Path:
        """Writes the model as one file, which :func:`load` reads.

        Raises:
            ModelError: A weight is not finite.
            RunError: The file cannot be written; an earlier one of that name is intact.
        """
        state = self.network.state_dict()
        for name, value in state.items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise ModelError("A model whose weights are not finite is not saved.", where=name)
        weights, aliases = without_aliases(state)
        description = self.description.model_copy(update={"aliases": aliases, "facts": self.facts})
        files.write(Path(path), pack(safetensors.torch.save(weights), description))
        return Path(path)

    def summary(self) -> dict[str, Any]:
        """What the model is, as JSON values."""
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        return {
            "task": self.task.name,
            "architecture": self.description.architecture["name"],
            "parameters": parameters,
            "classes": self.classes,
            "facts": self.facts,
            "data": self.description.data,
            "scores": self.scores,
            "provenance": self.description.provenance,
        }

    def __repr__(self) -> str:
        accuracy = self.scores.get("test/accuracy")
        score = "" if accuracy is None else f", test accuracy {accuracy:.2%}"
        what = f"{len(self.classes)} classes" if self.classes else self.task.name
        return f"Model({self.description.architecture['name']}, {what}{score})"

    def _repr_html_(self) -> str:
        from flambeau.report.notebook import table_html

        rows = {"task": self.task.name, "architecture": self.description.architecture["name"]}
        rows |= {"classes": ", ".join(self.classes)} if self.classes else {}
        return table_html("Model", rows | self.scores)


def describe(recipe: Recipe, facts: Facts, *, data: Mapping[str, Any], source: str | None, run: str) -> Description:
    """The description of a model that was trained here.

    Args:
        recipe: What it was trained by.
        facts: What it learnt from its data.
        data: Name and hash of that data.
        source: The source text of the user's own class, or None.
        run: The run's name.
    """
    from flambeau import __version__

    return Description(
        task=recipe.task,
        architecture={"name": recipe.model.name, "arguments": recipe.model.arguments(), "source": source},
        facts=facts,
        recipe=recipe.to_dict(),
        data=dict(data),
        provenance={"flambeau": __version__, "torch": torch.__version__, "run": run},
    )


def load(path: str | Path | Run, *, device: str = "cpu", network: Any = None, trust_code: bool = False) -> Model | Any:
    """Loads a saved model, or the model of a run.

    Args:
        path: A ``.safetensors`` file, a run folder, or a run.
        device: Where to put the weights.
        network: The class (or a function that makes the network) of a model of the user's own class.
        trust_code: Runs the source text that such a model carries. Only for files whose origin is known.

    Raises:
        ModelError: The file is damaged, is not a model of Flambeau, or holds a network that this call cannot build.
        RunError: The run is not finished.
    """
    from flambeau.run import MODEL, Run

    target = path.path if isinstance(path, Run) else Path(path)
    if target.is_dir():
        run = Run(target)
        if not (target / MODEL).is_file():
            return run.model  # raises, and says how to finish the run
        target = target / MODEL
    return load_file(target, device=device, network=network, trust_code=trust_code)


def load_file(path: Path, *, device: str = "cpu", network: Any = None, trust_code: bool = False) -> Model:
    """Loads a model file. Names, shapes, sizes and checksums are checked before anything is allocated."""
    where = devices.choose(device)
    header = read_header(path)
    description = header.description
    if in_file(description.task) and not trust_code:
        raise ModelError(
            f"The model is of a task of its own, {description.task}, which is a file on the machine that trained it.",
            where=path,
            remedy="Say trust_code=True (--trust-code) to run that file here, if you know what it does.",
        )
    try:
        recipe = parse(description.recipe, where=path)
        task = catalog.task(description.task)
        builder = _builder(description, network, trust_code, path)
        _compare_shapes(header, task, recipe, builder, path)
    except ModelError:
        raise
    except FlambeauError as error:
        raise ModelError(
            f"The network that the file describes cannot be built: {error.problem}", where=path, remedy=error.remedy
        ) from error
    weights = header.read_tensors()
    weights |= {name: weights[kept] for name, kept in description.aliases.items() if kept in weights}
    built = task.build(recipe, description.facts, builder)
    _load_weights(built, weights, path)
    return Model(built.to(where), task, description.facts, description)


def _builder(description: Description, network: Any, trust_code: bool, path: Path) -> Builder:
    """Finds what builds the network: the catalog, the given class, or the source text if it may be trusted."""
    name = description.architecture["name"]
    source = description.architecture.get("source")
    if network is None and source is None and not in_file(name):
        return catalog.builder(name, catalog.task(description.task))
    if network is None and (source is None or not trust_code):
        raise ModelError(
            f"The model is of a class of its own, {name}, which is not part of the file's weights.",
            where=path,
            remedy="Give the class (network=Net, or --network FILE.py:CLASS), or say trust_code=True (--trust-code) to "
            "run the source text that the file carries, if you know where the file comes from.",
        )
    from flambeau.models.custom import from_object
    from flambeau.userfile import object_from_source

    made_by = network if network is not None else object_from_source(source or "", name.rpartition(":")[2], where=path)
    return lambda facts, **arguments: from_object(made_by, facts, arguments, where=name)


def _compare_shapes(header: Header, task: Task, recipe: Recipe, builder: Builder, path: Path) -> None:
    """Compares names and shapes with the network's, built without memory where that is possible."""
    facts = header.description.facts
    try:
        with torch.device("meta"):
            built = task.build(recipe, facts, builder)
    except FlambeauError:
        raise
    except Exception:  # a constructor of the user's own may do anything, such as read a value, which "meta" has not
        built = _built_or_refused(task, recipe, facts, builder, path)
    wanted = {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    found = {
        **header.shapes,
        **{name: header.shapes.get(kept, ()) for name, kept in header.description.aliases.items()},
    }
    if wanted != found:
        names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise ModelError(
            "The tensors are not those of the architecture that the file names.",
            where=path,
            expected="; ".join(f"{name} {wanted.get(name, 'absent')}" for name in names[:3]),
            received="; ".join(f"{name} {found.get(name, 'absent')}" for name in names[:3]),
        )


def _built_or_refused(task: Task, recipe: Recipe, facts: Facts, builder: Builder, path: Path) -> nn.Module:
    try:
        return task.build(recipe, facts, builder)
    except FlambeauError:
        raise
    except Exception as error:  # what the file says of itself is not to be believed, and may fail anywhere
        raise ModelError(
            f"The network that the file describes cannot be built ({type(error).__name__}: {error}).", where=path
        ) from error


def _load_weights(built: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    for name, wanted in built.state_dict().items():
        if weights[name].dtype != wanted.dtype:
            raise ModelError(
                "A tensor is not of the type that the architecture has.",
                where=f"{path}: {name}",
                expected=wanted.dtype,
                received=weights[name].dtype,
            )
    built.load_state_dict(weights)


def _as_several(inputs: Any) -> list[Any] | None:
    """The inputs as a list when there are several, None when there is one."""
    if isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[1], int | float):
        return None  # samples of sound and their rate
    if isinstance(inputs, list | tuple):
        return list(inputs)
    dimensions = getattr(inputs, "ndim", None)
    if dimensions is not None and dimensions >= 4:
        return list(inputs if isinstance(inputs, Tensor) else iter(inputs))
    if isinstance(inputs, Iterable) and not isinstance(inputs, str | bytes | Path | Mapping) and dimensions is None:
        if hasattr(inputs, "getbands"):  # a PIL picture
            return None
        return list(inputs)
    if inputs is None:
        raise DataError("There is nothing to predict.", received="None")
    return None
