"""Figures as inline SVG whose colours are CSS variables of the page, so that they follow its light and dark scheme.

Each takes plain numbers and gives the SVG text, or an empty text when there is nothing to draw. Figures are made with
matplotlib's ``Figure`` directly: pyplot would keep them alive and pick a window system.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from flambeau.metrics.calibration import Reliability

# Stand-ins that no real colour collides with; the finished SVG names the page's variables in their place.
COLOURS = {
    "ink": "#010203",
    "muted": "#020304",
    "rule": "#030405",
    "accent": "#040506",
    "second": "#050607",
    "soft": "#060708",
    "third": "#070809",
    "fourth": "#08090a",
    "fifth": "#090a0b",
    "sixth": "#0a0b0c",
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": COLOURS["rule"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
    "xtick.color": COLOURS["rule"],
    "ytick.color": COLOURS["rule"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.6,
    "text.color": COLOURS["ink"],
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}
FILL = (52, 114, 194)
"""The colour of a confusion matrix in both schemes; how opaque it is says how much."""
LABELLED = 30
COUNTED = 20


def lines(
    series: Sequence[tuple[str, str, Sequence[tuple[float, float]]]],
    *,
    name: str,
    ylabel: str,
    xlabel: str = "step",
    as_percent: bool = False,
    highest: float | None = None,
    faint: str = "",
    logarithmic: bool = False,
    mark: float | None = None,
) -> str:
    """Curves over steps.

    Args:
        series: The label, the colour's name (``accent``, ``second``, ``soft``) and the points of each; points that
            are not finite are left out, and so are series without points.
        name: What the figure shows, for readers who do not see it.
        ylabel: The vertical axis.
        xlabel: The horizontal axis.
        as_percent: Whether the values are fractions to be shown as percentages.
        highest: Where the vertical axis ends, None for where the values do.
        faint: The label of a series that stays in the background.
        logarithmic: Whether the horizontal axis is.
        mark: Where an upright line stands.
    """
    drawn = [(label, colour, finite) for label, colour, points in series if (finite := _finite(points))]
    if not drawn:
        return ""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for label, colour, points in drawn:
            marker = "o" if len(points) <= 40 and label != faint and not logarithmic else None
            across, up = zip(*points, strict=True)
            weight = 1.0 if label == faint else 1.8
            axes.plot(across, up, color=COLOURS[colour], label=label, marker=marker, markersize=3.5, linewidth=weight)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(axis="y")
        axes.margins(x=0.02)
        if as_percent:
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        else:
            axes.locator_params(axis="x", nbins=5, integer=True)
        if mark is not None:
            axes.axvline(mark, color=COLOURS["second"], linewidth=1.2)
        if highest is not None:
            axes.set_ylim(top=highest)
        if len(drawn) > 1:
            _legend(axes)

    return svg_of(draw, (3.6, 2.7), name)


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(across, up) for across, up in points if math.isfinite(across) and math.isfinite(up)]


def confusion(matrix: Tensor, classes: Sequence[str]) -> str:
    """A confusion matrix: colour is the share of the true class (row), numbers are counts.

    Up to 30 classes are named and up to 20 counted; of more only the colours are shown.

    Args:
        matrix: ``(K, K)`` int64, true classes by rows.
        classes: The K names.
    """
    import numpy

    count = len(classes)
    if not count:
        return ""
    counts = matrix.cpu().numpy()
    share = counts / numpy.maximum(counts.sum(1, keepdims=True), 1)
    # A rate of 1 % is where mistakes start to matter, and would be invisible at an opacity of 1 %.
    opacity = numpy.where(counts > 0, 0.06 + 0.94 * share**0.7, 0.0)
    pixels = numpy.empty((count, count, 4), dtype=numpy.uint8)
    pixels[..., :3] = FILL
    pixels[..., 3] = numpy.rint(255 * opacity)

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.imshow(pixels, interpolation="none", aspect="equal")
        axes.set(xlabel="prediction", ylabel="truth")
        axes.spines[:].set_visible(True)
        size = 9 if count <= 12 else 7.5
        if count <= LABELLED:
            short = [_short(name) for name in classes]
            axes.set_xticks(range(count), short, rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
            axes.set_yticks(range(count), short, fontsize=size)
            axes.tick_params(length=0)
        if count <= COUNTED:
            for row, column in zip(*counts.nonzero(), strict=True):
                tone = "#ffffff" if opacity[row, column] > 0.55 else COLOURS["ink"]
                text = str(counts[row, column])
                axes.text(column, row, text, ha="center", va="center", color=tone, fontsize=size, in_layout=False)

    side = min(9.0, 3.2 + 0.36 * min(count, LABELLED)) if count <= LABELLED else 6.5
    return svg_of(draw, (side, side * 0.95), "Confusion matrix")


def _short(name: object, limit: int = 18) -> str:
    # Long names of related classes tend to differ at the end, so the middle is what goes.
    text = str(name)
    tail = limit // 3
    return text if len(text) <= limit else f"{text[: limit - tail - 1]}…{text[-tail:]}"


def reliability_diagram(curves: Sequence[tuple[str, str, Reliability]]) -> str:
    """Accuracy against confidence, with how many predictions each bin of the last curve holds below.

    Args:
        curves: The label, the colour's name and the bins of each.
    """
    if not any(sum(curve.count) for _, _, curve in curves):
        return ""

    def draw(figure: Any) -> None:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        axes.plot([0, 1], [0, 1], color=COLOURS["soft"], linewidth=1, dashes=(3, 3))
        for label, colour, curve in curves:
            points = _finite(list(zip(curve.confidence, curve.accuracy, strict=True)))
            across, up = zip(*points, strict=True)
            largest = max(curve.count)
            # Few predictions make an uncertain point, so a point is as large as its bin.
            sizes = [6 + 54 * count / largest for count in curve.count if count]
            axes.plot(across, up, color=COLOURS[colour], linewidth=1, alpha=0.6)
            axes.scatter(across, up, s=sizes, color=COLOURS[colour], label=label, linewidths=0, zorder=3)
        axes.set(ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.04))
        axes.grid(axis="y")
        _legend(axes)
        _, colour, last = curves[-1]
        bins = len(last.count)
        places = [(place + 0.5) / bins for place in range(bins)]
        below.bar(places, last.count, width=0.86 / bins, color=COLOURS[colour])
        below.set(xlabel="confidence", ylabel="count")
        below.locator_params(axis="y", nbins=2)
        for part in (axes, below):
            part.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")

    return svg_of(draw, (4.6, 4.6), "Reliability diagram")


def class_bars(rows: Sequence[Mapping[str, Any]], score: str = "f1", limit: int = 40) -> str:
    """A bar for each class with its 95 % interval, best on top; of more than ``limit`` classes the worst ones.

    Args:
        rows: As :func:`flambeau.metrics.tables.by_class` gives them.
        score: ``f1``, ``recall`` or ``precision``.
        limit: How many bars at most.
    """
    shown = sorted((row for row in rows if row.get(score) is not None), key=lambda row: float(row[score]))[:limit]
    if not shown:
        return ""
    places = range(len(shown))
    values = [float(row[score]) for row in shown]
    low = [max(0.0, value - float(row[f"{score}_low"])) for value, row in zip(values, shown, strict=True)]
    high = [max(0.0, float(row[f"{score}_high"]) - value) for value, row in zip(values, shown, strict=True)]

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.barh(places, values, height=0.62, color=COLOURS["accent"], alpha=0.35)
        axes.errorbar(values, places, xerr=[low, high], fmt="o", markersize=4, color=COLOURS["accent"], linewidth=1.4)
        axes.set_yticks(places, [_short(row["class"], 24) for row in shown])
        axes.set(xlim=(0, 1), ylim=(-0.6, len(shown) - 0.4))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.grid(axis="x")
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(length=0)

    return svg_of(draw, (7.4, 0.7 + 0.29 * len(shown)), f"{score} by class")


def against(pairs: Sequence[tuple[float, float]], *, name: str) -> str:
    """Predictions against the truth as points, with the line on which they agree.

    Args:
        pairs: Truth and prediction of each.
        name: What the numbers are.
    """
    points = _finite(pairs)
    if not points:
        return ""
    ends = [min(map(min, points)), max(map(max, points))]

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.plot(ends, ends, color=COLOURS["soft"], linewidth=1, dashes=(3, 3))
        across, up = zip(*points, strict=True)
        axes.scatter(across, up, s=9, color=COLOURS["accent"], alpha=0.5, linewidths=0)
        axes.set(xlabel="truth", ylabel="prediction")
        axes.grid(axis="y")

    return svg_of(draw, (3.6, 3.2), f"{name}, prediction against truth")


def histogram(values: Sequence[float], *, name: str) -> str:
    """How often values occur, in 30 bins."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.hist(finite, bins=30, color=COLOURS["accent"], alpha=0.8)
        axes.set(xlabel="error", ylabel="count")
        axes.grid(axis="y")

    return svg_of(draw, (3.6, 3.2), name)


