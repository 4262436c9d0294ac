"""Pages over many rows: the front page with its search and its tree, the tables, and the review's own
slips.
"""

from collections.abc import Callable, Mapping, Sequence

from medgan_jax.review import catalogue, reproduce, tables
from medgan_jax.review.site import benchmark_page, values
from medgan_jax.review.site.frame import TITLE, badge, link, method_file, page, section, table_file
from medgan_jax.review.site.markup import Markup, definitions, external, items, joined, tag
from medgan_jax.review.site.markup import table as html_table
from medgan_jax.review.site.method_page import badges
from medgan_jax.review.site.subjects import Subject, application_words


def front_page(subjects: Sequence[Subject], benchmarks: Sequence[Mapping] = ()) -> str:
    """Counts, tree, tables, benchmarks if there are any, and search over all rows."""
    review = catalogue.review()
    content = [
        tag("h1", "GANs for medical images"),
        tag(
            "p",
            "Every method of the review ",
            tag("cite", review.title),
            ", each as a small experiment that can be read and run: "
            "its game, what its paper reports, and what was measured here under one protocol.",
            class_="lead",
        ),
        _counts(subjects),
        tag(
            "div",
            section("Tree of the review", _tree(subjects), id="tree"),
            section("Tables of the review", _tables(subjects), id="tables"),
            class_="halves",
        ),
        section("Benchmarks", benchmark_page.listing(benchmarks), id="benchmarks") if benchmarks else "",
        section("Methods", _search(subjects), _rows(subjects), id="methods"),
        section(
            "Data",
            tag("p", "All numbers of this site: ", tag("a", "data.json", href="data.json"), "."),
            id="data",
        ),
    ]
    description = (
        f"{len(subjects)} rows of the review '{review.title}': games, published and measured values."
    )
    return page(TITLE, content, root="", description=description, script=True)


def _counts(subjects: Sequence[Subject]) -> Markup:
    methods = [each for each in subjects if isinstance(each.entry, catalogue.Method)]
    counts = {
        "methods": len(methods),
        "base models": len(subjects) - len(methods),
        "implemented": sum(each.entry.implemented for each in subjects),
        "measured": sum(each.measured for each in subjects),
        "published values": sum(len(each.entry.reported) for each in subjects),
    }
    tiles = [
        tag("div", tag("dt", name), tag("dd", tag("data", count, value=count)))
        for name, count in counts.items()
    ]
    return tag("dl", tiles, class_="counts")


# --- search ---


def _choice(name: str, words: str, options: dict[str, str]) -> Markup:
    choices = [
        tag("option", "all", value=""),
        *(tag("option", shown, value=value) for value, shown in options.items()),
    ]
    return tag(
        "div",
        tag("label", words, for_=f"filter-{name}"),
        tag("select", choices, id=f"filter-{name}", name=name),
    )


def _search(subjects: Sequence[Subject]) -> Markup:
    """The form that the script shows and reads; without the script all rows are there."""
    entries = [each.entry for each in subjects]
    names = {each.id: each.name for each in entries}
    bases = sorted(
        {base for each in entries for base in getattr(each, "base_models", ())},
        key=lambda id: names.get(id, id).lower(),
    )
    numbers = [table.table for table in catalogue.tables()]
    kinds = sorted({kind for each in subjects for kind in each.modalities.split(", ")}, key=str.lower)
    boxes = [
        tag("label", tag("input", type="checkbox", name=name, id=f"filter-{name}"), f" {name}")
        for name in ("implemented", "measured")
    ]
    return tag(
        "form",
        tag(
            "div",
            tag("label", "Search", for_="search"),
            tag(
                "input",
                type="search",
                id="search",
                name="search",
                autocomplete="off",
                placeholder="name, task, author, loss, data … (press / to come here)",
            ),
            class_="wide",
        ),
        _choice(
            "application",
            "Application",
            {each: application_words(each) for each in dict.fromkeys(e.application for e in entries)},
        ),
        _choice("modality", "Modality", {kind: kind for kind in kinds}),
        _choice(
            "table", "Table", {str(number): f"Table {number}" for number in numbers} | {"none": "in no table"}
        ),
        _choice("base", "Base model", {base: names.get(base, base) for base in bases}),
        tag(
            "div",
            tag("span", "Only", class_="label"),
            tag("span", boxes, class_="boxes"),
            role="group",
            aria_label="Only rows that are",
        ),
        tag("div", tag("button", "Clear", type="reset")),
        id="filters",
        class_="filters",
        hidden=True,
        role="search",
        aria_label="Filter the rows of the review",
    )


def _rows(subjects: Sequence[Subject]) -> list[Markup]:
    headings = ["method", "task", "modality", "base models", "losses", "place", "state", "measured here"]
    names = {each.entry.id: each.entry.name for each in subjects}
    head = tag("thead", tag("tr", [tag("th", words, scope="col") for words in headings]))
    body = tag("tbody", [_row(each, headings, names) for each in subjects])
    count = tag("p", f"{len(subjects)} rows", id="count", role="status", aria_live="polite")
    nothing = tag(
        "p", "No row has all of that. Clear a filter to see more.", id="nothing", class_="notice", hidden=True
    )
    return [
        count,
        tag("table", tag("caption", "Rows of the review"), head, body, class_="rows", id="rows"),
        nothing,
    ]


