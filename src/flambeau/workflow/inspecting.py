"""What can be seen of a thing before, and after, it is trained: data, networks, runs and model files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from flambeau import catalog, datasets
from flambeau.core import Dataset, Facts
from flambeau.data.preview import describe
from flambeau.errors import DataError, FlambeauError, ModelError, RecipeError, UsageError, did_you_mean
from flambeau.model import Model, load
from flambeau.models.fit import check_fit
from flambeau.models.inspection import layers, totals
from flambeau.run import RECIPE, Run
from flambeau.userfile import load_object


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Attributes:
        kind: What it is.
        facts: Everything about it, as JSON values.
        dataset: The data set, for ``data``.
    """

    kind: Literal["data", "network", "run", "model"]
    facts: dict[str, Any]
    dataset: Dataset | None = None


def inspect(
    target: Any,
    *,
    shape: tuple[int, int, int] = (1, 28, 28),
    classes: int = 10,
    settings: dict[str, Any] | None = None,
    network: Any = None,
    trust_code: bool = False,
) -> Inspection:
    """Looks at a data source, a network, a run or a model file.

    Args:
        target: A data source (as for :func:`flambeau.train`), a model's name, ``FILE.py:CLASS`` of either, a run
            folder, a ``.safetensors`` file, or such an object.
        shape: For a network: the picture's ``(channels, height, width)``.
        classes: For a network: how many classes.
        settings: For a network: arguments of its builder.
        network: For a run or model of the user's own class: as for :func:`flambeau.load`.
        trust_code: As for :func:`flambeau.load`.

    Returns:
        ``kind`` and ``facts``; for data the data set, too.

    Raises:
        UsageError: It is none of these.
        RecipeError: The network has no such arguments.
        ModelError: The network does not take pictures of that shape.

    Example:
        >>> inspect("mlp").facts["parameters"]
        669706
    """
    facts: Facts = {"classes": [str(n) for n in range(classes)], "size": list(shape[1:]), "channels": shape[0]}
    if isinstance(target, Run):
        return _run(target, network, trust_code)
    if isinstance(target, Model):
        return _model(target)
    if isinstance(target, nn.Module):
        return _network(type(target).__name__, target, shape)
    if not isinstance(target, str | Path):
        return _data(target)
    text, path = str(target), Path(target)
    if text in catalog.names("datasets"):
        return _data(text)
    if text in catalog.names("models"):
        mistakes = list(catalog.check_names({"model": {**(settings or {}), "name": text}}))
        if mistakes:
            raise RecipeError(mistakes)
        return _network(text, catalog.builder(text)(facts, **(settings or {})), shape)
    if (path / RECIPE).is_file():
        return _run(Run(path), network, trust_code)
    if path.is_file() and path.suffix == ".safetensors":
        return _model(load(path, network=network, trust_code=trust_code))
    if ".py:" in text:
        found = load_object(text)
        if isinstance(found, type) and issubclass(found, nn.Module):
            return _network(text, catalog.builder(text)(facts, **(settings or {})), shape)
        return _data(text)
    return _folder(text)


def _folder(text: str) -> Inspection:
    """A folder of pictures, or an error that knows every kind of name."""
    if Path(text).is_dir():
        return _data(text)
    names = [*catalog.names("datasets"), *catalog.names("models")]
    if Path(text).suffix == ".py":
        raise UsageError(
            "This names a file of Python; say which class or function in it.", where=text, expected=f"{text}:NAME"
        )
    raise UsageError(
        "There is nothing of this name to inspect.",
        where=text,
        expected="a data set or a folder of pictures, a model's name, FILE.py:CLASS, a run folder, a .safetensors file",
        remedy=did_you_mean(text, names),
    )


def _data(source: Any) -> Inspection:
    dataset = datasets.load(source)
    if not isinstance(dataset.splits["train"]["label"], Tensor):
        raise DataError("The data has no labels.", where=dataset.name)
    return Inspection("data", describe(dataset), dataset)


def _network(name: str, network: nn.Module, shape: tuple[int, int, int]) -> Inspection:
    try:
        rows = layers(network, torch.zeros(1, *shape))
    except FlambeauError:
        raise
    except Exception:
        # Whatever its forward() raised: this says in which layer, with which shapes, and what to change.
        check_fit(network, {"classes": [""] * 10, "size": list(shape[1:]), "channels": shape[0]})
        raise
    sums = totals(network, rows)
    facts = {"name": name, "input": list(shape), "layers": [asdict(row) for row in rows], **asdict(sums)}
    return Inspection("network", facts)


def _run(run: Run, network: Any, trust_code: bool) -> Inspection:
    info = {key: value for key, value in run.info.items() if key != "facts"}
    epochs = [line for line in run.metrics() if line["kind"] == "epoch"]
    found: dict[str, Any] = {"run": str(run.path), "recipe": run.recipe.to_dict(), **info, "metrics": epochs}
    if run.finished:
        try:
            model = load(run, network=network, trust_code=trust_code)
        except ModelError as error:
            # A class of the user's own that was not given: everything but its layers can still be seen.
            found["notes"] = [
                *found.get("notes", []),
                f"The layers are not shown. {error.problem} {error.remedy or ''}",
            ]
        else:
            wanted = ("input", "layers", "parameters", "multiply_adds")
            found |= {key: value for key, value in _model(model).facts.items() if key in wanted}
    return Inspection("run", found)


def _model(model: Model) -> Inspection:
    network = getattr(model.network, "network", model.network)
    shape = (model.facts["channels"], *model.facts["size"])
    rows = layers(network, torch.zeros(1, *shape))
    sums = totals(network, rows)
    inner = {"input": list(shape), "layers": [asdict(row) for row in rows], "multiply_adds": sums.multiply_adds}
    return Inspection("model", {**model.summary(), **inner})
