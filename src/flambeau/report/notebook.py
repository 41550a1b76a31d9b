"""How data sets, runs and models show themselves in a notebook: small HTML that brings its own styles."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from flambeau.report.elements import escape, number, picture, plain

if TYPE_CHECKING:
    from flambeau.columns import Dataset, Split

SHOWN = 12
STYLE = """<style>
.flambeau { font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; max-width: 46rem; }
.flambeau b { font-size: 15px; }
.flambeau table { border-collapse: collapse; margin: .5em 0; font-variant-numeric: tabular-nums; }
.flambeau th, .flambeau td { text-align: left; padding: .2em 1.2em .2em 0; border: 0;
  border-bottom: 1px solid rgba(128, 128, 128, .3); background: none; vertical-align: top; }
.flambeau th { font-weight: 400; opacity: .7; white-space: nowrap; }
.flambeau .row { display: flex; flex-wrap: wrap; gap: 8px; margin: .6em 0; }
.flambeau figure { margin: 0; width: 64px; font-size: 11px; }
.flambeau figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; opacity: .8; }
.flambeau img { width: 64px; height: 64px; object-fit: contain; border-radius: 4px; display: block; margin: 0; }
.flambeau img.tiny { image-rendering: pixelated; }
</style>"""


def table_html(title: str, rows: Mapping[str, object]) -> str:
    """A title and names with values, for the ``_repr_html_`` of a run or a model.

    Example:
        >>> "<td>0.912</td>" in table_html("A run", {"accuracy": 0.912})
        True
    """
    return f'{STYLE}<div class="flambeau"><b>{escape(title)}</b>{_rows(rows)}</div>'


def dataset_html(dataset: Dataset) -> str:
    """A data set in a few lines: its splits, its columns, what its source says, and the first pictures.

    Thumbnails are shown where the first split has a dense uint8 column ``image``, ``(N, C, H, W)``.

    Args:
        dataset: Any data set; whatever is unusual about it is left out.
    """
    first = next(iter(dataset.splits.values()), None)
    rows: dict[str, object] = {"splits": {name: len(split) for name, split in dataset.splits.items()}}
    if first is not None:
        rows |= {f"column {name}": _kind(column) for name, column in first.columns.items()}
    rows |= {name: plain(value) for name, value in dataset.info.items() if value not in (None, "", [], {})}
    rows["hash"] = dataset.hash[:16]
    pictures = "" if first is None else _thumbnails(first, dataset.info.get("classes"))
    return f'{STYLE}<div class="flambeau"><b>{escape(dataset.name)}</b>{pictures}{_rows(rows)}</div>'


def _rows(rows: Mapping[str, object]) -> str:
    made = "".join(f"<tr><th>{escape(name)}</th><td>{escape(plain(value))}</td></tr>" for name, value in rows.items())
    return f"<table>{made}</table>"


def _kind(column: Any) -> str:
    if isinstance(column, Tensor):
        sides = " × ".join(number(side) for side in column.shape[1:])
        return f"{str(column.dtype).removeprefix('torch.')}{f' ({sides})' if sides else ''}"
    return f"list of {type(column[0]).__name__}" if len(column) else "list"


def _thumbnails(split: Split, classes: object) -> str:
    images, labels = split.columns.get("image"), split.columns.get("label")
    dense = isinstance(images, Tensor) and images.ndim == 4 and str(images.dtype) == "torch.uint8"
    if not isinstance(images, Tensor) or not dense or images.shape[1] not in (1, 3, 4):
        return ""
    named = labels[:SHOWN].tolist() if isinstance(labels, Tensor) and labels.ndim == 1 else []
    cells = ""
    for image, label in itertools.zip_longest(images[:SHOWN], named):
        name = "" if label is None else _class_name(classes, label)
        cells += f"<figure>{picture(image, name, side=64)}<figcaption>{escape(name)}</figcaption></figure>"
    return f'<div class="row">{cells}</div>'


def _class_name(classes: object, label: object) -> str:
    if isinstance(classes, list | tuple) and isinstance(label, int) and 0 <= label < len(classes):
        return str(classes[label])
    return str(label)
