"""The game as a picture (SVG): turns in their order, and in each the networks, what they read, terms and
updates.

Everything drawn comes from `describe.facts` and from `dataflow.turns`. Colours are left to the style sheet;
what a colour says is said in words, too.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from medgan_jax.review.site import layers
from medgan_jax.review.site.dataflow import Call, Term, Turn
from medgan_jax.review.site.markup import Markup, escaped, tag

CROWDED = 14
CHARACTER, SMALL = 7.4, 6.3
LINE, MARGIN, GUTTER, HEADER = 17, 16, 34, 44


@dataclasses.dataclass(frozen=True)
class Node:
    """A box. kind: `data`, `trained`, `held`, `frozen`, `term` or `loss`; lines: title, smaller words."""

    key: str
    kind: str
    lines: tuple[str, ...]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels."""
        widths = [len(line) * (SMALL if n else CHARACTER) for n, line in enumerate(self.lines)]
        return 24 + max(widths), 14 + LINE * len(self.lines)


@dataclasses.dataclass(frozen=True)
class Graph:
    """What a turn reads and makes. logged: names of terms that are no part of the loss."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    logged: tuple[str, ...] = ()


def graph(phase: Mapping, turn: Turn | None, frozen: Sequence[str], weights: Mapping[str, str]) -> Graph:
    """The boxes and arrows of a turn; without `turn` the networks that it trains, and its loss.

    phase: of `describe.facts`; frozen: names of frozen networks; weights: of the loss terms, in words.
    """
    loss = Node("loss", "loss", (phase["loss"], "loss"))
    if turn is None:
        trained = [Node(f"call:{name}", "trained", (name, "trained")) for name in phase["trains"]]
        return Graph((*trained, loss), tuple((node.key, "loss") for node in trained))
    group, counts = _groups(turn.calls)
    shown = [
        term
        for term in turn.terms
        if term.reads and (term.in_loss or weight(term.name, phase["name"], weights))
    ]
    explained = {source for term in shown for source in term.reads}
    nodes, edges = {"loss": loss}, {}
    for call in turn.calls:
        key = group[call.key]
        state = (
            "trained" if call.network in phase["trains"] else "frozen" if call.network in frozen else "held"
        )
        times = f" × {counts[key]}" if counts[key] > 1 else ""
        nodes.setdefault(key, Node(key, state, (call.network, state + times)))
        edges |= {(group.get(source, source), key): None for source in call.reads}
    for term in shown:
        nodes[f"term {term.name}"] = Node(
            f"term {term.name}", "term", _term_lines(term, phase["name"], weights)
        )
        edges |= {(group.get(source, source), f"term {term.name}"): None for source in term.reads}
        edges[f"term {term.name}", "loss"] = None
    edges |= {(group.get(source, source), "loss"): None for source in turn.reads if source not in explained}
    for source, _ in list(edges):
        if source not in nodes:
            nodes[source] = Node(source, "data", (source_words(source),))
    logged = [term.name for term in turn.terms if term not in shown]
    return Graph(tuple(nodes.values()), tuple(edge for edge in edges if edge[0] != edge[1]), tuple(logged))


def _groups(calls: Sequence[Call]) -> tuple[dict[str, str], dict[str, int]]:
    """The box of each call, calls of one network on the same things in one, and how many each box stands for.

    Where there are very many, every network has one box.
    """
    for by_name_alone in (False, True):
        boxes: dict[tuple, str] = {}
        group: dict[str, str] = {}
        for call in calls:
            reads = (
                () if by_name_alone else tuple(sorted({group.get(source, source) for source in call.reads}))
            )
            group[call.key] = boxes.setdefault((call.network, reads), call.key)
        if len(boxes) <= CROWDED:
            break
    counts = {key: list(group.values()).count(key) for key in boxes.values()}
    return group, counts


def weight(term: str, phase: str, weights: Mapping[str, str]) -> str | None:
    """What is said of a term, by its own name or by the name that it begins with: `cycle` for `cycle_x`."""
    for name in (f"{phase}/{term}", term):
        if name in weights:
            return weights[name]
    stems = [name for name in weights if term.startswith(f"{name}_")]
    return weights[max(stems, key=len)] if stems else None


def _term_lines(term: Term, phase: str, weights: Mapping[str, str]) -> tuple[str, ...]:
    words = weight(term.name, phase, weights)
    return (term.name, shortened(words, 34)) if words else (term.name,)


def shortened(text: str, length: int) -> str:
    """The text, cut where it is longer."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def source_words(source: str) -> str:
    """`batch:target` as it is called in the batch, and so on."""
    kind, _, name = source.partition(":")
    if kind == "weights":
        return f"weights of {name}"
    if kind == "term":
        phase, _, term = name.partition("/")
        return f"{term} of turn {phase}"
    return name if kind == "batch" else source


