"""A page about a network: its graph, the filters of its first layer, and what its layers make of an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from flambeau.report.elements import escape, fold, number, picture, table, tiles
from flambeau.report.page import Section, render

FILTERS = 64
"""The most filters that are shown."""

MAPS = 16
"""The most maps of a layer that are shown."""

LAYERS = 12
"""The most layers whose maps are shown, spread evenly over the network."""

STEP, LEFT = 26, 150
"""Of the graph: pixels from one node to the next, and from the edge to the names."""


class NodeLike(Protocol):
    """A node of the graph, as ``flambeau.models.graph`` makes them."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def sources(self) -> tuple[int, ...]: ...


def render_network(
    title: str,
    subtitle: str,
    *,
    nodes: Sequence[NodeLike],
    layers: Sequence[Mapping[str, Any]],
    filters: tuple[str, Tensor] | None,
    example: Tensor | None,
    maps: Sequence[tuple[str, str, Tensor]],
    answer: str = "",
) -> str:
    """The page as HTML text.

    Args:
        title: Its name.
        subtitle: A line below it.
        nodes: The graph; may be empty.
        layers: As an inspection has them.
        filters: The name of the first layer and its filters, uint8 ``(N, C, h, w)``.
        example: The picture that was sent through, uint8 ``(C, H, W)``.
        maps: For each layer its name, what it is, and its maps for the example, uint8 ``(N, 1, h, w)``.
        answer: What the model says of the example.
    """
    heading, *rows = layer_rows(layers)
    listed = table(heading, rows, numeric=(3, 4))
    sections = [
        _graph(nodes),
        _filters(filters),
        _activations(example, maps, answer),
        Section("Layers", listed, "Shapes, parameters and multiply-adds for one example."),
    ]
    return render(title, subtitle, [], sections)


def layer_rows(layers: Sequence[Mapping[str, Any]], *, times: str = "×") -> list[list[Any]]:
    """The table of the layers that an inspection has, headings first; ``?`` stands for what is not known.

    Args:
        layers: The fields of each :class:`~flambeau.models.inspection.LayerRow` by name.
        times: Between the sides of a shape.
    """
    rows = [["layer", "type", "output", "parameters", "multiply-adds", "how the shape follows"]]
    for row in layers:
        shape = times.join(map(str, row["output"][1:])) if row["output"] else "?"
        adds = "?" if row["multiply_adds"] is None else row["multiply_adds"]
        rows.append([row["name"], row["type"], shape, row["parameters"], adds, row["formula"]])
    return rows


def _graph(nodes: Sequence[NodeLike]) -> Section | None:
    if not nodes:
        return None
    lead = "From top to bottom in the order in which the layers run. An arc passes over what it does not go through."
    drawn = f'<div class="scroll">{graph_svg(nodes)}</div>'
    return Section("Graph", drawn if len(nodes) <= 60 else fold(f"{len(nodes)} nodes", drawn), lead)


def graph_svg(nodes: Sequence[NodeLike]) -> str:
    """The graph as inline SVG in the page's colours: a node a line, an arc for each edge that skips lines."""
    height = STEP * len(nodes) + 8
    edges, labels = [], []
    for place, node in enumerate(nodes):
        y = STEP * place + STEP / 2 + 4
        for source in node.sources:
            start = STEP * source + STEP / 2 + 4
            if place - source == 1:
                edges.append(f'<path d="M{LEFT} {start + 5:g}V{y - 5:g}"/>')
            else:
                bend = max(8.0, LEFT - 16 - 9 * (place - source - 2) ** 0.8)
                edges.append(f'<path d="M{LEFT - 5} {start:g}C{bend:g} {start:g} {bend:g} {y:g} {LEFT - 5} {y:g}"/>')
        joins = len(node.sources) > 1
        fill = "var(--second)" if joins else "var(--accent)"
        labels.append(f'<circle cx="{LEFT}" cy="{y:g}" r="4" style="fill:{fill}"/>')
        shape = "×".join(map(str, node.shape[1:]))
        text = f"{escape(node.name)} <tspan>{escape(_kind(node))}{'  ' + shape if shape else ''}</tspan>"
        labels.append(f'<text x="{LEFT + 14}" y="{y + 4:g}">{text}</text>')
    return (
        f'<svg class="graph" role="img" aria-label="Graph of the network" width="760" height="{height}" '
        f'viewBox="0 0 760 {height}"><g class="edges">{"".join(edges)}</g>{"".join(labels)}</svg>'
    )


def _kind(node: NodeLike) -> str:
    return "" if node.kind == node.name else f" {node.kind}"


def _filters(found: tuple[str, Tensor] | None) -> Section | None:
    if found is None:
        return None
    name, filters = found
    shown = filters[:FILTERS]
    size = "×".join(map(str, filters.shape[2:]))
    entries = [(picture(one, f"filter {place} of {name}"), str(place)) for place, one in enumerate(shown)]
    lead = (
        f"{number(len(filters))} filters of {size} pixels in {name}"
        + (f", of which the first {len(shown)} are shown" if len(shown) < len(filters) else "")
        + ". In each the least weight is black, the greatest white."
    )
    return Section("First filters", tiles(entries, "samples"), lead)


def _activations(example: Tensor | None, maps: Sequence[tuple[str, str, Tensor]], answer: str) -> Section | None:
    if not maps:
        return None
    inner = "" if example is None else tiles([(picture(example, "the example"), escape(answer))])
    for name, about, values in maps:
        entries = [(picture(one, f"map {place} of {name}"), str(place)) for place, one in enumerate(values[:MAPS])]
        inner += f"<h3>{escape(name)}</h3><p>{escape(about)}</p>{tiles(entries, 'samples')}"
    lead = "What the layers make of the example. In each map the least value is black, the greatest white."
    return Section("Activations", inner, lead + ("" if example is not None or not answer else f" The answer: {answer}"))


def spread(items: Sequence[Any], count: int = LAYERS) -> list[Any]:
    """So many of the items at most, evenly spread, the first and the last among them.

    Example:
        >>> spread(list(range(10)), 4)
        [0, 3, 6, 9]
    """
    if len(items) <= count:
        return list(items)
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]
