"""Graphs from files and objects: what is read, what is refused, and the matrices that come of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flambeau.columns import Dataset
from flambeau.data.datasets import citeseer, cora
from flambeau.data.graphs import GRAPH, from_arrays, from_object, is_graph, matrices, read_npz
from flambeau.errors import DataError

Arrays = dict[str, Any]


def arrays(**changes: Any) -> Arrays:
    """Five nodes in a path 0-1-2-3, and 4 alone; three features, two classes, masks."""
    made: Arrays = {
        "x": np.array([[1, 0, 0], [0, 2, 0], [0, 1, 1], [0, 0, 4], [0, 0, 0]], dtype=np.float32),
        "edge_index": np.array([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]]),
        "y": np.array([0, 1, 0, 1, -1]),
        "train_mask": np.array([True, True, False, False, False]),
        "val_mask": np.array([False, False, True, False, False]),
        "test_mask": np.array([False, False, False, True, False]),
    }
    made |= changes
    return {name: value for name, value in made.items() if value is not None}


def as_csr(dense: np.ndarray[Any, Any]) -> Arrays:
    rows, columns = dense.nonzero()
    counts = np.bincount(rows, minlength=len(dense))
    return {
        "x": None,
        "x_indptr": np.concatenate([[0], counts.cumsum()]).astype(np.int32),
        "x_indices": columns.astype(np.int32),
        "x_data": dense[rows, columns],
        "x_shape": np.array(dense.shape),
    }


def opened(**changes: Any) -> Dataset:
    return from_arrays(arrays(**changes), name="toy", info={}, where="toy")


def test_nodes_of_the_masks_are_rows_and_the_graph_is_one(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "path.npz", **arrays())
    dataset = read_npz(tmp_path / "path.npz")
    assert dataset.name == "path" and dataset.info["classes"] == ["0", "1"]
    rows = {name: split.tensor("node").tolist() for name, split in dataset.splits.items() if name != GRAPH}
    assert rows == {"train": [0, 1], "val": [2], "test": [3]}
    assert dataset.splits["test"].tensor("label").tolist() == [1]
    assert len(dataset.splits[GRAPH]) == 1
    about = {name: dataset.info["graph"][name] for name in ("nodes", "edges", "features", "entries")}
    assert about == {"nodes": 5, "edges": 3, "features": 3, "entries": 5}
    assert dataset.info["notes"] == ["1 of the 5 nodes have no edge."]


def test_matrices_are_those_of_the_paper() -> None:
    dataset = opened()
    x, links = matrices(dataset.splits[GRAPH], 3)
    adjacency = np.zeros((5, 5))
    adjacency[tuple(arrays()["edge_index"])] = 1
    adjacency += np.eye(5)
    root = np.diag(adjacency.sum(1) ** -0.5)
    np.testing.assert_allclose(links.to_dense().numpy(), root @ adjacency @ root, rtol=1e-6)
    np.testing.assert_allclose(x.to_dense()[2].numpy(), [0, 0.5, 0.5])
    assert x.to_dense()[4].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["csr", "csr with columns in another order", "one direction", "twice and with loops"])
def test_the_same_graph_in_another_form_has_the_same_hash(kind: str) -> None:
    changes: Arrays
    if kind.startswith("csr"):
        changes = as_csr(arrays()["x"])
        if "another order" in kind:
            changes["x_indices"][2:4] = changes["x_indices"][2:4][::-1].copy()
            changes["x_data"][2:4] = changes["x_data"][2:4][::-1].copy()
    elif kind == "one direction":
        changes = {"edge_index": np.array([[0, 1, 2], [1, 2, 3]])}
    else:
        edges = arrays()["edge_index"]
        changes = {"edge_index": np.concatenate([edges, edges, [[2], [2]]], axis=1)}
    made = opened(**changes)
    assert made.hash == opened().hash
    assert made.info["graph"] == opened().info["graph"]
    told = " ".join(made.info["notes"])
    assert ("one direction" in told) == (kind == "one direction")
    assert ("to itself" in told) == ("loops" in kind)


def test_without_masks_every_labelled_node_is_for_training() -> None:
    dataset = opened(train_mask=None, val_mask=None, test_mask=None)
    assert list(dataset.splits) == ["train", GRAPH]
    assert dataset.splits["train"].tensor("node").tolist() == [0, 1, 2, 3]


def test_class_names_are_read() -> None:
    assert opened(classes=np.array(["cat", "dog", "cow"])).info["classes"] == ["cat", "dog", "cow"]


WRONG = {
    "no edges": ({"edge_index": None}, "no array 'edge_index'"),
    "no labels": ({"y": None}, "no array 'y'"),
    "no features": ({"x": None}, "features of the nodes are missing"),
    "edges of another shape": ({"edge_index": np.zeros((3, 2), dtype=int)}, "edge_index"),
    "an edge to nowhere": ({"edge_index": np.array([[0], [5]])}, "outside the 5 nodes"),
    "a negative node": ({"edge_index": np.array([[0], [-1]])}, "outside the 5 nodes"),
    "edges that are no whole numbers": ({"edge_index": np.array([[0.0], [1.0]])}, "Whole numbers"),
    "too few labels": ({"y": np.array([0, 1])}, "'y'"),
    "a label below -1": ({"y": np.array([0, 1, 0, 1, -2])}, "numbered from 0"),
    "a mask of numbers": ({"train_mask": np.array([1, 1, 0, 0, 0])}, "train_mask"),
    "a mask too short": ({"test_mask": np.array([True])}, "test_mask"),
    "masks that overlap": ({"test_mask": np.array([True, False, False, True, False])}, "two masks"),
    "a mask with a node without label": ({"val_mask": np.array([False] * 4 + [True])}, "no label"),
    "an empty mask": ({"val_mask": np.zeros(5, dtype=bool)}, "no node in val"),
    "no training mask": ({"train_mask": None}, "none for training"),
    "a feature that is not a number": ({"x": np.full((5, 3), np.nan, dtype=np.float32)}, "not finite"),
    "features in one dimension": ({"x": np.zeros(5, dtype=np.float32)}, "'x'"),
    "features that are text": ({"x": np.array([["a"] * 3] * 5)}, "'x'"),
    "too few class names": ({"classes": np.array(["one"])}, "classes"),
    "half of a CSR matrix": ({**as_csr(arrays()["x"]), "x_indices": None}, "features of the nodes are missing"),
    "a column outside": ({**as_csr(arrays()["x"]), "x_indices": np.array([0, 1, 1, 2, 3])}, "outside the 3 features"),
    "row starts that fall": ({**as_csr(arrays()["x"]), "x_indptr": np.array([0, 2, 1, 4, 5, 5])}, "row starts"),
    "row starts of another length": ({**as_csr(arrays()["x"]), "x_indptr": np.array([0, 5])}, "x_indptr"),
    "values of another length": ({**as_csr(arrays()["x"]), "x_data": np.ones(3)}, "x_data"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_a_graph_is_refused(what: str) -> None:
    changes, said = WRONG[what]
    with pytest.raises(DataError) as caught:
        opened(**changes)
    assert said in str(caught.value)
    assert str(caught.value).startswith("toy")


def test_python_objects_in_a_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, **{**arrays(), "y": np.array([{}] * 5, dtype=object)})
    with pytest.raises(DataError, match="cannot be read as arrays"):
        read_npz(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"text"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    assert not is_graph(path)
    with pytest.raises(DataError, match="cannot be read as arrays"):
        read_npz(path)


def test_a_graph_is_known_by_its_edges(tmp_path: Path) -> None:
    np.savez(tmp_path / "graph.npz", **arrays())
    np.savez(tmp_path / "pictures.npz", x_train=np.zeros((3, 8, 8), dtype=np.uint8))
    assert is_graph(tmp_path / "graph.npz") and not is_graph(tmp_path / "pictures.npz")
    assert not is_graph(tmp_path / "nothing.npz")


@dataclass
class Data:
    """The attributes that torch_geometric's Data has."""

    x: Any
    edge_index: Any
    y: Any
    train_mask: Any = None
    val_mask: Any = None
    test_mask: Any = None