def _legend(axes: Any) -> None:
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, handlelength=1.2, columnspacing=1.4, borderaxespad=0.2
    )
    for text in legend.get_texts():
        text.set_color(COLOURS["muted"])


def svg_of(draw: Callable[[Any], None], size: tuple[float, float], name: str) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser draws the text in the reader's own fonts, whatever matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        # What savefig calls in the end; it would draw everything twice, the first time for the layout alone.
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None})
    return _tidy(buffer.getvalue(), name)


def _tidy(text: str, name: str) -> str:
    """The SVG element alone: the page's colours and fonts, no metadata, and identifiers that do not collide."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    prefix = re.sub(r"\W+", "-", name.lower())
    text = re.sub(r' id="([^"]+)"', lambda match: f' id="{prefix}-{match[1]}"' if match[1] in used else "", text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)
    for colour, stand_in in COLOURS.items():
        text = text.replace(stand_in, f"var(--{colour})")
    # Style rules inside an inline SVG would reach the whole page; fonts are the page's.
    text = re.sub(r"<defs><style.*?</style></defs>|font-family: [^;\"]+;? ?", "", re.sub(r">\s+<", "><", text))
    text = (
        re.sub(r' (?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", text[: text.index(">")])
        + text[text.index(">") :]
    )
    label = name.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()
