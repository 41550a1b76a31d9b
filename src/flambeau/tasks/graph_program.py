"""A graph network as a program: features and edges of any graph to probabilities for its nodes."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from flambeau.columns import Columns
from flambeau.core import Batch, Facts
from flambeau.models.gcn import Edges, NodeClassifier
from flambeau.program import Call, Graph, Port, Program, Wish, require_varying
from flambeau.tasks import labels


class OfAnyGraph(nn.Module):
    """Features and edges to calibrated probabilities; what is done to both before a network gets them is inside.

    Args:
        model: Whose network and temperature are taken, but not its graph.
    """

    def __init__(self, model: NodeClassifier) -> None:
        super().__init__()
        self.network = model.network
        self.register_buffer("temperature", model.temperature)

    def forward(self, features: Tensor, edge_index: Tensor) -> tuple[Tensor]:
        """Probabilities ``(n, K)`` of features ``(n, F)`` and edges ``(2, E)``."""
        total = features.sum(1, keepdim=True)
        scaled = features * torch.where(total == 0, torch.zeros_like(total), 1 / total)
        return (labels.outputs_of(self, self.network(scaled, Edges(edge_index, features.shape[0])))["probabilities"],)


def program(model: nn.Module, facts: Facts, wish: Wish) -> Program:
    """The program of a graph network, one graph: features and edges of any graph to probabilities of all its nodes.

    Raises:
        UsageError: A fixed shape is wanted.
    """
    require_varying(wish, "node-classification")
    if not isinstance(model, NodeClassifier):
        raise TypeError("Only a model that this task built holds a graph.")
    features = Port(
        "features",
        torch.rand(4, facts["features"]),
        ("n", None),
        "a row for each node, on any scale: rows are divided by their sums inside",
    )
    edges = Port(
        "edge_index",
        torch.tensor([[0, 1, 1, 2, 2, 0], [1, 0, 2, 1, 0, 2]]),
        (None, "E"),
        "numbers of the nodes at both ends of each edge; each edge in both directions and none twice, without loops",
    )

    @lru_cache(maxsize=2)
    def whole(call: Call) -> Tensor:
        return call("model", own_graph(model))["probabilities"]

    def run(call: Call, raw: Columns | None, batch: Batch) -> dict[str, Tensor]:
        return labels.restored(model, {"probabilities": whole(call)[batch["node"]]})

    return Program(
        (Graph("model", OfAnyGraph(model).eval(), (features, edges), labels.EXPORTED),),
        run,
        labels.COMPARED,
        {"front": "graph", "features": facts["features"], "answer": {"kind": "classes"}},
        trials=lambda: [("model", made_up(facts["features"], *size)) for size in ((1, 0), (2, 1), (9, 12), (40, 60))],
    )


def own_graph(model: NodeClassifier) -> Batch:
    """Features and edges of the graph that a model holds."""
    features = torch.zeros(model.nodes, model.features)
    features[tuple(model.feature_places.long())] = model.feature_values
    links = model.link_places.long()
    return {"features": features, "edge_index": links[:, links[0] != links[1]]}


def made_up(features: int, nodes: int, edges: int) -> Batch:
    """A graph with random features and up to so many edges."""
    generator = torch.Generator().manual_seed(nodes)
    ends = torch.randint(nodes, (2, edges), generator=generator)
    pairs = torch.unique(ends[:, ends[0] < ends[1]], dim=1)
    return {
        "features": torch.rand(nodes, features, generator=generator),
        "edge_index": torch.cat([pairs, pairs.flip(0)], 1),
    }
