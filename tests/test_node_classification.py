"""Nodes of a graph through the one loop: learning, asking, refusing, resuming."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flambeau
from flambeau import catalog
from flambeau.columns import Dataset
from flambeau.data.graphs import GRAPH, from_arrays, matrices
from flambeau.engine import checkpoint
from flambeau.errors import BadRows, DataError, ModelError
from flambeau.models.gcn import gcn
from flambeau.recipe import parse
from flambeau.tasks.node_classification import TASK

NODES = 120


def communities(seed: int = 0) -> dict[str, Any]:
    """Two groups of 60 nodes: 5 edges a node, nine in ten inside the group; features that hint at the group."""
    random = np.random.default_rng(seed)
    y = np.arange(NODES) % 2
    edges = []
    for node in range(NODES):
        for _ in range(5):
            side = y[node] if random.random() < 0.9 else 1 - y[node]
            edges.append((node, 2 * int(random.integers(NODES // 2)) + side))
    hint = (random.random((NODES, 20)) < np.where(y[:, None] == np.arange(20) % 2, 0.25, 0.15)).astype(np.float32)
    part = random.permutation(NODES)
    masks = {name: np.isin(np.arange(NODES), part[first:last]) for name, first, last in
             (("train_mask", 0, 20), ("val_mask", 20, 50), ("test_mask", 50, NODES))}  # fmt: skip
    return {"x": hint, "edge_index": np.array(edges).T, "y": y, "classes": np.array(["even", "odd"]), **masks}


SETTINGS = {
    "task": "node-classification",
    "data": {"shuffle": False},
    "model": {"name": "gcn"},
    "optimizer": {"name": "adam", "lr": 0.02, "weight_decay": 5e-4},
    "train": {"epochs": 40, "batch_size": 1000, "eval_batch_size": 1000, "device": "cpu"},
    "log": {"every": 1, "tensorboard": False},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "communities.npz"
    np.savez_compressed(path, **communities())
    return path


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return flambeau.train(source, recipe=SETTINGS, out=tmp_path_factory.mktemp("runs") / "run", quiet=True)


def prepared(**changes: Any) -> tuple[Dataset, dict[str, Any], Any]:
    recipe = parse(SETTINGS | changes)
    dataset = TASK.intake.divide(from_arrays(communities(), name="toy", info={}, where="toy"), recipe)
    facts = TASK.facts(dataset.splits["train"], dataset.info, recipe)
    return dataset, TASK.measure(dataset.splits["train"], facts, recipe), recipe


def test_the_network_is_the_formula_of_the_paper() -> None:
    dataset, facts, _ = prepared()
    x, links = matrices(dataset.splits[GRAPH], facts["features"])
    network = gcn(facts).eval()
    first, second = (parameter.detach() for parameter in network.parameters())
    dense = links.to_dense()
    torch.testing.assert_close(network(x, links), dense @ (dense @ x.to_dense() @ first).relu() @ second)


def test_dropout_of_sparse_features_keeps_their_mean() -> None:
    torch.manual_seed(0)
    features, links = torch.ones(4000, 50).to_sparse(), torch.eye(4000).to_sparse()
    network = gcn({"features": 50, "classes": ["a", "b"]}, layers=1).train()
    kept = network(features, links)
    assert not torch.equal(kept, network(features, links))
    torch.testing.assert_close(kept.mean(0), network.eval()(features, links).mean(0), atol=0.1, rtol=0)


@pytest.mark.parametrize("arguments", [{"hidden": 0}, {"layers": 0}, {"dropout": 1.0}, {"dropout": "much"}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        gcn(TASK.toy, **arguments)
    assert caught.value.where == f"model.{next(iter(arguments))}"


def test_weight_decay_is_for_the_first_layer_alone() -> None:
    _, facts, recipe = prepared()
    model = TASK.build(recipe, facts, gcn)
    made = TASK.phases(recipe, facts)[0].optimizer(list(model.named_parameters()))
    assert [(group["weight_decay"], tuple(group["params"][0].shape)) for group in made.param_groups] == [
        (5e-4, (20, 16)),
        (0.0, (16, 2)),
    ]
    assert all(group["lr"] == 0.02 for group in made.param_groups)
    everywhere = parse(SETTINGS | {"options": {"decay": "all"}})
    (group,) = TASK.phases(everywhere, facts)[0].optimizer(list(model.named_parameters())).param_groups
    assert group["weight_decay"] == 5e-4 and len(group["params"]) == 2


def test_edges_make_it_learn_what_features_alone_do_not(run: Any) -> None:
    assert run.scores["test/accuracy"] > 0.85
    dataset, facts, recipe = prepared()
    assert TASK.baseline is not None
    assert TASK.baseline(dataset, facts, recipe).scores["accuracy"] < run.scores["test/accuracy"]


def test_a_saved_model_answers_for_the_nodes_of_its_graph(run: Any, source: Path) -> None:
    model = flambeau.load(run.path)
    answers = model.predict(["0", 1, " 119 "])
    assert [set(answer) for answer in answers] == [{"class", "probability", "classes"}] * 3
    everyone = [row["class"] for row in model.predict(list(range(NODES)))]
    right = np.mean([name == ("even", "odd")[node % 2] for node, name in enumerate(everyone)])
    assert right > 0.85
    scored = flambeau.evaluate(run.path)
    assert scored.scores["accuracy"] == run.scores["test/accuracy"]


@pytest.mark.parametrize("node", ["120", "-1", "x", "1.5", ""])
def test_a_node_that_is_not_there_is_refused(run: Any, node: str) -> None:
    with pytest.raises(BadRows, match="no such node"):
        flambeau.load(run.path).predict(node)


def test_other_labels_of_the_same_graph_can_be_scored_and_another_graph_cannot(run: Any, tmp_path: Path) -> None:
    changed = communities()
    changed["y"] = 1 - changed["y"]
    np.savez(tmp_path / "turned.npz", **changed)
    turned = flambeau.evaluate(run.path, tmp_path / "turned.npz")
    assert turned.scores["accuracy"] == pytest.approx(1 - run.scores["test/accuracy"])
    np.savez(tmp_path / "other.npz", **communities(seed=1))
    with pytest.raises(DataError, match="another graph"):
        flambeau.evaluate(run.path, tmp_path / "other.npz")


def test_a_graph_without_masks_is_divided(tmp_path: Path) -> None:
    bare = {name: value for name, value in communities().items() if not name.endswith("mask")}
    dataset = TASK.intake.divide(from_arrays(bare, name="toy", info={}, where="toy"), parse(SETTINGS))
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    assert sizes == {"train": 77, "val": 19, "test": 24, GRAPH: 1}
    assert "nodes" in " ".join(dataset.info["notes"])


def test_the_report_and_what_inspect_says(run: Any, source: Path) -> None:
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "nodes" in page and "pictures" not in page and "Confusion" in page
    raw = TASK.intake.open(source, parse(SETTINGS))
    found = TASK.intake.describe(raw)
    assert (
        json.loads(json.dumps(found))["counts"]["train"] == {"even": 10, "odd": 10}
        or sum(found["counts"]["train"].values()) == 20
    )
    assert TASK.view.about(found)["graph"].startswith("120 nodes")
    assert len(TASK.view.samples(raw, 3)) == 3


def test_a_run_that_is_broken_off_goes_on_to_the_same_bits(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenOffError(Exception):
        pass

    def stop(record: Any, state: Any) -> None:
        if record.kind == "step" and record.step == 9:
            raise BrokenOffError

    short = SETTINGS | {"train": {**SETTINGS["train"], "epochs": 15}}  # type: ignore[dict-item]
    whole = flambeau.train(source, recipe=short, out=tmp_path / "a" / "run", quiet=True)
    with pytest.raises(BrokenOffError):
        flambeau.train(source, recipe=short, out=tmp_path / "b" / "run", quiet=True, observers=[stop])
    assert checkpoint.paths(tmp_path / "b" / "run" / "checkpoints")
    flambeau.resume(tmp_path / "b" / "run", quiet=True)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "b" / "run" / name).read_bytes() == (whole.path / name).read_bytes(), name


def test_the_task_is_in_the_catalog_and_its_toy_builds_without_memory() -> None:
    assert catalog.task("node-classification") is TASK
    with torch.device("meta"):
        model = TASK.build(parse(SETTINGS), TASK.toy, gcn)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("cora", 0.795), ("citeseer", 0.685)])
def test_the_published_graphs_reach_the_published_accuracy(name: str, least: float, tmp_path: Path) -> None:
    roots = os.environ.get("FLAMBEAU_DATA", "").split(os.pathsep)
    if not any((Path(root) / folder / f"{name}.npz").is_file() for root in roots for folder in ("planetoid", name)):
        pytest.skip(f"FLAMBEAU_DATA names no folder with {name}.npz")
    run = flambeau.train(name, out=tmp_path / "run", quiet=True)
    assert run.scores["test/accuracy"] >= least
