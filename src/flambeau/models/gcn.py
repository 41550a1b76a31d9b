"""The graph convolutional network of Kipf and Welling ("Semi-Supervised Classification with Graph Convolutional
Networks", ICLR 2017, arXiv 1609.02907), and the model around it that holds the graph."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flambeau.errors import ModelError


def gcn(facts: Mapping[str, Any], *, hidden: int = 16, layers: int = 2, dropout: float = 0.5) -> nn.Module:
    """Graph convolutions: each node takes the weighted mean of its neighbours, then a linear layer, then ReLU.

    Args:
        facts: ``features`` (of a node) and ``classes``.
        hidden: Units of each layer but the last.
        layers: How many; a node sees as many edges far.
        dropout: The probability with which an input of a layer is dropped.

    Returns:
        A network from features (sparse ``(N, F)``) and normalised adjacency (sparse ``(N, N)``) to logits ``(N, K)``.

    Raises:
        ModelError: An argument is out of range.

    Example:
        >>> import torch
        >>> network = gcn({"features": 3, "classes": ["a", "b"]})
        >>> network(torch.eye(4, 3).to_sparse(), torch.eye(4).to_sparse()).shape
        torch.Size([4, 2])
    """
    for name, value in (("hidden", hidden), ("layers", layers)):
        if not isinstance(value, int) or value < 1:
            raise ModelError(
                f"gcn needs {name} of at least 1.",
                where=f"model.{name}",
                expected="a whole number from 1 on",
                received=repr(value),
            )
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ModelError(
            "The dropout probability is out of range.", where="model.dropout", expected="0 <= p < 1", received=dropout
        )
    return GCN([facts["features"], *[hidden] * (layers - 1), len(facts["classes"])], float(dropout))


class Edges:
    """A normalised adjacency as its edges, for graphs of a program, which hold no sparse matrices.

    Args:
        ends: int64 ``(2, E)``, each edge in both directions and none twice, without loops.
        nodes: How many there are.

    Example:
        >>> Edges(torch.tensor([[0, 1], [1, 0]]), 2).times(torch.tensor([[1.0], [3.0]]))
        tensor([[2.],
                [2.]])
    """

    def __init__(self, ends: Tensor, nodes: int) -> None:
        self.sources, self.targets = ends.unbind(0)
        degree = torch.ones(nodes).index_add(0, self.targets, torch.ones_like(self.targets, dtype=torch.float32))
        self.root = degree.rsqrt().unsqueeze(1)

    def times(self, features: Tensor) -> Tensor:
        """``D^-1/2 (A + I) D^-1/2`` times features ``(N, H)``."""
        scaled = features * self.root
        return self.root * scaled.index_add(0, self.targets, scaled[self.sources])


class GraphConvolution(nn.Module):
    """A linear map of the features, summed over neighbours: ``(N, F)`` and ``(N, N)`` to ``(N, H)``, without a bias."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, features: Tensor, links: Tensor | Edges) -> Tensor:
        mapped = torch.sparse.mm(features, self.weight) if features.is_sparse else features @ self.weight
        if isinstance(links, Edges):
            return links.times(mapped)
        summed: Tensor = torch.sparse.mm(links, mapped)
        return summed


class GCN(nn.Module):
    """Graph convolutions one after the other, with dropout before and ReLU between them."""

    def __init__(self, widths: list[int], dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(GraphConvolution(before, after) for before, after in pairwise(widths))
        self.dropout = dropout

    def forward(self, features: Tensor, links: Tensor | Edges) -> Tensor:
        hidden = features
        for number, convolution in enumerate(self.convolutions):
            hidden = _dropped(hidden.relu() if number else hidden, self.dropout, self.training)
            hidden = convolution(hidden, links)
        return hidden


def _dropped(features: Tensor, dropout: float, training: bool) -> Tensor:
    """Dropout; of a sparse matrix only what is not zero can be dropped."""
    if not features.is_sparse:
        return F.dropout(features, dropout, training)
    values = F.dropout(features.values(), dropout, training)
    return _sparse(features.indices(), values, tuple(features.shape))


class NodeClassifier(nn.Module):
    """A graph network with its graph, as buffers: numbers of nodes ``(n,)`` int64 to logits ``(n, K)``.

    Args:
        network: Takes features and normalised adjacency, gives logits of all nodes.
        facts: ``nodes``, ``features``, ``entries`` (features that are not zero), ``links`` (entries of the adjacency),
            ``classes``. The buffers are empty matrices of these sizes until :meth:`hold` or a saved model fills them.
    """

    feature_places: Tensor
    feature_values: Tensor
    link_places: Tensor
    link_values: Tensor
    temperature: Tensor

    def __init__(self, network: nn.Module, facts: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.nodes, self.features, self.classes = facts["nodes"], facts["features"], len(facts["classes"])
        for name, count in (("feature", facts["entries"]), ("link", facts["links"])):
            self.register_buffer(f"{name}_places", torch.zeros(2, count, dtype=torch.int32))
            self.register_buffer(f"{name}_values", torch.zeros(count))
        self.register_buffer("temperature", torch.ones(()))

    def hold(self, features: Tensor, links: Tensor) -> None:
        """Takes the graph in: coalesced sparse matrices ``(N, F)`` and ``(N, N)`` of the sizes that the facts say."""
        for name, matrix in (("feature", features), ("link", links)):
            getattr(self, f"{name}_places").copy_(matrix.indices())
            getattr(self, f"{name}_values").copy_(matrix.values())

    def forward(self, node: Tensor) -> Tensor:
        features = _sparse(self.feature_places, self.feature_values, (self.nodes, self.features))
        links = _sparse(self.link_places, self.link_values, (self.nodes, self.nodes))
        # Sparse products have no form in 16 bits, so a graph is always worked on in 32.
        with torch.autocast(node.device.type, enabled=False):
            logits: Tensor = self.network(features, links)
        if logits.shape != (self.nodes, self.classes):
            raise ModelError(
                "The network does not give logits for the nodes of the graph.",
                where=type(self.network).__name__,
                expected=f"({self.nodes}, {self.classes}), nodes by classes",
                received=tuple(logits.shape),
            )
        return logits[node]


def _sparse(places: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.sparse_coo_tensor(places.long(), values, shape, is_coalesced=True, check_invariants=False)
