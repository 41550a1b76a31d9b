"""One graph with labelled nodes, from an ``.npz`` of plain arrays or from an object of torch_geometric's shape.

The file (``numpy.load(path, allow_pickle=False)`` must be able to read it) holds

- the features of N nodes: ``x`` ``(N, F)``, or as a CSR matrix ``x_indptr`` ``(N + 1,)``, ``x_indices``, ``x_data``
  and ``x_shape`` ``(2,)``;
- ``edge_index`` ``(2, E)``, integers: from which node to which. Edges count in both directions, however often given;
- ``y`` ``(N,)``, integers: the class of each node, -1 where it is not known;
- optionally ``train_mask``, ``val_mask``, ``test_mask`` ``(N,)`` bool, and ``classes`` ``(K,)``, the names.

Rows of a split are nodes. The graph itself is a split of one row, ``graph``, whose columns have one more dimension.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flambeau.columns import Dataset, Split
from flambeau.data.hashing import dataset_hash
from flambeau.errors import DataError

GRAPH = "graph"
"""The split that holds the graph."""

MASKS = {"train": "train_mask", "val": "val_mask", "test": "test_mask"}
SPARSE = ("x_indptr", "x_indices", "x_data", "x_shape")
KNOWN = ("x", *SPARSE, "edge_index", "y", *MASKS.values(), "classes")

Array = NDArray[Any]


def is_graph(path: Path) -> bool:
    """Whether a file is an ``.npz`` with edges in it; reads its table of contents only."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "edge_index.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


def read_npz(path: Path, info: Mapping[str, Any] | None = None, *, name: str | None = None) -> Dataset:
    """The graph in an ``.npz`` file, of the form that the module describes.

    Args:
        path: The file.
        info: What is known of the source besides, such as ``classes`` and ``licence``.
        name: What to call the data set; by default the file's stem.

    Raises:
        DataError: It cannot be read, an array is missing, has another shape or points outside the graph.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files if key in KNOWN}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            "The file cannot be read as arrays of numbers.",
            where=path,
            expected="an .npz that numpy.savez or numpy.savez_compressed wrote, without Python objects in it",
            received=f"{type(error).__name__}: {error}",
        ) from error
    known = {"source": str(path.absolute()), **(info or {})}
    return from_arrays(arrays, name=name or path.stem, info=known, where=path)


def from_object(graph: Any, *, name: str | None = None, origin: str | None = None) -> Dataset:
    """The graph in an object with the attributes of ``torch_geometric.data.Data``.

    Args:
        graph: Has ``x`` (dense or sparse), ``edge_index``, ``y``, and perhaps the masks; tensors or arrays. A data set
            of one such object, as torch_geometric's ``Planetoid`` is, will do too.
        name: What to call the data set.
        origin: Where it comes from.

    Raises:
        DataError: It has no such attributes, or they do not fit together.
    """
    if not hasattr(graph, "edge_index") and hasattr(graph, "__getitem__") and hasattr(graph, "__len__"):
        if len(graph) != 1:
            raise DataError("Nodes of one graph are classified here.", expected="one graph", received=len(graph))
        graph = graph[0]
    arrays: dict[str, Array] = {}
    for key in ("x", "edge_index", "y", *MASKS.values()):
        value = getattr(graph, key, None)
        if isinstance(value, Tensor):
            value = (value.to_dense() if value.layout != torch.strided else value).detach().cpu().numpy()
        if value is not None:
            arrays[key] = np.asarray(value)
    names = getattr(graph, "classes", None)
    info: dict[str, Any] = {"source": origin or "an object in memory"}
    if names is not None:
        info["classes"] = [str(title) for title in names]
    return from_arrays(arrays, name=name or "graph", info=info, where=origin or type(graph).__name__)


def from_arrays(arrays: Mapping[str, Array], *, name: str, info: Mapping[str, Any], where: object) -> Dataset:
    """The data set of a graph: ``train``, ``val`` and ``test`` with columns ``node`` and ``label``, and ``graph``.

    Without masks every labelled node is in ``train``, to be divided as the recipe says.

    Args:
        arrays: As the module describes.
        name: The data set's name.
        info: ``source``, ``licence`` and the like; ``classes`` here wins over the array of that name.
        where: For messages.

    Raises:
        DataError: An array is missing, has another shape, or points outside the graph; masks overlap.
    """
    indptr, indices, values, features = _features(arrays, where)
    nodes = len(indptr) - 1
    label = _integers(arrays, "y", where)
    if label.shape != (nodes,):
        raise _wrong_shape("y", f"({nodes},), one class for each row of the features", label.shape, where)
    edges, notes = _edges(_integers(arrays, "edge_index", where), nodes, where)
    classes = list(info.get("classes") or _class_names(arrays, label, where))
    if int(label.max(initial=-1)) >= len(classes) or int(label.min(initial=0)) < -1:
        raise DataError(
            "Labels are numbered from 0 on.",
            where=f"{where}: y",
            expected=f"0 to {len(classes) - 1}, or -1 where it is not known",
            received=f"{label.min()} to {label.max()}",
        )
    columns = {"x_indptr": indptr, "x_indices": indices, "x_data": values, "edge_index": edges}
    tensors = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in columns.items()}
    splits = _node_splits(arrays, label, nodes, where)
    splits[GRAPH] = Split({key: value.unsqueeze(0) for key, value in tensors.items()})
    about = {
        "nodes": nodes,
        "edges": edges.shape[1] // 2,
        "features": features,
        "entries": len(indices),
        "sha256": hashlib.sha256(b"".join(np.ascontiguousarray(value).data for value in columns.values())).hexdigest(),
    }
    told = [*info.get("notes", ()), *notes]
    return Dataset(name, splits, {**info, "classes": classes, "notes": told, "graph": about}, dataset_hash(splits))


def matrices(graph: Split, features: int) -> tuple[Tensor, Tensor]:
    """The two matrices that a graph network works with, as sparse float32 COO tensors on the CPU.

    Args:
        graph: The split ``graph``.
        features: F.

    Returns:
        The features ``(N, F)`` with rows that sum to 1, and ``D^-1/2 (A + I) D^-1/2`` ``(N, N)``, the adjacency with
        self-loops, normalised by degrees (Kipf and Welling, ICLR 2017, equation 2).
    """
    indptr, indices, values, edges = (graph.tensor(key)[0] for key in ("x_indptr", "x_indices", "x_data", "edge_index"))
    nodes = len(indptr) - 1
    rows = torch.arange(nodes).repeat_interleave(indptr.diff())
    sums = torch.zeros(nodes).index_add_(0, rows, values)
    inverse = torch.where(sums == 0, 0.0, 1 / sums)
    x = sparse(torch.stack([rows, indices]), values * inverse[rows], (nodes, features))
    loops = torch.arange(nodes).expand(2, -1)
    links = torch.cat([edges, loops], dim=1)
    links = links[:, torch.argsort(links[0] * nodes + links[1])]
    root = torch.bincount(links[0], minlength=nodes).to(torch.float32).rsqrt()
    return x, sparse(links, root[links[0]] * root[links[1]], (nodes, nodes))


def sparse(places: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse COO matrix from places ``(2, n)`` that are sorted by rows and all different."""
    return torch.sparse_coo_tensor(places.long(), values, shape, is_coalesced=True, check_invariants=False)