def _row(subject: Subject, headings: Sequence[str], names: dict[str, str]) -> Markup:
    entry = subject.entry
    task = getattr(entry, "subcategory", "") or application_words(entry.application)
    bases = [link(names.get(id, id), method_file(id), "") for id in getattr(entry, "base_models", ())]
    measured = next((each for each in subject.measurements if each.metrics), None)
    cells = [
        task,
        subject.modalities,
        joined(bases) or values.NONE,
        ", ".join(subject.losses) or values.NONE,
        _place(entry),
        badges(subject),
        values.headline(measured, entry.reported) if measured else values.NONE,
    ]
    labelled = [
        tag("td", cell, data_label=heading, class_="none" if cell == values.NONE else None)
        for heading, cell in zip(headings[1:], cells, strict=True)
    ]
    reference = "" if entry.ref is None else tag("span", f" [{entry.ref}]", class_="reference")
    first = tag("th", link(entry.name, method_file(entry.id), ""), reference, scope="row")
    return tag(
        "tr",
        first,
        labelled,
        data_search=_searched(subject),
        data_application=entry.application,
        data_table="none" if entry.table is None else entry.table,
        data_base=" ".join(getattr(entry, "base_models", ())),
        data_modality="|".join(subject.modalities.split(", ")),
        data_implemented=str(entry.implemented).lower(),
        data_measured=str(subject.measured).lower(),
    )


def _place(entry: catalogue.Entry) -> Markup | str:
    return (
        f"section {entry.section}"
        if entry.table is None
        else link(f"table {entry.table}", table_file(f"table{entry.table}"), "")
    )


def _searched(subject: Subject) -> str:
    """All words that a row can be found by."""
    entry = subject.entry
    parts = [entry.id, entry.name, entry.citation, application_words(entry.application), *subject.losses]
    parts += [getattr(entry, name, "") for name in ("subcategory", "modality", "architecture")]
    parts += [*(each.name for each in entry.datasets), *getattr(entry, "base_models", ())]
    parts += ["" if entry.ref is None else f"[{entry.ref}]"]
    return " ".join(str(part) for part in parts if part).lower()


# --- tree ---


def _tree(subjects: Sequence[Subject]) -> Markup:
    """Application, modality, method, base model, loss."""
    names = {each.entry.id: each.entry.name for each in subjects}
    branches = []
    for application, members in _grouped(subjects, lambda each: each.entry.application).items():
        leaves = [
            tag(
                "details",
                tag("summary", f"{kind} ", _share(found)),
                tag("ul", [_leaf(each, names) for each in found]),
            )
            for kind, found in sorted(
                _grouped(members, lambda each: each.modalities).items(), key=lambda pair: pair[0].lower()
            )
        ]
        name = application_words(application)
        branches.append(
            tag(
                "details",
                tag("summary", f"{name} ", _share(members)),
                leaves,
                id=f"tree-{application}",
                class_="branch",
            )
        )
    return tag("div", branches, class_="tree")


def _grouped(subjects: Sequence[Subject], key: Callable[[Subject], str]) -> dict[str, list[Subject]]:
    groups: dict[str, list[Subject]] = {}
    for each in subjects:
        groups.setdefault(key(each), []).append(each)
    return groups


def _share(subjects: Sequence[Subject]) -> Markup:
    done = sum(each.entry.implemented for each in subjects)
    return tag("span", f"{len(subjects)} row{'s' * (len(subjects) != 1)}, {done} implemented", class_="share")


def _leaf(subject: Subject, names: dict[str, str]) -> Markup:
    entry = subject.entry
    state = "" if entry.implemented else tag("span", " not implemented yet", class_="share")
    bases = [link(names.get(id, id), method_file(id), "") for id in getattr(entry, "base_models", ())]
    losses = tag("ul", tag("li", "losses: ", ", ".join(subject.losses))) if subject.losses else ""
    below = tag("ul", tag("li", joined(bases), losses)) if bases else losses
    return tag("li", link(entry.name, method_file(entry.id), ""), state, below)


# --- tables ---


def _tables(subjects: Sequence[Subject]) -> Markup:
    rows = []
    for name, title in table_names().items():
        found = [each for each in subjects if each.table_name == name]
        if found:
            counts = [
                len(found),
                sum(each.entry.implemented for each in found),
                sum(each.measured for each in found),
            ]
            rows.append(
                [link(title, table_file(name), ""), *(tag("data", count, value=count) for count in counts)]
            )
    return html_table(
        ["table", "rows", "implemented", "measured"],
        rows,
        caption="Published beside measured values, table by table",
    )


