"""PyTorch's own files brought in: a state dict, or a checkpoint dictionary as the introductions save it.

The file is read by :func:`flambeau.models.weights.read_weights`, which runs no code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor, nn

from flambeau import catalog
from flambeau.core import Builder, Facts
from flambeau.data.opening import PictureRules
from flambeau.errors import FlambeauError, ModelError, UsageError
from flambeau.model import Model, describe
from flambeau.models.weights import read_weights
from flambeau.recipe import Recipe
from flambeau.workflow.job import builder_of
from flambeau.workflow.planning import resolve

GUESSES = ((1, 28), (3, 32), (1, 32), (3, 28), (3, 64), (3, 224), (1, 8), (1, 64), (1, 224))
"""Channels and sides that are tried, the most usual first, when the recipe names none."""


def import_weights(
    path: str | Path, *, model: str | type[nn.Module], classes: Iterable[str], settings: Iterable[str] = ()
) -> Model:
    """A model from a ``.pth`` file of plain PyTorch.

    Args:
        path: A state dict, or a dictionary with ``model_state_dict`` and, it may be, ``optimizer_state_dict``,
            ``epoch`` and ``loss``.
        model: The architecture: a name, ``FILE.py:CLASS``, or a class.
        classes: The class names, in the order of the logits.
        settings: ``key=value`` texts, such as ``images.size=28``, ``images.channels=1``, ``images.normalize=half``,
            ``model.widths=[128, 64]``. Pictures are not normalised unless a setting says so.

    Returns:
        The model; ``.save(path)`` writes it.

    Raises:
        ModelError: The file is not such a file, or its weights are not those of the architecture.

    Example:
        >>> model = import_weights("model.pth", model="mlp", classes=names)          # doctest: +SKIP
    """
    path = Path(path)
    weights, extra = read_weights(path)
    asked = model if isinstance(model, str) else f"python:{model.__name__}"
    recipe = resolve(
        None, {"images": {"normalize": "none"}, "name": f"import of {path.name}"}, settings=settings, model=asked
    )
    names = [str(name) for name in classes]
    if len(set(names)) != len(names) or len(names) < 2:
        raise UsageError("There must be at least two class names, all different.", where="classes", received=len(names))
    if recipe.images.normalize == "statistics" and recipe.images.mean is None:
        raise UsageError(
            "Weights say nothing of the data's mean and standard deviation.",
            where="images.normalize",
            expected="none or half, or the numbers themselves",
            remedy="--set images.mean=[0.286] --set images.std=[0.353]",
        )
    builder, source = builder_of(None if isinstance(model, str) else model, recipe)
    facts, network, matched = _fitting(path, recipe, names, builder, weights)
    network.load_state_dict(matched)
    return _made(recipe, facts, network, source, path, extra)


def _fitting(
    path: Path, recipe: Recipe, names: list[str], builder: Builder, weights: Mapping[str, Tensor]
) -> tuple[Facts, nn.Module, dict[str, Tensor]]:
    """The facts and the network that the weights fit, and the weights under the network's names."""
    found = []
    problem: FlambeauError | None = None
    for facts in _candidates(recipe, names):
        try:
            classifier = catalog.task(recipe.task).build(recipe, facts, builder)
        except FlambeauError as error:
            problem = problem or error
            continue
        network = classifier.network
        if not isinstance(network, nn.Module):
            raise TypeError("The task's model has no network inside.")
        try:
            found.append((facts, network, match(weights, network, path)))
        except ModelError as error:
            problem = error if problem is None or "forward" in problem.problem else problem
    if not found:
        raise problem or ModelError("No network of this name fits the weights.", where=path)
    if len(found) > 1:
        sizes = ", ".join(f"{facts['channels']}x{facts['size'][0]}x{facts['size'][1]}" for facts, _, _ in found)
        raise UsageError(
            "The weights fit pictures of several sizes, and nothing in the file says which it was.",
            where=path,
            received=sizes,
            remedy="Say it, as in --set images.size=32 --set images.channels=3.",
        )
    return found[0]


def _candidates(recipe: Recipe, names: list[str]) -> Iterable[Facts]:
    images = recipe.images
    shapes = (
        (
            channels if images.channels == "auto" else images.channels,
            (side, side) if images.size == "auto" else images.size,
        )
        for channels, side in GUESSES
    )
    for depth, size in dict.fromkeys(shapes):
        yield _facts(recipe, names, list(size), depth)


def _facts(recipe: Recipe, names: list[str], size: list[int], channels: int) -> Facts:
    images = recipe.images
    half = [0.5] * channels if images.normalize == "half" else None
    mean, std = (images.mean, images.std) if images.mean is not None else (half, half)
    return {
        "classes": names,
        "size": size,
        "channels": channels,
        "mirror": False,
        "mean": mean,
        "std": std,
        "counts": [0] * len(names),
        "rules": PictureRules.of(images).to_facts(),
    }


def match(weights: Mapping[str, Tensor], network: nn.Module, path: Path) -> dict[str, Tensor]:
    """The weights under the network's names: by name, else in order when every shape agrees.

    Raises:
        ModelError: They do not fit; it names the first that differs.
    """
    wanted = network.state_dict()
    if wanted.keys() == weights.keys():
        pairs = [(name, name) for name in wanted]
    elif len(wanted) == len(weights):
        pairs = list(zip(wanted, weights, strict=True))
    else:
        raise ModelError(
            "The weights are not those of this architecture.",
            where=path,
            expected=f"{len(wanted)} tensors, from {next(iter(wanted), 'none')} on",
            received=f"{len(weights)} {'tensor' if len(weights) == 1 else 'tensors'}, from {next(iter(weights))} on",
            remedy="Name the architecture that they belong to, with its arguments (--set model.widths=[512,512]).",
        )
    for ours, theirs in pairs:
        if wanted[ours].shape != weights[theirs].shape:
            raise ModelError(
                "The weights are not those of this architecture.",
                where=path,
                expected=f"{ours} {tuple(wanted[ours].shape)}",
                received=f"{theirs} {tuple(weights[theirs].shape)}",
                remedy="Name the architecture that they belong to, with its arguments, and the pictures' size.",
            )
    return {ours: weights[theirs] for ours, theirs in pairs}


def _made(
    recipe: Recipe, facts: Facts, network: nn.Module, source: str | None, path: Path, extra: dict[str, str]
) -> Model:
    task = catalog.task(recipe.task)
    complete = task.build(recipe, facts, lambda facts, **arguments: network)
    data = {"name": "imported", "hash": "", "source": str(path), "examples": {}}
    description = describe(recipe, facts, data=data, source=source, run=f"import of {path.name}")
    provenance = {**description.provenance, **{f"imported {name}": value for name, value in extra.items()}}
    return Model(complete, task, facts, description.model_copy(update={"provenance": provenance}))