def conditions(phase: Mapping) -> list[str]:
    """What is said of a turn beside what it reads."""
    words = [f"{phase['repeats']} updates, each on fresh data"] if phase["repeats"] > 1 else []
    words += [f"gradient over {phase['accumulate']} slices"] if phase["accumulate"] > 1 else []
    words += [f"only when {phase['when']}"] if phase["when"] else []
    words += ["opponents as at the start of the step"] if phase["reads"] == "start" else []
    return words


def update_words(phase: Mapping) -> str:
    """What the gradient of the loss does."""
    then = f", then {phase['project']}" if phase["project"] else ""
    return f"updates {' and '.join(phase['trains'])} by {phase['optimizer']}{then}"


def stage_picture(
    stage: Mapping, played: Sequence[Turn] | None, weights: Mapping[str, str], *, name: str
) -> Markup:
    """One stage of the game. stage: of `describe.facts`; name: distinguishes the picture on its page."""
    frozen = [network["name"] for network in stage["frozen"]]
    by_phase = {turn.phase: turn for turn in played or ()}
    panels, y, widest = [], 8.0, 0.0
    for number, phase in enumerate(stage["phases"], 1):
        drawn = graph(phase, by_phase.get(phase["name"]), frozen, weights)
        panel, width, height = _panel(number, phase, drawn)
        panels.append((panel, y, height))
        y, widest = y + height + 26, max(widest, width)
    height, width = y - 26 + 8, GUTTER + widest + 8
    parts = [tag("g", panel(widest), transform=f"translate({GUTTER},{top:.0f})") for panel, top, _ in panels]
    centres = [top + 22 for _, top, _ in panels]
    title, words = f"The game of stage {stage['name']}", _in_words(stage)
    return tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", words, id=f"{name}-desc"),
        tag("defs", _arrow_head(f"{name}-arrow", "edge-head"), _arrow_head(f"{name}-back", "update-head")),
        _loop(centres, height, name),
        [_with_heads(part, name) for part in parts],
        class_="game",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        xmlns="http://www.w3.org/2000/svg",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
    )


def _with_heads(part: Markup, name: str) -> Markup:
    return Markup(
        part.replace("url(#ARROW)", f"url(#{name}-arrow)").replace("url(#BACK)", f"url(#{name}-back)")
    )


def _in_words(stage: Mapping) -> str:
    turns = [
        f"Turn {n}, {each['name']}: {update_words(each)} on {each['loss']}"
        for n, each in enumerate(stage["phases"], 1)
    ]
    return "; ".join(turns) + "."


def _arrow_head(identifier: str, class_: str) -> Markup:
    shape = tag("path", d="M0,0 L8,4 L0,8 z", class_=class_)
    return tag(
        "marker",
        shape,
        id=identifier,
        viewBox="0 0 8 8",
        refX="7",
        refY="4",
        markerWidth="8",
        markerHeight="8",
        orient="auto-start-reverse",
        markerUnits="userSpaceOnUse",
    )


def _loop(centres: Sequence[float], height: float, name: str) -> Markup:
    """The line that turns follow, down from one to the next and back for the next step."""
    first, last = centres[0], centres[-1]
    down = [
        tag(
            "line",
            x1="20",
            x2="20",
            y1=f"{a + 13:.0f}",
            y2=f"{b - 14:.0f}",
            class_="order",
            marker_end=f"url(#{name}-arrow)",
        )
        for a, b in itertools.pairwise(centres)
    ]
    circles = [
        [
            tag("circle", cx="20", cy=f"{y:.0f}", r="12", class_="turn"),
            tag("text", str(n), x="20", y=f"{y + 4.5:.0f}", class_="turn-number", text_anchor="middle"),
        ]
        for n, y in enumerate(centres, 1)
    ]
    back = f"M8,{last:.0f} H4 V{first:.0f} H8" if len(centres) > 1 else ""
    loop = tag("path", d=back, class_="order", marker_end=f"url(#{name}-arrow)") if back else ""
    return tag("g", down, loop, circles)


