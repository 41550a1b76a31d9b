"""The graph of a network: the edges are those of its forward, whatever lies between the layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from flambeau import catalog
from flambeau.models.graph import INPUT, Node, graph
from flambeau.recipe import parse


class Branches(nn.Module):
    """Two branches over views and in-place operations, joined twice, with a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.left = nn.Conv2d(4, 4, 1)
        self.right = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        left = self.left(x).relu_()
        right = self.right(x[:, :, ::1]) + x
        joined = torch.cat([left, right], 1)
        pooled = joined.mean((2, 3)) / 2.0
        return self.head(pooled)


def told(nodes: list[Node]) -> list[tuple[str, list[str]]]:
    return [(node.name, [nodes[number].name for number in node.sources]) for node in nodes]


def test_edges_follow_the_results_through_views_and_operations() -> None:
    network = Branches()
    nodes = graph(network, lambda: network(torch.rand(1, 1, 6, 6)))
    assert told(nodes) == [
        (INPUT, []),
        ("stem", [INPUT]),
        ("act", ["stem"]),
        ("left", ["act"]),
        ("right", ["act"]),
        ("add", ["act", "right"]),
        ("cat", ["left", "add"]),
        ("head", ["cat"]),
    ]
    assert nodes[6].shape == (1, 8, 6, 6)


def test_a_plain_sequence_is_a_chain() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    nodes = graph(network, lambda: network(torch.rand(2, 1, 2, 2)))
    assert [node.sources for node in nodes] == [(), (0,), (1,), (2,), (3,)]
    assert [node.kind for node in nodes[1:]] == ["Flatten", "Linear", "ReLU", "Linear"]


def test_a_network_that_is_one_layer_has_a_name_too() -> None:
    layer = nn.Linear(2, 2)
    assert [node.name for node in graph(layer, lambda: layer(torch.rand(1, 2)))] == [INPUT, "Linear"]


def test_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    graph(network, lambda: network(torch.ones(3, 2)))
    assert network.training
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert torch.get_rng_state().equal(state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("task_name", catalog.task_names())
def test_the_usual_network_of_every_task_has_a_graph(task_name: str) -> None:
    task = catalog.task(task_name)
    recipe = parse(catalog.tables(task))
    model = task.build(recipe, task.toy, catalog.network(recipe.model.name, task))
    nodes = graph(getattr(model, "network", model), lambda: (task.trace or task.predict)(model, task.example(task.toy)))
    assert len(nodes) > 1
    assert all(number < place for place, node in enumerate(nodes) for number in node.sources)
    assert sum(not node.sources for node in nodes) < len(nodes) / 2
