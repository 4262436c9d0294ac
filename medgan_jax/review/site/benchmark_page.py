"""The page of a benchmark: each track's entrants, ranks with their intervals, cost and health.

Cells are those of the written tables; the same function reads their file.
"""

from collections.abc import Mapping, Sequence

from medgan_jax.review import catalogue, tables
from medgan_jax.review.benchmark import forms
from medgan_jax.review.site import values
from medgan_jax.review.site.dot_plot import Dot, dot_plot
from medgan_jax.review.site.frame import link, method_file, page, section
from medgan_jax.review.site.markup import Markup, file_name, items, tag
from medgan_jax.review.site.markup import table as html_table

ROOT = "../"


def benchmark_file(content: Mapping) -> str:
    """Page of a benchmark."""
    return f"benchmarks/{file_name(content['benchmark'])}-{file_name(content['preset'])}.html"


def title(content: Mapping) -> str:
    """`Benchmark: denoising, small`."""
    return f"Benchmark: {content['benchmark'].replace('_', ' ')}, {content['preset']}"


def benchmark_page(content: Mapping) -> str:
    """All tracks of a benchmark."""
    trail = tag(
        "nav",
        tag(
            "ol",
            tag("li", link("Review", "index.html", ROOT)),
            tag("li", link("Benchmarks", "index.html#benchmarks", ROOT)),
            tag("li", tag("span", title(content), aria_current="page")),
        ),
        class_="trail",
        aria_label="Where this is",
    )
    protocol = items(list(forms.PROTOCOL))
    seeds = tag("p", forms.heading(content), class_="notice warn" if content["preliminary"] else None)
    tracks = [section(each["title"], _track(each), id=file_name(each["name"])) for each in content["tracks"]]
    words = f"{title(content)}: {len(content['tracks'])} tracks, methods ranked under one protocol."
    return page(
        title(content),
        [trail, tag("h1", title(content)), seeds, protocol, *tracks],
        root=ROOT,
        description=words,
    )


def _track(track: Mapping) -> list:
    body = []
    for row in track["rows"]:
        lines = forms.cells(row)
        body.append([_cell(name, lines.get(name, [tables.NONE]), row) for name in forms.COLUMNS])
    shown = html_table(list(forms.COLUMNS), body, caption=track["title"], class_="wide-cells")
    return [items(forms.conditions(track)), _ranks(track), shown]


def _cell(name: str, lines: Sequence[str], row: Mapping) -> Markup | str:
    if name != "entrant":
        return items(list(lines), class_="plain") if list(lines) != [tables.NONE] else tables.NONE
    known = {entry.id for entry in catalogue.entries()}
    head, *rest = lines
    first = link(head, method_file(row["id"]), ROOT) if row["id"] in known else head
    return items([first, *(tag("small", each) for each in rest if each != row["id"])], class_="plain")


def _ranks(track: Mapping) -> Markup | str:
    """Ranks at equal updates as dots on a line with their intervals."""
    rows = [row for row in track["rows"] if row["updates"].get("rank")]
    if len(rows) < 2:
        return ""
    dots, said = [], []
    for row in rows:
        found = row["updates"]["rank"]
        said.append(f"{row['name']} {found['rank']:g} ({found['lower']:g} to {found['upper']:g})")
        dots.append(Dot(row["name"], found["rank"], found["lower"], found["upper"], row["kind"] == "method"))
    description = f", with 95 % intervals: {'; '.join(said)}"
    drawing = dot_plot(
        "Rank at equal updates, best at the left", description, dots, (1, len(rows)), width=420, margin=16
    )
    return tag("div", drawing, class_="plots")


def listing(benchmarks: Sequence[Mapping]) -> Markup:
    """Links to the pages of benchmarks, with what they hold."""
    rows = [
        [
            link(title(each), benchmark_file(each), ""),
            values.number(len(each["tracks"])),
            values.number(sum(len(track["rows"]) for track in each["tracks"])),
            values.number(len(each["seeds"])),
        ]
        for each in benchmarks
    ]
    return html_table(
        ["benchmark", "tracks", "entrants", "seeds"], rows, caption="Methods with one task, side by side"
    )
