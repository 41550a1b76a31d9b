"""Everything that has a name: tasks, models, data sets, export formats and recipes, imported only when asked for.

An entry is a ``"module:function"`` string. Models come in families, one for each kind of input, so that every task
names the networks that it can train and two families may both have an ``lstm``. Other packages add entries of their
own through entry points in the groups ``flambeau.tasks``, ``flambeau.models.<family>`` (``flambeau.models`` for
pictures), ``flambeau.datasets``, ``flambeau.formats``; one of ours is never replaced.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata, resources
from typing import Any, cast

import torch
from pydantic import ValidationError

from flambeau.core import Builder
from flambeau.errors import ModelError, RecipeError, UsageError, did_you_mean
from flambeau.models.published import TORCHVISION
from flambeau.recipe import OPTIONAL, Recipe, parse, read_toml
from flambeau.task import Task
from flambeau.userfile import in_file, load_object
from flambeau.wording import sentences

TASKS = {
    "image-classification": "flambeau.tasks.image_classification:TASK",
    "image-multilabel": "flambeau.tasks.image_multilabel:TASK",
    "image-regression": "flambeau.tasks.image_regression:TASK",
    "sound-classification": "flambeau.tasks.sound_classification:TASK",
    "gan": "flambeau.tasks.gan:TASK",
    "node-classification": "flambeau.tasks.node_classification:TASK",
    "translation": "flambeau.tasks.translation:TASK",
    "text-classification": "flambeau.tasks.text_classification:TASK",
    "word-vectors": "flambeau.tasks.word_vectors:TASK",
    "language-model": "flambeau.tasks.language_model:TASK",
}

"""In the order in which they are asked whether a path is theirs."""

MODELS = {
    "gan": {
        "dcgan": "flambeau.models.gan:dcgan",
        "mlp-gan": "flambeau.models.gan:mlp_gan",
    },
    "graph": {
        "gcn": "flambeau.models.gcn:gcn",
    },
    "language": {
        "gpt": "flambeau.models.gpt:gpt",
        "gpt2": "flambeau.models.gpt2:gpt2",
        "lstm": "flambeau.models.language_lstm:lstm",
    },
    "pictures": {
        "compact": "flambeau.models.compact:compact",
        "lenet": "flambeau.models.lenet:lenet",
        "mlp": "flambeau.models.mlp:mlp",
        "sequential": "flambeau.models.sequential:sequential",
        "tutorial-cifar10": "flambeau.models.tutorial:tutorial_cifar10",
        **{name: f"flambeau.models.torchvision_networks:{name}" for name in TORCHVISION},
    },
    "text": {
        "bert": "flambeau.models.bert:bert",
        "gru": "flambeau.models.text:gru",
        "lstm": "flambeau.models.text:lstm",
        "ngrams": "flambeau.models.text:ngrams",
        "rnn": "flambeau.models.text:rnn",
        "text-transformer": "flambeau.models.text:text_transformer",
    },
    "translation": {
        "seq2seq": "flambeau.models.seq2seq:seq2seq",
        "transformer": "flambeau.models.transformer:transformer",
    },
    "vectors": {
        "cbow": "flambeau.models.word_vectors:cbow",
        "skip-gram": "flambeau.models.word_vectors:skip_gram",
    },
}

COLLECTIONS = {"models.pictures": {"timm": "flambeau.models.timm_networks"}}
"""Collections of other packages, too large to be listed here, by family: ``COLLECTION:NAME`` is an entry of one. The
module has ``Network``, which makes the builder from a name, and ``names``, which lists those with a text in them.
"""

DATASETS = {
    "cifar10": "flambeau.data.datasets.cifar10:load",
    "cifar100": "flambeau.data.datasets.cifar100:load",
    "citeseer": "flambeau.data.datasets.citeseer:load",
    "cora": "flambeau.data.datasets.cora:load",
    "digits": "flambeau.data.datasets.digits:load",
    "fashion-mnist": "flambeau.data.datasets.fashion_mnist:load",
    "fashion-mnist-mini": "flambeau.data.datasets.fashion_mnist_mini:load",
    "fsdd": "flambeau.data.datasets.fsdd:load",
    "kmnist": "flambeau.data.datasets.kmnist:load",
    "mnist": "flambeau.data.datasets.mnist:load",
    "multi30k": "flambeau.data.datasets.multi30k:load",
    "rt-polarity": "flambeau.data.datasets.rt_polarity:load",
    "sms-spam": "flambeau.data.datasets.sms_spam:load",
    "sst2": "flambeau.data.datasets.sst2:load",
    "tiny-shakespeare": "flambeau.data.datasets.tiny_shakespeare:load",
    "trec": "flambeau.data.datasets.trec:load",
}

FORMATS = {
    "aoti": "flambeau.export.aoti:FORMAT",
    "onnx": "flambeau.export.onnx:FORMAT",
    "openvino": "flambeau.export.openvino:FORMAT",
    "pt2": "flambeau.export.pt2:FORMAT",
    "state-dict": "flambeau.export.state_dict:export",
    "torchscript": "flambeau.export.torchscript:FORMAT",
    "word2vec": "flambeau.export.word2vec:export",
}


@functools.cache
def names(kind: str) -> dict[str, str]:
    """The entries of one kind, ours and other packages', by name in alphabetical order.

    Args:
        kind: ``tasks``, ``datasets``, ``formats``, or ``models.`` and a family, such as ``models.pictures``.
    """
    ours = {"tasks": TASKS, "datasets": DATASETS, "formats": FORMATS}.get(kind)
    if ours is None:
        ours = MODELS.get(kind.removeprefix("models."), {})
    group = "flambeau.models" if kind == "models.pictures" else f"flambeau.{kind}"
    theirs = {point.name: point.value for point in metadata.entry_points(group=group)}
    return dict(sorted((theirs | ours).items()))


def task_names() -> list[str]:
    """The tasks in the order in which they are asked whether a path is theirs: ours first."""
    return [*TASKS, *(name for name in names("tasks") if name not in TASKS)]


def families() -> dict[str, list[str]]:
    """The families of models, each with the tasks that train them."""
    found: dict[str, list[str]] = {}
    for name in task_names():
        found.setdefault(task(name).family, []).append(name)
    return found


def find(kind: str, name: str) -> Any:
    """The object behind a name.

    Raises:
        UsageError: Nobody knows the name; the closest names are suggested.
    """
    entries = names(kind)
    if _of_collection(kind, name):
        collection, _, inner = name.partition(":")
        return _load(f"{COLLECTIONS[kind][collection]}:Network")(inner)
    if name not in entries:
        known = "model" if kind.startswith("models.") else _SINGULAR[kind]
        raise UsageError(f"There is no {known} called {name!r}.", remedy=did_you_mean(name, entries))
    return _load(entries[name])


def _of_collection(kind: str, name: str) -> bool:
    collection, colon, _ = name.partition(":")
    return bool(colon) and collection in COLLECTIONS.get(kind, ())


def collected(kind: str, part: str) -> list[str]:
    """The entries of a collection with a text in their names, for ``COLLECTION:TEXT``."""
    collection, _, inner = part.partition(":")
    return [f"{collection}:{name}" for name in _load(f"{COLLECTIONS[kind][collection]}:names")(inner)]


def _load(entry: str) -> Any:
    module, _, attribute = entry.partition(":")
    return getattr(importlib.import_module(module), attribute)


_SINGULAR = {"tasks": "task", "datasets": "data set", "formats": "format"}


def task(name: str) -> Task:
    """The task of this name, or the user's own by ``FILE.py:NAME``.

    Raises:
        UsageError: There is none, or what the file has under this name is no task.
    """
    if not in_file(name):
        return cast(Task, find("tasks", name))
    found = load_object(name)
    if not isinstance(found, Task):
        raise UsageError(
            "This is not a task.", where=name, expected="a flambeau.task.Task", received=type(found).__name__
        )
    return found


def networks(of: Task) -> list[str]:
    """The names of the networks that a task can train, in alphabetical order."""
    return sorted({*of.networks, *names(f"models.{of.family}")})


def has_network(name: str, of: Task) -> bool:
    """Whether a task can train a network of this name, listed or of a collection."""
    return name in networks(of) or _of_collection(f"models.{of.family}", name)


def network(name: str, of: Task) -> Builder:
    """The builder of a network of a task.

    Raises:
        UsageError: The task has none of this name.
    """
    if name in of.networks:
        return of.networks[name]
    return cast(Builder, find(f"models.{of.family}", name))


def builder(name: str, of: Task) -> Builder:
    """As :func:`network`, and for the user's own class by ``FILE.py:CLASS``."""
    if in_file(name):
        from flambeau.models.custom import from_file

        return lambda facts, **arguments: from_file(name, facts, arguments)
    return network(name, of)