def _panel(number: int, phase: Mapping, drawn: Graph):
    """A turn as (function from the width to its drawing, least width, height)."""
    sizes = {node.key: node.size for node in drawn.nodes}
    column_of = _columns(drawn)
    placed = layers.place(sizes, drawn.edges, column_of)
    head = f"{phase['name']}: {phase['loss_in_words']}" if phase["loss_in_words"] else phase["name"]
    said = shortened(head, 110), " · ".join(conditions(phase))
    update = f"↺ {update_words(phase)}"
    logged = f"also logged: {', '.join(drawn.logged)}" if drawn.logged else ""
    least = (
        max(placed.width, len(said[0]) * CHARACTER, len(said[1]) * SMALL, len(update) * SMALL + 90)
        + 2 * MARGIN
    )
    top = HEADER + (LINE if said[1] else 0)
    bottom = top + placed.height + 46
    height = bottom + (LINE if logged else 0) + 6

    def draw(width: float) -> Markup:
        left = MARGIN + (width - 2 * MARGIN - placed.width) / 2
        x, y = placed.nodes["loss"]
        loss_x, loss_y = left + x + sizes["loss"][0] / 2, top + y + sizes["loss"][1]
        pill = len(update) * SMALL + 24
        pill_x = max(MARGIN, min(loss_x - 60 - pill, width - MARGIN - pill))
        turn_back = f"M{loss_x:.0f},{loss_y:.0f} V{bottom - 13:.0f} H{pill_x + pill + 2:.0f}"
        return escaped(
            [
                tag("rect", width=f"{width:.0f}", height=f"{height:.0f}", rx="10", class_="panel"),
                tag("text", said[0], x=MARGIN, y="27", class_="panel-title"),
                tag("text", said[1], x=MARGIN, y=27 + LINE, class_="panel-note") if said[1] else "",
                tag(
                    "g",
                    [_edge(placed.edges[edge]) for edge in drawn.edges],
                    [_box(node, *placed.nodes[node.key]) for node in drawn.nodes],
                    transform=f"translate({left:.0f},{top:.0f})",
                ),
                tag("path", d=turn_back, class_="update", marker_end="url(#BACK)")
                if pill_x + pill < loss_x
                else "",
                tag(
                    "rect",
                    x=f"{pill_x:.0f}",
                    y=f"{bottom - 26:.0f}",
                    width=f"{pill:.0f}",
                    height="26",
                    rx="13",
                    class_="update-pill",
                ),
                tag("text", update, x=f"{pill_x + 12:.0f}", y=f"{bottom - 9:.0f}", class_="update-words"),
                tag("text", logged, x=MARGIN, y=f"{bottom + LINE - 1:.0f}", class_="panel-note")
                if logged
                else "",
            ]
        )

    return draw, least, height


def _columns(drawn: Graph) -> dict[str, int]:
    """Networks by what they read, all terms in one column, the loss last, data just before who reads them
    first.
    """
    found = layers.columns([node.key for node in drawn.nodes], drawn.edges)
    kind = {node.key: node.kind for node in drawn.nodes}
    deepest = max((found[key] for key in kind if kind[key] in ("trained", "held", "frozen")), default=0)
    terms = [key for key in kind if kind[key] == "term"]
    found |= dict.fromkeys(terms, deepest + 1)
    found["loss"] = deepest + (2 if terms else 1)
    for key in kind:
        readers = [found[end] for start, end in drawn.edges if start == key]
        if kind[key] == "data" and readers:
            found[key] = min(readers) - 1
    return found


def _edge(points: Sequence[tuple[float, float]]) -> Markup:
    """A smooth line through points that come in pairs: out of a column, into the next."""
    (x, y), path = points[0], f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for number, (right, below) in enumerate(points[1:]):
        middle = (x + right) / 2
        path += (
            f" C{middle:.1f},{y:.1f} {middle:.1f},{below:.1f} {right:.1f},{below:.1f}"
            if number % 2 == 0
            else f" H{right:.1f}"
        )
        x, y = right, below
    return tag("path", d=path, class_="edge", marker_end="url(#ARROW)")


def _box(node: Node, x: float, y: float) -> Markup:
    width, height = node.size
    corner = {"data": height / 2, "term": 6}.get(node.kind, 3)
    lines = [
        tag(
            "text",
            line,
            x=f"{width / 2:.1f}",
            y=f"{20 + LINE * n:.0f}",
            text_anchor="middle",
            class_="box-note" if n else "box-title",
        )
        for n, line in enumerate(node.lines)
    ]
    return tag(
        "g",
        tag("rect", width=f"{width:.1f}", height=f"{height:.1f}", rx=f"{corner:.0f}"),
        lines,
        class_=f"box {node.kind}",
        data_node=node.lines[0],
        transform=f"translate({x:.1f},{y:.1f})",
    )
