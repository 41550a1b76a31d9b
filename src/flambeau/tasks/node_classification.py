"""Nodes of one graph into classes, most of them without a label: each batch is the whole graph."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.columns import Column, Columns, Dataset, Split
from flambeau.core import Batch, Builder, Facts, Phase
from flambeau.data.graphs import GRAPH, from_object, is_graph, matrices, read_npz
from flambeau.data.splits import with_test_and_validation
from flambeau.engine.optim import Factory, NamedParameters
from flambeau.errors import BadRows, DataError, FlambeauError
from flambeau.models.gcn import NodeClassifier
from flambeau.recipe import Part, Recipe
from flambeau.task import Baseline, Intake, Outcome, Shown, Task, View
from flambeau.tasks import labels
from flambeau.tasks.common import tensors
from flambeau.tasks.graph_program import program
from flambeau.tasks.wires import wires

BASELINE_STEPS = 200


class Options(Part):
    """What only this task has."""

    decay: Literal["first", "all"] = "first"
    """Which weight matrices optimizer.weight_decay shrinks: the first layer's alone, as Kipf and Welling do, or all."""


def divide(dataset: Dataset, recipe: Recipe) -> Dataset:
    """The graph with its nodes divided; the graph itself is not."""
    nodes = {name: split for name, split in dataset.splits.items() if name != GRAPH}
    divided = with_test_and_validation(
        Dataset(dataset.name, nodes, dataset.info, dataset.hash), recipe.data, noun="nodes"
    )
    return Dataset(dataset.name, {**divided.splits, GRAPH: dataset.splits[GRAPH]}, divided.info, dataset.hash)


def of_python(source: Any, name: str | None, origin: str | None, recipe: Recipe) -> Dataset:
    """The graph in an object with ``x``, ``edge_index`` and ``y``, as torch_geometric has them."""
    return source if isinstance(source, Dataset) else from_object(source, name=name, origin=origin)


def align(split: Split, info: Mapping[str, Any], facts: Facts) -> Split:
    """Other labels or masks of the same graph; another graph is refused, for the model holds only its own."""
    if info.get("graph", {}).get("sha256") != facts["sha256"]:
        raise DataError(
            "This is another graph than the one that the model was trained on and holds.",
            where=info.get("source"),
            expected=f"the same {facts['nodes']:,} nodes, features and edges; only labels and masks may differ",
            remedy="Train a model on this graph.",
        )
    return labels.align(split, info, facts)


def describe(dataset: Dataset) -> dict[str, Any]:
    """The graph and its labels, in JSON values."""
    classes = list(dataset.info["classes"])
    nodes = {name: split for name, split in dataset.splits.items() if name != GRAPH}
    return {
        "name": dataset.name,
        "source": dataset.info.get("source"),
        "hash": dataset.hash,
        **{key: dataset.info[key] for key in ("licence", "homepage") if key in dataset.info},
        "classes": classes,
        "rows": {name: len(split) for name, split in nodes.items()},
        "counts": {
            name: dict(zip(classes, _counts(split.tensor("label"), len(classes)), strict=True))
            for name, split in nodes.items()
        },
        "graph": {key: value for key, value in dataset.info["graph"].items() if key != "sha256"},
        "notes": list(dataset.info.get("notes", ())),
    }


def about(found: Mapping[str, Any]) -> dict[str, str]:
    """The size of the graph."""
    graph = found["graph"]
    return {
        "graph": f"{graph['nodes']:,} nodes, {graph['edges']:,} edges",
        "features": f"{graph['features']:,} a node, {graph['entries'] / graph['nodes']:.1f} of them not zero",
    }


def samples(dataset: Dataset, count: int) -> list[str | Shown]:
    """A few nodes with their class and degree."""
    edges = dataset.splits[GRAPH].tensor("edge_index")[0, 0]
    degree = torch.bincount(edges, minlength=dataset.info["graph"]["nodes"])
    train, classes = dataset.splits["train"], dataset.info["classes"]
    pairs = zip(train.tensor("node")[:count].tolist(), train.tensor("label")[:count].tolist(), strict=True)
    return [f"node {node}: {classes[label]}, degree {int(degree[node])}" for node, label in pairs]