def _features(arrays: Mapping[str, Array], where: object) -> tuple[Array, Array, Array, int]:
    """Row starts, columns (sorted in each row), values and the number of features."""
    if "x" in arrays:
        dense = arrays["x"]
        if dense.ndim != 2 or dense.dtype.kind not in "fiub":
            raise _wrong_shape("x", "(nodes, features), numbers", f"{dense.shape} {dense.dtype}", where)
        rows, indices = dense.nonzero()
        values = dense[rows, indices].astype(np.float32)
        indptr = np.concatenate([[0], np.bincount(rows, minlength=len(dense)).cumsum()])
        return _finite(indptr.astype(np.int64), indices.astype(np.int64), values, dense.shape[1], where)
    missing = [key for key in SPARSE if key not in arrays]
    if missing:
        raise DataError(
            "The features of the nodes are missing.",
            where=where,
            expected=f"x, or {', '.join(SPARSE)}",
            received=", ".join(sorted(arrays)) or "no array that is known here",
        )
    shape, indptr, indices = (_integers(arrays, key, where) for key in ("x_shape", "x_indptr", "x_indices"))
    if shape.shape != (2,) or indptr.shape != (int(shape[0]) + 1,):
        raise _wrong_shape("x_indptr", "one more entry than x_shape[0]", indptr.shape, where)
    values = arrays["x_data"]
    if indices.ndim != 1 or values.shape != indices.shape or values.dtype.kind not in "fiub":
        raise _wrong_shape("x_data", f"numbers of the shape of x_indices, {indices.shape}", values.shape, where)
    if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise DataError(
            "The row starts do not rise from 0 to the number of entries.",
            where=f"{where}: x_indptr",
            expected=f"0 to {len(indices)}",
        )
    _within(indices, int(shape[1]), "x_indices", "features", where)
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    order = np.lexsort((indices, rows))
    return _finite(indptr, indices[order], values[order].astype(np.float32), int(shape[1]), where)


