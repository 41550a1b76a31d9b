"""What ``inspect`` shows of a data set: counts, sizes, channel statistics, and a labelled grid of samples."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from flambeau.columns import Column, Dataset, Split
from flambeau.data.hashing import key, keys
from flambeau.data.images import channel_counts, decode_all, fit, read_pictures, statistics_of
from flambeau.data.opening import DEFAULT_RULES, PictureRules
from flambeau.data.splits import leak_note, leaks, with_groups
from flambeau.errors import BadRows, FlambeauError

if TYPE_CHECKING:
    from rich.text import Text

_INK, _PAPER = (40, 44, 52), (255, 255, 255)
_COMMON_SIZES = 10
_CHUNK = 256


def describe(dataset: Dataset, rules: PictureRules = DEFAULT_RULES) -> dict[str, Any]:
    """A data set of labelled pictures in JSON values.

    Every picture is decoded, so that what cannot be read is found.

    Returns:
        ``name``, ``source``, ``hash``, ``rows`` (by split), with labels ``classes`` and ``counts`` (by split,
        then by class), ``sizes`` (the ten most frequent, as ``width``, ``height``, ``count``), ``size_range`` (smallest
        and largest ``width`` and ``height``), ``channels`` (how many pictures have 1 and 3), ``mean`` and ``std`` (of
        the training split by channel, in units of [0, 1]), ``duplicates``, ``notes``, ``licence`` and ``homepage`` if
        stated.

    Raises:
        BadRows: Some pictures cannot be read.
    """
    classes = [str(name) for name in dataset.info.get("classes", ())]
    labelled = "label" in dataset.splits["train"].columns
    counts = {name: _counts(split, classes) for name, split in dataset.splits.items()} if labelled else {}
    notes = list(dataset.info.get("notes", ()))
    duplicates = dataset.info.get("duplicates")
    if duplicates is None:
        grouped = {name: with_groups(split) for name, split in dataset.splits.items()}
        duplicates = leaks(grouped)
        notes += [leak_note(grouped)] if duplicates else []
    sizes: Counter[tuple[int, int]] = Counter()
    channels: Counter[int] = Counter()
    values = torch.zeros((3, 256), dtype=torch.int64)
    for name, split in dataset.splits.items():
        for pictures in _stacks(split["image"], rules):
            n, depth, height, width = pictures.shape
            sizes[width, height] += n
            channels[depth] += n
            if name == "train":
                values += channel_counts(pictures.expand(-1, 3, -1, -1) if depth == 1 else pictures)
    mean, std = statistics_of(values if channels[3] else values[:1])
    widths, heights = [width for width, _ in sizes], [height for _, height in sizes]
    return {
        "name": dataset.name,
        "source": dataset.info.get("source"),
        "hash": dataset.hash,
        **{name: dataset.info[name] for name in ("licence", "homepage") if name in dataset.info},
        **({"classes": classes, "counts": counts} if labelled else {}),
        "rows": {name: len(split) for name, split in dataset.splits.items()},
        "sizes": [{"width": w, "height": h, "count": n} for (w, h), n in sizes.most_common(_COMMON_SIZES)],
        "size_range": {"width": [min(widths), max(widths)], "height": [min(heights), max(heights)]} if sizes else None,
        "channels": {str(number): count for number, count in sorted(channels.items())},
        "mean": mean,
        "std": std,
        "duplicates": list(duplicates),
        "notes": notes,
    }


def _stacks(column: Column, rules: PictureRules) -> Iterator[Tensor]:
    """Dense pictures as they are; listed ones decoded, a few at a time, each as a stack of one."""
    if isinstance(column, Tensor):
        yield column if column.dim() == 4 else column.unsqueeze(1)
        return
    bad: dict[int, FlambeauError] = {}
    for first in range(0, len(column), _CHUNK):
        try:
            yield from (picture.unsqueeze(0) for picture in decode_all(list(column[first : first + _CHUNK]), rules))
        except BadRows as error:
            bad |= {first + row: reason for row, reason in error.rows.items()}
    if bad:
        raise BadRows(bad)


def _counts(split: Split, classes: Sequence[str]) -> dict[str, int]:
    labels = split["label"]
    if not isinstance(labels, Tensor):
        return {}
    found = torch.bincount(labels, minlength=len(classes)).tolist()
    return {name: found[number] for number, name in enumerate(classes)}


def samples(
    dataset: Dataset,
    count: int = 20,
    *,
    split: str = "train",
    size: tuple[int, int] | None = None,
    seed: int = 0,
    rules: PictureRules = DEFAULT_RULES,
    caption: Callable[[Split], Sequence[str]] | None = None,
) -> tuple[Tensor, list[str]]:
    """Pictures with captions: from all classes in turn, with their names, where there are labels.

    Args:
        dataset: Raw, or as it was read.
        count: How many at most.
        split: Of which split.
        size: Height and width that they are brought to; without it their own, or 96 x 96 when that differs.
        seed: Decides which.
        rules: How they are decoded.
        caption: Makes the captions of rows; the default is their classes, and nothing where there are none.

    Returns:
        uint8 ``(N, C, H, W)`` and N captions.
    """
    part = dataset.splits[split]
    labels = part.columns.get("label")
    classes = dataset.info.get("classes", ())
    shuffled = torch.argsort(keys(key(seed, 0x5A), torch.arange(len(part))))
    if isinstance(labels, Tensor):
        # Round by round through the classes, so that few samples already show all of them.
        turns = [rows for number in range(len(classes)) if len(rows := shuffled[labels[shuffled] == number])]
        rounds = [rows[turn] for turn in range(count) for rows in turns if turn < len(rows)][:count]
        shuffled = torch.stack(rounds).sort().values if rounds else shuffled[:0]
        shuffled = shuffled[torch.argsort(labels[shuffled], stable=True)]
    chosen = part.take(shuffled[:count])
    column = chosen["image"]
    captions = list((caption or (lambda rows: _class_names(rows, classes)))(chosen))
    if isinstance(column, Tensor):
        dense = column if column.dim() == 4 else column.unsqueeze(1)
        return (dense if size is None else fit(dense, size, dense.shape[1])), captions
    pictures = decode_all(list(column), rules)
    depth = max((picture.shape[0] for picture in pictures), default=3)
    shapes = {(picture.shape[1], picture.shape[2]) for picture in pictures}
    target = size or (shapes.pop() if len(shapes) == 1 else (96, 96))
    return read_pictures(pictures, target, depth, rules), captions


def _class_names(rows: Split, classes: Sequence[Any]) -> list[str]:
    numbers = rows.columns.get("label")
    return [str(classes[n]) for n in numbers.tolist()] if isinstance(numbers, Tensor) else [""] * len(rows)


def grid_png(images: Tensor, captions: Sequence[str], columns: int = 10) -> bytes:
    """The :func:`grid` of pictures as a PNG file's bytes."""
    buffer = io.BytesIO()
    grid(images, captions, columns).save(buffer, "PNG")
    return buffer.getvalue()