def table_names() -> dict[str, str]:
    """What `reproduce` can make, without `all`, with titles."""
    return {name: title for name, title in reproduce.table_names().items() if name != "all"}


def table_page(name: str, subjects: Sequence[Subject]) -> str:
    """A table of the review: what it prints, and what was measured here."""
    title = table_names()[name]
    body = []
    for each in subjects:
        entry = each.entry
        cells = [
            link(entry.name, method_file(entry.id), "../"),
            _published_lines(entry),
            _measured_lines(each),
            badges(each),
        ]
        body.append(cells)
    shown = html_table(
        ["method", "published (its data)", "measured here (data)", "state"],
        body,
        caption=title,
        class_="wide-cells",
    )
    command = tag(
        "p", tag("code", f"python -m medgan_jax reproduce {name}"), " runs what is implemented of it."
    )
    note = tag(
        "p",
        "Published values are on the papers' own data, measured ones on what is named beside "
        "them: they are no contest.",
    )
    back = tag(
        "nav",
        tag(
            "ol",
            tag("li", link("Review", "index.html", "../")),
            tag("li", link("Tables", "index.html#tables", "../")),
            tag("li", tag("span", title, aria_current="page")),
        ),
        class_="trail",
        aria_label="Where this is",
    )
    return page(
        title,
        [back, tag("h1", title), note, shown, command],
        root="../",
        description=f"{title}: published beside measured values.",
    )


def _published_lines(entry: catalogue.Entry) -> Markup | str:
    if not entry.reported:
        return values.NONE
    lines = []
    for each in entry.reported:
        data = f" on {each.dataset}" if each.dataset else ""
        lines.append(
            [
                f"{each.metric} ",
                values.published_value(each),
                data,
                tag("small", f" {each.note}") if each.note else "",
            ]
        )
    doubts = [tag("small", "Beware: ", each) for each in entry.inconsistencies]
    return items([*lines, *doubts], class_="plain")


def _measured_lines(subject: Subject) -> Markup | str:
    found = [each for each in subject.measurements if each.metrics]
    if not found:
        return "not implemented yet" if not subject.entry.implemented else values.NONE
    lines = []
    for each in found:
        metrics = values.shown_metrics(each, subject.entry.reported)[: values.PLOTTED]
        shown = [
            [
                f"{tables.metric_heading(name, each.metrics[name])} ",
                values.statistic(each.metrics[name]),
                [" (baseline ", values.statistic(each.baseline[name]), ")"] if name in each.baseline else "",
            ]
            for name in metrics
        ]
        lines.append([tag("small", values.source_words(each)), items(shown, class_="plain")])
    return items(lines, class_="plain")


# --- the review itself ---


def review_page(subjects: Sequence[Subject]) -> str:
    """The review, and all that is inconsistent in it."""
    review = catalogue.review()
    general = html_table(
        ["where", "what"],
        [[each.where, each.issue] for each in catalogue.inconsistencies()],
        caption="In the review as a whole",
    )
    with_issues = [each.entry for each in subjects if each.entry.inconsistencies]
    rows = [
        [
            [link(each.name, method_file(each.id), ""), f" {each.place}"],
            items(list(each.inconsistencies), class_="plain"),
        ]
        for each in with_issues
    ]
    count = sum(len(each.inconsistencies) for each in with_issues)
    content = [
        tag("h1", "The review"),
        definitions(
            {
                "Citation": review,
                "DOI": external(f"https://doi.org/{review.doi}", review.doi),
                "Preprint": external(
                    f"https://arxiv.org/abs/{review.preprint.removeprefix('arXiv:')}", review.preprint
                ),
            }
        ),
        section("How to read this site", _reading(), id="reading"),
        section(
            "Inconsistencies",
            tag(
                "p",
                f"{len(catalogue.inconsistencies())} in the review as a whole, {count} in {len(with_issues)} "
                "of its rows. ",
                "Statements that begin with 'Against the paper' compare the review with the paper that it "
                "describes; 'recalled' means that the paper "
                "was not at hand. All others are within the review.",
            ),
            general,
            html_table(["row", "what"], rows, caption="Row by row", class_="wide-cells"),
            id="inconsistencies",
        ),
    ]
    return page(
        "The review",
        content,
        root="",
        description="The review, its inconsistencies, and how to read this site.",
    )


def _reading() -> Markup:
    return items(
        [
            [
                badge("implemented", "yes"),
                " There is an experiment in the repository; its page shows its game.",
            ],
            [
                badge("measured", "yes"),
                " A record of a run was given to the program that makes this site, or is kept in the "
                "repository.",
            ],
            "Published values are as printed in the review, on the paper's data. They stand beside "
            "measured ones to show the scale.",
            "A measured value stands with its data, its spread (over seeds, or over test cases for one "
            "seed), and its baseline: the trivial method, "
            "classical ones, and the same networks without the adversarial part.",
            "Values on phantoms show that a method works here, and say nothing about clinical images.",
        ]
    )
