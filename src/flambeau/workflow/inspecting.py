"""What can be seen of a thing before, and after, it is trained: data, networks, runs and model files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from flambeau import catalog, datasets
from flambeau.columns import Dataset
from flambeau.core import Facts
from flambeau.data.huggingface import is_name
from flambeau.errors import FlambeauError, ModelError, RecipeError, UsageError, did_you_mean
from flambeau.model import Model, load
from flambeau.models.fit import check_fit, dry_run
from flambeau.models.inspection import layers, totals
from flambeau.recipe import parse
from flambeau.run import RECIPE, Run
from flambeau.task import Shown, Task
from flambeau.userfile import in_file, load_object
from flambeau.workflow.augmented import augmented


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    Attributes:
        kind: What it is.
        facts: Everything about it, as JSON values.
        dataset: The data set, for ``data``.
        about: For ``data``: what there is to say beside the counts, as labels and texts.
        samples: For ``data``: makes a few rows to look at, as lines of text or one picture.
        page: For what has a network: makes an HTML page with its graph, its first filters and, of an example as
            ``predict`` takes it, the activations. None where there is none.
    """

    kind: Literal["data", "network", "run", "model"]
    facts: dict[str, Any]
    dataset: Dataset | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    samples: Callable[[int], list[str | Shown]] = lambda count: []
    page: Callable[[str | None], str] | None = None


def inspect(
    target: Any,
    *,
    task: str | None = None,
    shape: tuple[int, int, int] = (1, 28, 28),
    classes: int = 10,
    settings: dict[str, Any] | None = None,
    network: Any = None,
    trust_code: bool = False,
    varied: Sequence[str] | None = None,
) -> Inspection:
    """Looks at a data source, a network, a run or a model file.

    Args:
        target: A data source (as for :func:`flambeau.train`), a model's name, ``FILE.py:CLASS`` of either, a run
            folder, a ``.safetensors`` file, or such an object.
        task: For data: what it is to be read for. For a network: which task's, where several have one of this name.
        shape: For a network that takes pictures: their ``(channels, height, width)``.
        classes: For a network: how many classes.
        settings: For a network: arguments of its builder.
        network: For a run or model of the user's own class: as for :func:`flambeau.load`.
        trust_code: As for :func:`flambeau.load`.
        varied: For data: ``key=value`` settings of a recipe; the samples are then training examples as that recipe
            varies them.

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
    owner = _owner(str(target), task)
    if isinstance(target, Run):
        return _run(target, network, trust_code)
    if isinstance(target, Model):
        return _model(target)
    if isinstance(target, nn.Module):
        return _network(type(target).__name__, target, shape)
    if not isinstance(target, str | Path):
        return _data(target, task, varied)
    text, path = str(target), Path(target)
    if text in catalog.names("datasets") or is_name(text):
        return _data(text, task, varied)
    if owner is not None:
        return _named(text, owner, facts, settings or {})
    if (path / RECIPE).is_file():
        return _run(Run(path), network, trust_code)
    if path.is_file() and path.suffix == ".safetensors":
        return _model(load(path, network=network, trust_code=trust_code))
    if in_file(text):
        found = load_object(text)
        if isinstance(found, type) and issubclass(found, nn.Module):
            return _network(
                text, catalog.builder(text, catalog.task(task or datasets.DEFAULT))(facts, **(settings or {})), shape
            )
        return _data(text, task, varied)
    return _folder(text, task, varied)


def _owner(name: str, task: str | None) -> str | None:
    """The task whose network has this name: the one that is asked for, else the first."""
    wanted = [task] if task is not None else catalog.task_names()
    return next((owner for owner in wanted if catalog.has_network(name, catalog.task(owner))), None)


def _folder(text: str, task: str | None, varied: Sequence[str] | None) -> Inspection:
    """Data in a file or folder, or an error that knows every kind of name."""
    if Path(text).exists() and Path(text).suffix != ".py":
        return _data(text, task, varied)
    models = {name for owner in catalog.task_names() for name in catalog.networks(catalog.task(owner))}
    names = [*catalog.names("datasets"), *sorted(models)]
    if Path(text).suffix == ".py":
        raise UsageError(
            "This names a file of Python; say which class or function in it.", where=text, expected=f"{text}:NAME"
        )
    raise UsageError(
        "There is nothing of this name to inspect.",
        where=text,
        expected="a data set, a file or folder of data, a model's name, FILE.py:CLASS, a run folder, a model file",
        remedy=did_you_mean(text, names),
    )


def _data(source: Any, task: str | None, varied: Sequence[str] | None) -> Inspection:
    name = task or datasets.task_of(source)
    chosen, dataset = catalog.task(name), datasets.load(source, task=name)
    facts = {"task": chosen.name, **chosen.intake.describe(dataset)}

    def samples(count: int) -> list[str | Shown]:
        if varied is None:
            return chosen.view.samples(dataset, count)
        return augmented(source, task, varied, count)

    return Inspection("data", facts, dataset, chosen.view.about(facts), samples)


def _named(name: str, owner: str, facts: Facts, arguments: dict[str, Any]) -> Inspection:
    """A network of the catalog, built for a small problem of its task."""
    mistakes = list(catalog.check_names({"task": owner, "model": {**arguments, "name": name}}))
    if mistakes:
        raise RecipeError(mistakes)
    task = catalog.task(owner)
    small = task.toy | {key: value for key, value in facts.items() if key in task.toy}
    recipe = parse(catalog.tables(task))
    recipe = recipe.model_copy(update={"model": recipe.model.model_validate({"name": name, **arguments})})
    model = task.build(recipe, small, catalog.network(name, task))
    found = {"name": name, **_layers_of(model, task, small)}
    return Inspection("network", found, page=_page(name, found, model, task, small))


def _page(
    name: str, found: Mapping[str, Any], model: nn.Module, task: Task, facts: Facts
) -> Callable[[str | None], str]:
    from flambeau.workflow.network_page import network_page

    return lambda example: network_page(name, found, model, task, facts, example)


def _layers_of(model: nn.Module, task: Task, facts: Facts) -> dict[str, Any]:
    """Input, layers and their sums: of the network alone, where the task builds something around one."""
    network, batch = getattr(model, "network", model), task.example(facts)
    with dry_run(model):
        rows = layers(network, lambda: (task.trace or task.predict)(model, batch))
    shape = list(next(iter(batch.values())).shape[1:])
    return {"input": shape, "layers": [asdict(row) for row in rows], **asdict(totals(network, rows))}


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
    page = None
    scoring = run.info.get("scoring", {})
    found["shown"] = list(scoring.get("shown", ()))
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
            looked = _model(model)
            page = looked.page
            found |= {key: value for key, value in looked.facts.items() if key in wanted}
    return Inspection("run", found, page=page)


def _model(model: Model) -> Inspection:
    found = _layers_of(model.network, model.task, model.facts)
    about = {**model.summary(), **{key: found[key] for key in ("input", "layers", "multiply_adds")}}
    name = f"{about['architecture']} for {about['task']}"
    return Inspection("model", about, page=_page(name, found, model.network, model.task, model.facts))
