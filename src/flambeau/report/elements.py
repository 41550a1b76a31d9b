"""Small pieces of HTML that reports and notebooks are put together from; every text that goes in is escaped here."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

MISSING = "–"
TILE = 112
"""The side of a picture in a grid, in CSS pixels."""


def escape(value: object) -> str:
    """The text of a value, safe between tags and in quoted attributes."""
    return html.escape(str(value), quote=True)


def number(value: object, digits: int = 4) -> str:
    """A value as a reader wants it: integers with thin spaces, reals to some significant digits, a dash for nothing.

    Example:
        >>> number(0.123456), number(1234567), number(None), number(float("nan")), number(1e-5)
        ('0.1235', '1\\u2009234\\u2009567', '–', '–', '1e-05')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u2009") if abs(value) >= 10_000 else str(value)
    return f"{value:.{digits}g}"


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as a percentage, a dash for nothing.

    Example:
        >>> percent(0.9123), percent(None)
        ('91.2\\u202f%', '–')
    """
    if value is None or math.isnan(value):
        return MISSING
    return f"{100 * value:.{digits}f}\u202f%"


def percent_range(low: float | None, high: float | None, digits: int = 1) -> str:
    """An interval of fractions as percentages.

    Example:
        >>> percent_range(0.901, 0.923)
        '90.1–92.3\\u202f%'
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return MISSING
    return f"{100 * low:.{digits}f}–{100 * high:.{digits}f}\u202f%"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them.

    Example:
        >>> duration(0.042), duration(75.2), duration(4000)
        ('0.04 s', '1 min 15 s', '1 h 7 min')
    """
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, numeric: Sequence[int] = (), caption: str = ""
) -> str:
    """A table that scrolls sideways where the page is narrow.

    Args:
        columns: The headings.
        rows: The cells, as values; numbers are shortened, everything is escaped.
        numeric: Which columns are set flush right.
        caption: A line above it.
    """
    kind = [' class="n"' if place in numeric else "" for place in range(len(columns))]
    head = "".join(f'<th scope="col"{kind[place]}>{escape(name)}</th>' for place, name in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(f"<td{kind[place]}>{escape(number(cell))}</td>" for place, cell in enumerate(row)) + "</tr>\n"
        for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def pairs(values: Mapping[str, object]) -> str:
    """Names and values as a two-column list; values that are lists or mappings are written out in one line."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(plain(value))}</dd></div>" for name, value in values.items()
    )
    return f'<dl class="pairs">{rows}</dl>'


def plain(value: object, limit: int = 12) -> str:
    """A JSON value in one line; of long lists only the beginning, and how much there is.

    Example:
        >>> plain([0.286, 0.353]), plain({"train": 5000}), plain(list(range(40)), limit=3)
        ('0.286, 0.353', 'train 5000', '0, 1, 2, … (40 in all)')
    """
    if isinstance(value, Mapping):
        parts = [f"{name} {plain(entry, limit)}" for name, entry in value.items()]
    elif isinstance(value, list | tuple):
        parts = [plain(entry, limit) for entry in value]
    elif isinstance(value, bool):
        return "yes" if value else "no"
    else:
        return number(value)
    more = f", … ({len(parts)} in all)" if len(parts) > limit else ""
    return ", ".join(parts[:limit]) + more if parts else MISSING


def callout(texts: Sequence[str], kind: str = "note") -> str:
    """Sentences that must not be overlooked, nothing for none; ``kind`` is ``note`` or ``warning``."""
    if not texts:
        return ""
    lines = "".join(f"<p>{escape(text)}</p>" for text in texts)
    return f'<div class="callout {escape(kind)}" role="note">{lines}</div>'


def fold(summary: str, inner: str) -> str:
    """HTML behind a heading that opens on a click and is printed open."""
    return f"<details><summary>{escape(summary)}</summary>{inner}</details>"


def figures(*parts: tuple[str, str]) -> str:
    """Figures side by side where there is room: pairs of a caption and the SVG text; empty ones are left out."""
    cells = [f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for caption, svg in parts if svg]
    # One by itself would be drawn as wide as the page, and its letters with it.
    shape = "figures single" if len(cells) == 1 else "figures"
    return f'<div class="{shape}">{"".join(cells)}</div>' if cells else ""


def picture(image: Tensor, alt: str, side: int = TILE) -> str:
    """An ``<img>`` holding a uint8 picture ``(C, H, W)`` of 1, 3 or 4 channels.

    Pictures of more than one and a half times the side are made smaller, and are JPEG then; others are PNG, pixel by
    pixel. Ones smaller than the side keep their hard pixel edges.

    Raises:
        ValueError: The tensor is not such a picture.
    """
    small = ' class="tiny"' if max(image.shape[1:]) < side else ""
    return f'<img{small} src="data:image/{_encoded(image, 3 * side // 2)}" alt="{escape(alt)}">'


def _encoded(image: Tensor, largest: int) -> str:
    from PIL import Image

    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if image.ndim != 3 or str(image.dtype) != "torch.uint8" or image.shape[0] not in modes:
        raise ValueError(f"A picture is uint8 (C, H, W) of 1, 3 or 4 channels, not {image.dtype} {tuple(image.shape)}.")
    channels, height, width = image.shape
    raw = image.detach().cpu().permute(1, 2, 0).contiguous().numpy().tobytes()
    made = Image.frombytes(modes[channels], (width, height), raw)
    buffer = io.BytesIO()
    if max(height, width) > largest and channels != 4:
        # Its exact pixels are lost anyway, and a photograph takes a tenth of the space so.
        made.thumbnail((largest, largest), Image.Resampling.LANCZOS)
        made.save(buffer, format="JPEG", quality=88, optimize=True)
        kind = "jpeg"
    else:
        made.thumbnail((largest, largest), Image.Resampling.LANCZOS)
        made.save(buffer, format="PNG", optimize=True)
        kind = "png"
    return f"{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def tiles(entries: Sequence[tuple[str, str]], kind: str = "") -> str:
    """Pictures in a grid: pairs of an ``<img>`` and the HTML below it; nothing for none."""
    if not entries:
        return ""
    cells = "".join(f"<figure>{image}<figcaption>{below}</figcaption></figure>" for image, below in entries)
    return f'<div class="tiles {escape(kind)}">{cells}</div>'


def bars(values: Mapping[str, float], texts: Mapping[str, str]) -> str:
    """Amounts as horizontal bars relative to the largest one, each with its name and its text."""
    largest = max(values.values(), default=0) or 1
    rows = "".join(
        f'<div><span>{escape(name)}</span><span class="bar"><i style="width:{100 * max(value, 0) / largest:.1f}%"></i>'
        f'</span><span class="n">{escape(texts.get(name, number(value)))}</span></div>'
        for name, value in values.items()
    )
    return f'<div class="bars">{rows}</div>'


def records_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of records: the columns are their keys in order of appearance, missing values are dashes."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    numeric = [
        place
        for place, name in enumerate(columns)
        if all(isinstance(row.get(name), int | float | None) and not isinstance(row.get(name), bool) for row in rows)
    ]
    cells = [
        [value if isinstance(value := row.get(name), int | float) else _cell(value) for name in columns] for row in rows
    ]
    return table(columns, cells, numeric=numeric)


def _cell(value: object) -> str:
    return MISSING if value is None else plain(value)