def facts(split: Split, info: Mapping[str, Any], recipe: Recipe) -> Facts:
    """Classes, and the sizes and the checksum of the graph."""
    graph = info["graph"]
    return {
        "classes": list(info["classes"]),
        **{key: graph[key] for key in ("nodes", "features", "entries", "sha256")},
        "links": 2 * graph["edges"] + graph["nodes"],
    }


def read(raw: Columns, facts: Facts) -> dict[str, Column]:
    """Numbers of nodes, in any form, to int64 ``(n,)``; labels, and the graph itself, pass through.

    Raises:
        BadRows: Some are no numbers of nodes.
    """
    if "node" not in raw:
        return dict(raw)
    column = raw["node"]
    if isinstance(column, Tensor):
        return {**raw, "node": column.long()}
    bad: dict[int, FlambeauError] = {}
    nodes = []
    for row, value in enumerate(column):
        text = str(value.item() if isinstance(value, Tensor) and value.numel() == 1 else value).strip()
        node = int(text) if re.fullmatch(r"\d{1,18}", text) else -1
        nodes.append(node)
        if not 0 <= node < facts["nodes"]:
            bad[row] = DataError(
                "There is no such node.", where=text, expected=f"a whole number from 0 to {facts['nodes'] - 1}"
            )
    if bad:
        raise BadRows(bad)
    return {**raw, "node": torch.tensor(nodes, dtype=torch.int64)}


def measure(split: Split, facts: Facts, recipe: Recipe) -> Facts:
    """The facts with the number of training nodes of each class."""
    return {**facts, "counts": _counts(split.tensor("label"), len(facts["classes"]))}


def _counts(label: Tensor, classes: int) -> list[int]:
    counts: list[int] = torch.bincount(label, minlength=classes).tolist()
    return counts


def build(recipe: Recipe, facts: Facts, builder: Builder) -> nn.Module:
    """The named network in a model with room for the graph."""
    return NodeClassifier(builder(facts, **recipe.model.arguments()), facts)


def ready(model: nn.Module, dataset: Dataset) -> None:
    """Puts the graph into the model."""
    if not isinstance(model, NodeClassifier):
        raise TypeError("Only a model that this task built holds a graph.")
    model.hold(*matrices(dataset.splits[GRAPH], model.features))


def phases(recipe: Recipe, facts: Facts) -> tuple[Phase, ...]:
    """Cross-entropy over the labelled nodes, with weight decay where the options say."""
    made = labels.phases_of(recipe, facts, lambda model, batch: model(batch["node"]))
    if Options.model_validate(recipe.options).decay == "all" or not recipe.optimizer.weight_decay:
        return made
    bare = recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"weight_decay": 0.0})})
    (plain,) = labels.phases_of(bare, facts, lambda model, batch: model(batch["node"]))
    return (replace(plain, optimizer=_decaying_first(plain.optimizer, recipe.optimizer.weight_decay)),)


def _decaying_first(factory: Factory, decay: float) -> Factory:
    """An optimiser whose weight decay is for the first matrix alone, the first layer's."""

    def make(parameters: NamedParameters) -> torch.optim.Optimizer:
        first = next((name for name, parameter in parameters if parameter.dim() >= 2), "")
        chosen = [(name, parameter) for name, parameter in parameters if name == first]
        others = [parameter for name, parameter in parameters if name != first]
        made = factory(chosen or parameters)
        if chosen:
            made.param_groups[0]["weight_decay"] = decay
        if chosen and others:
            group = {key: value for key, value in made.param_groups[0].items() if key != "params"}
            made.add_param_group({**group, "params": others, "weight_decay": 0.0})
        return made

    return make