def tables(of: Task) -> dict[str, Any]:
    """The tables of a task's own recipe."""
    return recipe_tables(of.recipe) if isinstance(of.recipe, str) else dict(of.recipe)


def recipe_names() -> list[str]:
    """The named recipes that come with the package, such as ``tutorial/mnist``."""
    root = resources.files("flambeau.recipes")
    found = [entry.name for entry in root.iterdir() if entry.name.endswith(".toml")]
    found += [f"{d.name}/{e.name}" for d in root.iterdir() if d.is_dir() for e in d.iterdir()]
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """The TOML text of a named recipe.

    Raises:
        UsageError: Nobody knows the name.
    """
    if name not in recipe_names():
        raise UsageError(
            f"There is no recipe called {name!r}.",
            remedy=f"{did_you_mean(name, recipe_names())} A file of your own is given as a path ending in .toml.",
        )
    return resources.files("flambeau.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def recipe_tables(name: str) -> dict[str, Any]:
    """The tables of a named recipe, with its name; nothing is checked, so that looking costs next to nothing."""
    return {"name": name, **read_toml(recipe_text(name), where=name)}


def recipe(name: str) -> Recipe:
    """A named recipe."""
    return parse(recipe_tables(name), where=name, checks=CHECKS)


def check_names(raw: Mapping[str, Any]) -> Iterable[str]:
    """Mistakes in the names of task and model, in the arguments of the model's builder and in the task's own tables."""
    task_name = raw.get("task", "image-classification")
    if not in_file(str(task_name)) and task_name not in names("tasks"):
        yield f"task: there is no task called {task_name!r}. {did_you_mean(str(task_name), names('tasks'))}"
        return
    chosen = task(task_name)
    yield from _check_tables(chosen, raw)
    model = raw.get("model", {})
    if isinstance(model, Mapping):
        yield from _check_model({"name": "compact", **model}, chosen)


def _check_tables(task: Task, raw: Mapping[str, Any]) -> Iterable[str]:
    for table in OPTIONAL[:-1]:
        if table in raw and table not in task.parts:
            used = f"it uses {', '.join(task.parts)}" if task.parts else "it uses none of these tables"
            yield f"{table}: the task {task.name} has no use for this table; {used}"
    options = raw.get("options", {})
    if task.options is None:
        yield from (f"options.{key}: the task {task.name} has no options" for key in options)
        return
    try:
        task.options.model_validate(options)
    except ValidationError as error:
        yield from (f"options.{mistake}" for mistake in sentences(error, task.options))


def _check_model(model: Mapping[str, Any], task: Task) -> Iterable[str]:
    name = model["name"]
    if model.get("freeze") and task.family != "pictures":
        yield f"model.freeze: is for networks of pictures; {task.name} trains the whole network"
    if not isinstance(name, str):
        yield f"model.name: expected a name, received {name!r}"
    elif name.startswith("python:") or in_file(name):
        return
    elif name.endswith(".py"):
        yield f"model.name: {name} names a file; say which class in it, as in {name}:Net"
    elif not has_network(name, task):
        yield f"model.name: {_unknown_model(name, task)}"
    else:
        try:
            known = arguments(network(name, task))
        except UsageError as error:
            yield f"model.name: {error.problem} {error.remedy}"
            return
        given = {key: value for key, value in model.items() if key not in ("name", "freeze")}
        unknown = given.keys() - known.keys()
        for key in sorted(unknown):
            yield f"model.{key}: {name} has no such argument. {did_you_mean(key, known)}"
        if not unknown:
            yield from _try_arguments(name, given, task)


def _unknown_model(name: str, task: Task) -> str:
    others = [family for family in MODELS if family != task.family and name in names(f"models.{family}")]
    if others:
        ours = [own for own in networks(task) if own not in TORCHVISION]
        return f"{name} is a model for {others[0]}; {task.name} has {', '.join(ours)}, and more in `flambeau models`"
    return f"there is no model called {name!r}. {did_you_mean(name, networks(task))}"


def arguments(builder: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a model's builder that a recipe may set, with their defaults."""
    parameters = inspect.signature(builder).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _try_arguments(name: str, given: Mapping[str, Any], task: Task) -> Iterable[str]:
    """Builds the model for a small problem, so that a wrong value is found before any data is read."""
    try:
        with torch.device("meta"):
            network(name, task)(task.toy, **given)
    except ModelError as error:
        if str(error.where).startswith("model."):
            yield _in_one_line(error)
    except RecipeError as error:
        yield from error.mistakes
    except (TypeError, ValueError, RuntimeError) as error:
        yield f"model: {name} cannot be built with {dict(given)}: {error}"


def _in_one_line(error: ModelError) -> str:
    details = (("expected", error.expected), ("received", error.received))
    said = ", ".join(f"{label} {text}" for label, text in details if text)
    remedy = f". {error.remedy}" if error.remedy else ""
    return f"{error.where}: {error.problem.removesuffix('.')}{f'; {said}' if said else ''}{remedy}"


CHECKS = (check_names,)
