"""Layered drawing of a directed graph: which column a node stands in, in which order, and where edges run.

The method of Sugiyama: nodes stand right of what they read, long edges pass through places kept free,
together where they come from one node, and the order in each column follows the mean place of the neighbours.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

GAP_X, GAP_Y, FREE = 58, 14, 12


@dataclasses.dataclass(frozen=True)
class Placed:
    """Where things are, in pixels. nodes: (x, y) of the upper left corner; edges: points on the way."""

    nodes: dict[str, tuple[float, float]]
    edges: dict[tuple[str, str], list[tuple[float, float]]]
    width: float
    height: float


def columns(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Column of every node: one right of the last that it reads. Edges that close a circle do not count."""
    before: dict[str, list[str]] = {name: [] for name in names}
    for start, end in edges:
        before[end].append(start)
    found: dict[str, int] = {}
    open_: set[str] = set()

    def column(name: str) -> int:
        if name in found:
            return found[name]
        open_.add(name)
        found_before = [column(each) for each in before[name] if each not in open_]
        open_.discard(name)
        found[name] = 1 + max(found_before, default=-1)
        return found[name]

    for name in names:
        column(name)
    return found


def place(
    sizes: Mapping[str, tuple[float, float]], edges: Sequence[tuple[str, str]], column_of: Mapping[str, int]
) -> Placed:
    """Coordinates for nodes of these sizes (width, height) in these columns."""
    last = max(column_of.values(), default=0)
    layers: list[list[str]] = [[] for _ in range(last + 1)]
    for name in sizes:
        layers[column_of[name]].append(name)
    chains, links = _with_passages(layers, edges, column_of)
    _order(layers, links)
    height_of = lambda name: sizes[name][1] if name in sizes else FREE  # noqa: E731
    widths = [max((sizes[name][0] for name in layer if name in sizes), default=0) for layer in layers]
    heights = [sum(map(height_of, layer)) + GAP_Y * (len(layer) - 1) for layer in layers]
    total, corners, x = max(heights, default=0), {}, 0.0
    for layer, width, height in zip(layers, widths, heights, strict=True):
        y = (total - height) / 2
        for name in layer:
            corners[name] = (x + (width - sizes[name][0]) / 2 if name in sizes else x, y)
            y += height_of(name) + GAP_Y
        x += width + GAP_X
    routes = {}
    for (start, end), chain in chains.items():
        (left, top), (right, bottom) = corners[start], corners[end]
        points = [(left + sizes[start][0], top + sizes[start][1] / 2)]
        for name in chain[1:-1]:
            across = widths[_layer_of(layers, name)]
            y = corners[name][1] + FREE / 2
            points += [(corners[name][0], y), (corners[name][0] + across, y)]
        routes[start, end] = [*points, (right, bottom + sizes[end][1] / 2)]
    nodes = {name: corners[name] for name in sizes}
    return Placed(nodes, routes, max(0.0, x - GAP_X), total)


def _layer_of(layers: Sequence[Sequence[str]], name: str) -> int:
    return next(number for number, layer in enumerate(layers) if name in layer)


def _with_passages(layers, edges, column_of):
    """Edges as chains of neighbours, with a free place in every column that a long edge passes."""
    chains, links = {}, []
    for start, end in edges:
        chain = [start]
        for number in range(column_of[start] + 1, column_of[end]):
            name = f"{start} @ {number}"
            if name not in layers[number]:
                layers[number].append(name)
            chain.append(name)
        chain.append(end)
        if column_of[start] < column_of[end]:
            links += list(itertools.pairwise(chain))
        chains[start, end] = chain
    return chains, links


def _order(layers: list[list[str]], links: Sequence[tuple[str, str]], rounds: int = 4) -> None:
    """Sorts every column by the mean place of its neighbours, to the right and back."""
    for number in range(rounds):
        forward = number % 2 == 0
        for layer, fixed in _pairs(layers, forward):
            places = {name: (n + 0.5) / len(fixed) for n, name in enumerate(fixed)}
            own = {name: (n + 0.5) / len(layer) for n, name in enumerate(layer)}

            def mean(name, places=places, own=own, forward=forward):
                near = [places[a if forward else b] for a, b in links if name == (b if forward else a)]
                return sum(near) / len(near) if near else own[name]

            layer.sort(key=mean)


def _pairs(layers, forward):
    numbers = range(1, len(layers)) if forward else range(len(layers) - 2, -1, -1)
    return [(layers[n], layers[n - 1 if forward else n + 1]) for n in numbers]
