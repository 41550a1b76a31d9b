"""A folder of pictures in a script: its own files, read plainly, where that gives what the run read."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from flambeau.columns import Dataset, Split
from flambeau.eject.copying import Copier
from flambeau.eject.reading import ROW, Reading, origin_of


def read_picture(
    path: Path, size: tuple[int, int], mode: str, background: tuple[int, int, int] | None = None
) -> Tensor:
    """A picture, upright and as large as the network takes it, uint8 ``(C, H, W)``."""
    picture: Image.Image = ImageOps.exif_transpose(Image.open(path))
    if background is not None and picture.has_transparency_data:
        front = picture.convert("RGBA")
        picture = Image.new("RGB", front.size, background)
        picture.paste(front, mask=front)
    picture = picture.convert(mode)
    planes = torch.from_numpy(np.array(picture)).view(1, picture.height, picture.width, -1).permute(3, 0, 1, 2)
    small = F.interpolate(planes.float(), size=size, mode="bilinear", antialias=True)
    # A little more than a half, so that halves go up whichever way the resize errs.
    return (small + 0.501).floor().clamp(0, 255).to(torch.uint8).squeeze(1)


def from_files(
    raw: Dataset, read: Dataset, facts: Mapping[str, Any], copier: Copier, stem: str
) -> Reading | str | None:
    """How a script reads a folder's own pictures.

    Returns:
        That; or why it cannot, as the end of a sentence; or None where the examples do not come from picture files.
    """
    pictured = all("image" in split.columns for split in raw.splits.values()) and "size" in facts
    if not pictured or any(not _are_paths(split["image"]) for split in raw.splits.values()):
        return None
    source = Path(str(raw.info.get("source", "")))
    root = source if source.is_dir() else source.parent
    if any(not path.is_relative_to(root) for split in raw.splits.values() for path in _paths(split)):
        return "the files were unpacked from an archive, and do not stay"
    if not _are_labelled(read):
        return "what belongs to a picture is not one class"
    known = {"size": tuple(facts["size"]), "mode": {1: "L", 3: "RGB"}[facts["channels"]], "background": None}
    odd = next(_differing(raw, read, known), None)
    if odd is not None:
        known["background"] = tuple(facts["rules"]["background"])
        odd = next(_differing(raw, read, known), None)
    if odd is not None:
        return f"{odd.relative_to(root).as_posix()} comes out otherwise when it is read plainly"
    reader = copier.reference(read_picture, known=known)
    same = read.splits.get("val") is read.splits.get("test")
    text = _TEXT.format(stem=stem, reader=reader, again='    splits["val"] = splits["test"]\n' if same else "")
    note = f"{stem}.csv, beside this script, says of each file of the folder which split and which class it belongs to."
    imports = {"import csv", "from pathlib import Path"}
    beside = {f"{stem}.csv": _table(raw, read, root)}
    return Reading(text, f"Path({json.dumps(str(root), ensure_ascii=False)})", beside, note, imports)


_TEXT = '''def read_data():
    """The examples as tensors: columns by name, splits by name."""
    splits = {{}}
    with (HERE / "{stem}.csv").open(newline="", encoding="utf-8") as table:
        for split, label, file in csv.reader(table):
            columns = splits.setdefault(split, {{"image": [], "label": []}})
            columns["image"].append({reader}(DATA / file))
            columns["label"].append(torch.tensor(int(label)))
{again}    return {{name: {{title: torch.stack(rows) for title, rows in one.items()}} for name, one in splits.items()}}
'''


def _are_paths(column: Any) -> bool:
    return isinstance(column, list) and bool(column) and all(isinstance(value, os.PathLike) for value in column)


def _paths(split: Split) -> list[Path]:
    return [Path(str(path)) for path in split["image"]]


def _are_labelled(read: Dataset) -> bool:
    """Whether a class is all that the examples have beside the picture; groups serve the division alone."""
    columns = read.splits["train"].columns
    return all(isinstance(columns.get(name), Tensor) for name in ("image", "label")) and "target" not in columns


def _files(raw: Dataset, read: Dataset) -> Iterator[tuple[str, Path, Tensor, int]]:
    """Of every example its split, its file, its picture and its label."""
    for name, split in read.splits.items():
        if name == "val" and split is read.splits.get("test"):
            continue
        paths, rows = _paths(raw.splits[origin_of(raw, name)]), split.tensor(ROW).tolist()
        for row, image, label in zip(rows, split.tensor("image"), split.tensor("label").tolist(), strict=True):
            yield name, paths[row], image, label


def _differing(raw: Dataset, read: Dataset, known: Mapping[str, Any]) -> Iterator[Path]:
    """The files that give another picture, or none, when they are read plainly."""
    for _, path, image, _ in _files(raw, read):
        try:
            same = torch.equal(read_picture(path, **known), image)
        # What Pillow raises about a file that the run could read all the same is as different as its formats.
        except Exception:
            same = False
        if not same:
            yield path


def _table(raw: Dataset, read: Dataset, root: Path) -> bytes:
    written = io.StringIO(newline="")
    rows = csv.writer(written, lineterminator="\n")
    rows.writerows((name, label, path.relative_to(root).as_posix()) for name, path, _, label in _files(raw, read))
    return written.getvalue().encode()