def png(picture: Tensor, largest: int | None = None) -> bytes:
    """A picture uint8 ``(C, H, W)``, grey or RGB, as PNG; reduced where a side is longer than that."""
    array = picture.detach().cpu().permute(1, 2, 0).contiguous().numpy()
    made = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    if largest is not None:
        made.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    made.save(buffer, "PNG")
    return buffer.getvalue()


def grid(images: Tensor, captions: Sequence[str], columns: int = 10, *, side: int = 96) -> Image.Image:
    """Pictures in rows, each with its caption below it.

    Args:
        images: uint8 ``(N, C, H, W)`` with 1 or 3 channels.
        captions: One for each.
        columns: Pictures in a row.
        side: Small pictures are enlarged, by a whole factor, up to about this many pixels.
    """
    n, _, height, width = images.shape
    columns = max(1, min(columns, n))
    factor = max(1, side // max(height, width))
    tile_width, tile_height = max(width * factor, side), height * factor
    font = ImageFont.load_default(size=12)
    gap, line = 8, 18
    rows = -(-n // columns)
    sheet = Image.new(
        "RGB", (gap + columns * (tile_width + gap), gap + rows * (tile_height + line + gap)), color=_PAPER
    )
    pen = ImageDraw.Draw(sheet)
    for number, caption in enumerate(captions[:n]):
        left = gap + number % columns * (tile_width + gap)
        top = gap + number // columns * (tile_height + line + gap)
        array = images[number].expand(3, -1, -1).permute(1, 2, 0).contiguous().cpu().numpy()
        tile = Image.fromarray(array).resize((width * factor, height * factor), Image.Resampling.NEAREST)
        sheet.paste(tile, (left + (tile_width - tile.width) // 2, top))
        text = _shortened(caption, lambda text: pen.textlength(text, font=font) <= tile_width)
        offset = (tile_width - pen.textlength(text, font=font)) / 2
        pen.text((left + offset, top + tile_height + 2), text, fill=_INK, font=font)
    return sheet


def _shortened(caption: str, fits: Any) -> str:
    if fits(caption):
        return caption
    while len(caption) > 1 and not fits(f"{caption}…"):
        caption = caption[:-1]
    return f"{caption}…"


def to_terminal(images: Tensor, captions: Sequence[str], columns: int = 5, *, width: int = 20) -> Text:
    """The same grid for a terminal with colours: two pixels in each character, one above the other.

    Args:
        images: uint8 ``(N, C, H, W)`` with 1 or 3 channels.
        captions: One for each.
        columns: Pictures in a row.
        width: Characters across a picture, at most.
    """
    from rich.text import Text

    width = min(width, images.shape[3])
    lines = max(1, round(images.shape[2] / images.shape[3] * width / 2))
    small = fit(images.cpu(), (2 * lines, width), images.shape[1]).expand(-1, 3, -1, -1)
    text = Text(no_wrap=True, overflow="crop")
    for first in range(0, len(small), columns):
        row = small[first : first + columns].permute(0, 2, 3, 1).tolist()
        for line in range(lines):
            for picture in row:
                for upper, lower in zip(picture[2 * line], picture[2 * line + 1], strict=True):
                    text.append("▀", style=f"{_hex(upper)} on {_hex(lower)}")
                text.append("  ")
            text.append("\n")
        for caption in captions[first : first + columns]:
            shown = _shortened(caption, lambda text: len(text) <= width)
            text.append(f"{shown:^{width}}  ")
        text.append("\n\n" if first + columns < len(small) else "\n")
    return text


def _hex(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