@pytest.mark.parametrize("form", ["dense", "sparse", "in a data set of one"])
def test_an_object_in_the_shape_of_torch_geometric(form: str) -> None:
    tensors = {name: torch.from_numpy(value) for name, value in arrays().items()}
    if form == "sparse":
        tensors["x"] = tensors["x"].to_sparse()
    made = Data(**tensors)
    dataset = from_object([made] if form == "in a data set of one" else made)
    assert dataset.hash == opened().hash


def test_several_graphs_are_refused() -> None:
    with pytest.raises(DataError, match="Nodes of one graph"):
        from_object([1, 2])


def data_is_here(name: str) -> bool:
    roots = os.environ.get("FLAMBEAU_DATA", "").split(os.pathsep)
    return any((Path(root) / folder / f"{name}.npz").is_file() for root in roots for folder in ("planetoid", name, ""))


@pytest.mark.parametrize(("name", "load", "sizes"), [("cora", cora.load, (140, 500, 1000)),
                                                     ("citeseer", citeseer.load, (120, 500, 1000))])  # fmt: skip
def test_the_published_graphs(name: str, load: Any, sizes: tuple[int, int, int]) -> None:
    if not data_is_here(name):
        pytest.skip(f"FLAMBEAU_DATA names no folder with {name}.npz")
    dataset = load()
    assert tuple(len(dataset.splits[split]) for split in ("train", "val", "test")) == sizes
    labels = torch.bincount(dataset.splits["train"].tensor("label"))
    assert labels.tolist() == [20] * len(dataset.info["classes"])


def test_a_published_graph_that_is_missing_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMBEAU_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        cora.load()
    assert "cora.npz" in str(caught.value) and "Planetoid('planetoid', 'Cora')" in str(caught.value)


def test_another_graph_of_that_name_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "cora.npz", **arrays())
    with pytest.raises(DataError, match="does not hold the graph cora"):
        cora.load([tmp_path])