def _finite(
    indptr: Array, indices: Array, values: Array, features: int, where: object
) -> tuple[Array, Array, Array, int]:
    if len(indptr) < 2 or features < 1:
        raise DataError("The graph has no nodes, or its nodes no features.", where=where)
    if not np.isfinite(values).all():
        raise DataError("Some features are not finite.", where=where, received="NaN or infinity")
    return indptr, indices, values, features


def _edges(edges: Array, nodes: int, where: object) -> tuple[Array, list[str]]:
    """Both directions of every edge once, without self-loops, sorted; and what was done to get there."""
    if edges.ndim != 2 or edges.shape[0] != 2:
        raise _wrong_shape("edge_index", "(2, edges)", edges.shape, where)
    _within(edges, nodes, "edge_index", "nodes", where)
    source, target = edges
    loops = int((source == target).sum())
    one_way = np.unique(source * nodes + target)
    both = np.unique(np.concatenate([source * nodes + target, target * nodes + source]))
    both = both[both // nodes != both % nodes]
    notes = []
    if len(both) > len(one_way) - loops:
        notes.append("Some edges are given in one direction only; all count in both.")
    if loops:
        notes.append(f"{loops:,} edges from a node to itself were left out; every node sees itself in any case.")
    alone = nodes - len(np.unique(both // nodes))
    if alone:
        notes.append(f"{alone:,} of the {nodes:,} nodes have no edge.")
    return np.stack([both // nodes, both % nodes]).astype(np.int64), notes


def _node_splits(arrays: Mapping[str, Array], label: Array, nodes: int, where: object) -> dict[str, Split]:
    masks = {name: arrays[key] for name, key in MASKS.items() if key in arrays}
    for name, mask in masks.items():
        if mask.shape != (nodes,) or mask.dtype != np.bool_:
            raise _wrong_shape(MASKS[name], f"({nodes},), bool", f"{mask.shape} {mask.dtype}", where)
        if (label[mask] < 0).any():
            raise DataError(
                "A node that is in a mask has no label.", where=f"{where}: {MASKS[name]}", received="a label of -1"
            )
    if masks and "train" not in masks:
        raise DataError("There are masks, but none for training.", where=where, expected="train_mask")
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        both = int((masks[first] & masks[second]).sum()) if first in masks and second in masks else 0
        if both:
            raise DataError(
                f"{both:,} nodes are in two masks, so a score on them would say nothing.",
                where=f"{where}: {MASKS[first]} and {MASKS[second]}",
                expected="masks without a node in common",
            )
    masks = masks or {"train": label >= 0}
    splits = {}
    for name, mask in masks.items():
        chosen = torch.from_numpy(mask.nonzero()[0].astype(np.int64))
        if not len(chosen):
            raise DataError(f"There is no node in {name}.", where=where, expected="at least one labelled node")
        splits[name] = Split({"node": chosen, "label": torch.from_numpy(label.astype(np.int64))[chosen]})
    return splits


def _class_names(arrays: Mapping[str, Array], label: Array, where: object) -> Sequence[str]:
    count = int(label.max(initial=-1)) + 1
    names = arrays.get("classes")
    if names is None:
        return [str(number) for number in range(count)]
    if names.ndim != 1 or names.dtype.kind != "U" or len(names) < count:
        raise _wrong_shape("classes", f"at least {count} texts", f"{names.shape} {names.dtype}", where)
    return [str(title) for title in names]


def _integers(arrays: Mapping[str, Array], key: str, where: object) -> Array:
    if key not in arrays:
        raise DataError(
            f"There is no array {key!r}.",
            where=where,
            expected="x (or its CSR form), edge_index, y",
            received=", ".join(sorted(arrays)) or "no array that is known here",
        )
    if arrays[key].dtype.kind not in "iu":
        raise DataError("Whole numbers are needed here.", where=f"{where}: {key}", received=arrays[key].dtype)
    return arrays[key].astype(np.int64)


def _within(numbers: Array, limit: int, key: str, noun: str, where: object) -> None:
    if numbers.size and (numbers.min() < 0 or numbers.max() >= limit):
        raise DataError(
            f"A number points outside the {limit:,} {noun}.",
            where=f"{where}: {key}",
            expected=f"0 to {limit - 1}",
            received=f"{numbers.min()} to {numbers.max()}",
        )


def _wrong_shape(key: str, expected: str, received: object, where: object) -> DataError:
    return DataError(f"The array {key!r} is not what it should be.", where=where, expected=expected, received=received)