def predict(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Logits ``(n, K)`` and calibrated probabilities ``(n, K)`` of the nodes in the batch, both float32."""
    return labels.outputs_of(model, model(batch["node"]))


def example(facts: Facts) -> dict[str, Tensor]:
    """The first node, int64 ``(1,)``."""
    return {"node": torch.zeros(1, dtype=torch.int64)}


def baseline(dataset: Dataset, facts: Facts, recipe: Recipe) -> Baseline:
    """Softmax regression on the features of each node, which does not see the edges."""
    features, _ = matrices(dataset.splits[GRAPH], facts["features"])
    train, test = dataset.splits["train"], dataset.splits["test"]
    weight = torch.zeros(facts["features"], len(facts["classes"]), requires_grad=True)
    rule = torch.optim.Adam([weight], lr=0.1, weight_decay=5e-4, fused=True)
    rows = features.index_select(0, train.tensor("node"))
    for _ in range(BASELINE_STEPS):
        rule.zero_grad()
        loss = F.cross_entropy(torch.sparse.mm(rows, weight), train.tensor("label"))
        loss.backward()  # type: ignore[no-untyped-call]
        rule.step()
    with torch.no_grad():
        logits = torch.sparse.mm(features, weight)[test.tensor("node")]
        label = test.tensor("label")
        right = float((logits.argmax(1) == label).double().mean())
        scores = {"accuracy": right, "loss": float(F.cross_entropy(logits.double(), label))}
    return Baseline("softmax regression on the features, without the edges", scores)


def report(outcome: Outcome) -> tuple[list[Any], list[Any]]:
    """Headline numbers and sections: scores, confusion, classes, calibration."""
    from flambeau.report.pictures import classification_cards, classification_of, classification_sections

    made = classification_of(outcome, noun="nodes", singular="node")
    return classification_cards(made), classification_sections(made)


def tell(outcome: Outcome, recipe: Recipe) -> list[str | Shown]:
    """Accuracy and loss on the test nodes, and the accuracy of what does not see the edges."""
    told: list[str | Shown] = [*labels.tell(outcome, recipe)]
    if outcome.baseline is not None:
        told.append(f"{outcome.baseline.name}: {outcome.baseline.scores['accuracy']:.2%}")
    return told


def inputs(arguments: Sequence[str]) -> list[tuple[str, Any]]:
    """Each argument is the number of a node."""
    return [(argument, argument) for argument in arguments]


INTAKE = Intake(
    forms="an .npz of plain arrays (features, edge_index, y, masks), a torch_geometric Data object",
    claims=lambda path: path.suffix == ".npz" and is_graph(path),
    open=lambda path, recipe: read_npz(Path(path)),
    of_python=of_python,
    divide=divide,
    describe=describe,
    align=align,
)

VIEW = View(
    asks="NODE...",
    inputs=inputs,
    line=labels.line,
    cells=labels.cells,
    truth=labels.truth,
    breakdown=labels.breakdown,
    report=report,
    tell=tell,
    about=about,
    samples=samples,
    private=("sha256", "counts", "entries", "links"),
)

TASK = Task(
    name="node-classification",
    about="One of several classes for each node of a graph.",
    family="graph",
    recipe="graph",
    input="node",
    intake=INTAKE,
    view=VIEW,
    facts=facts,
    read=read,
    measure=measure,
    collate=tensors,
    transform=lambda recipe, facts: None,
    build=build,
    phases=phases,
    metrics=labels.metrics,
    predict=predict,
    decode=labels.decode,
    example=example,
    toy={
        "classes": ["a", "b"],
        "nodes": 3,
        "features": 4,
        "entries": 3,
        "links": 5,
        "sha256": "",
        "counts": [1, 1],
    },
    options=Options,
    checks=labels.checks,
    ready=ready,
    keep=labels.KEPT,
    calibrate=labels.calibrate,
    baseline=baseline,
    program=program,
    wire=wires("node", "classes"),
)
