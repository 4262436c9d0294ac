"""The page of one row of the review: what it is, its game, published and measured values, how to run it."""

from collections.abc import Mapping, Sequence

from medgan_jax.review import catalogue, describe, tables
from medgan_jax.review.site import values
from medgan_jax.review.site.diagram import stage_picture
from medgan_jax.review.site.equations import blocks, typeset
from medgan_jax.review.site.frame import badge, link, method_file, page, section, table_file
from medgan_jax.review.site.markup import (
    Markup,
    definitions,
    escaped,
    external,
    items,
    joined,
    scrolling,
    tag,
)
from medgan_jax.review.site.markup import table as html_table
from medgan_jax.review.site.measurements import Measurement
from medgan_jax.review.site.subjects import Game, Subject, application_words, kind_of_stage

ROOT = "../"
# Values come from the catalogue and from records, never from a docstring.
WITHOUT_VALUES = ("Published:", "Expected:")


def method_page(
    subject: Subject,
    everyone: Sequence[Subject],
    pictures: Mapping[int, Sequence[str]],
    *,
    before=None,
    after=None,
    audits: Mapping[str, str] | None = None,
) -> str:
    """The page of a row. pictures: files of the site with sample pictures, by the number of the record;
    before, after: the rows beside this one; audits: titles by file of the site.
    """
    entry = subject.entry
    content = [
        _trail(subject),
        tag("h1", entry.name),
        tag("p", badges(subject), class_="badges"),
        tag("p", _citation(entry), class_="citation"),
        _contents(subject),
        section("In the review", _facts(subject, everyone), id="facts"),
        *_game(subject),
        section("Published values", _published(entry), id="published"),
        section("Measured here", _measured(subject, pictures), id="measured"),
        *_audits(audits or {}),
        *_run(subject),
        *_unknowns(subject),
        section("Inconsistencies of the review", _inconsistencies(entry), id="inconsistencies"),
        *_configuration(subject),
        _neighbours(before, after),
    ]
    description = f"{entry.name}, {entry.place}: {entry.citation.title}"
    return page(entry.name, content, root=ROOT, description=description)


def badges(subject: Subject) -> Markup:
    """Whether the row is implemented and measured, and what went wrong, in words."""
    found = [badge("implemented", "yes") if subject.entry.implemented else badge("not implemented yet", "no")]
    found += [badge("measured", "yes")] if subject.measured else []
    found += [badge("a run failed", "warn")] if any(each.failures for each in subject.measurements) else []
    found += [badge("cannot be described", "warn")] if subject.trouble else []
    return joined(found, " ")


def _trail(subject: Subject) -> Markup:
    entry = subject.entry
    steps = [
        link("Review", "index.html", ROOT),
        link(application_words(entry.application), f"index.html#tree-{entry.application}", ROOT),
    ]
    steps += [escaped(subject.modalities)] if isinstance(entry, catalogue.Method) else []
    return tag(
        "nav",
        tag("ol", [tag("li", step) for step in [*steps, tag("span", entry.name, aria_current="page")]]),
        class_="trail",
        aria_label="Where this is",
    )


def _contents(subject: Subject) -> Markup:
    parts = [
        ("facts", "In the review"),
        *([("game", "The game")] if subject.game else []),
        ("published", "Published"),
        ("measured", "Measured"),
        *([("run", "Run it")] if subject.entry.implemented else []),
        *([("unknowns", "Unknowns")] if subject.game and subject.game.facts["unknowns"] else []),
        ("inconsistencies", "Inconsistencies"),
    ]
    return tag(
        "nav",
        items([tag("a", words, href=f"#{place}") for place, words in parts]),
        class_="contents",
        aria_label="On this page",
    )


# --- the review's facts ---


def _facts(subject: Subject, everyone: Sequence[Subject]) -> Markup:
    entry = subject.entry
    known = {
        "Id": tag("code", entry.id),
        "Place": [entry.place, " · ", link("its table", table_file(subject.table_name), ROOT)],
    }
    if isinstance(entry, catalogue.Method):
        names = {each.entry.id: each.entry.name for each in everyone}
        known |= {
            "Task": f"{application_words(entry.application)}: {entry.subcategory}",
            "Modality": entry.modality,
            "Resolution": entry.resolution,
            "Base models": joined(
                [link(names.get(id, id), method_file(id), ROOT) for id in entry.base_models]
            ),
            "Architecture, as printed": entry.architecture,
            "Losses, as printed": ", ".join(entry.losses or ()) or "the table has no such column",
            "Losses, in the text": ", ".join(entry.losses_in_text),
            "Data": _data_sets(entry),
            "Peer reviewed, as printed": _yes(entry.peer_reviewed),
            "Code, as printed": external(entry.code_url, entry.code_url)
            if entry.code_url
            else _yes(entry.code_published),
        }
    else:
        users = [each.entry for each in everyone if entry.id in getattr(each.entry, "base_models", ())]
        known |= {
            "Equations, misprints mended": [
                tag("p", typeset(each), class_="equation") for each in entry.equations
            ],
            "Used by": joined([link(each.name, method_file(each.id), ROOT) for each in users]),
        }
    return definitions(known)


def _citation(entry: catalogue.Entry) -> list:
    if entry.citation.source != "recalled":
        return [entry.citation]
    sure = f", confidence {entry.citation.confidence}" if entry.citation.confidence else ""
    return [
        entry.citation,
        tag("small", f" Recalled, not printed in the list of references that was at hand{sure}."),
    ]


def _data_sets(entry: catalogue.Method) -> Markup | str:
    return (
        items([f"{each}{f': {each.note}' if each.note else ''}" for each in entry.datasets])
        if entry.datasets
        else ""
    )


def _yes(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"


# --- the game ---


def _game(subject: Subject) -> list[Markup]:
    if not subject.entry.implemented:
        return []
    if subject.game is None:
        words = ["This experiment cannot be described: ", tag("code", subject.trouble), "."]
        return [section("The game", tag("p", words, class_="notice warn"), id="game")]
    game = subject.game
    legend = tag(
        "p",
        [
            tag("span", word, class_=f"key {kind}")
            for kind, word in (
                ("data", "data"),
                ("trained", "trained in this turn"),
                ("held", "held as it is"),
                ("frozen", "frozen for good"),
                ("term", "term of the loss"),
                ("loss", "loss"),
            )
        ],
        class_="legend",
    )
    intro = tag(
        "p",
        "Drawn from the experiment itself: its losses are traced, and arrows show what each "
        "network and term reads.",
    )
    trouble = tag(
        "p",
        ["The losses could not be traced, so arrows are missing: ", tag("code", game.trouble), "."],
        class_="notice warn",
    )
    parts = [intro, legend, trouble if game.trouble else "", _stages(game)]
    return [
        section("The game", parts, id="game"),
        section("The method in its file's words", _words(game), id="words"),
    ]


def _stages(game: Game) -> list[Markup]:
    """Stages in their order; of those that play the same game, one picture stands for all."""
    stages, shown = game.facts["stages"], []
    kinds = [kind_of_stage(stage) for stage in stages]
    for kind in dict.fromkeys(kinds):
        numbers = [n for n, each in enumerate(kinds) if each == kind]
        last = numbers[-1]
        heading = _stage_heading([stages[n] for n in numbers], alone=len(stages) == 1)
        picture = stage_picture(stages[last], game.turns.get(last), game.facts["terms"], name=f"stage{last}")
        name = f"The game of stage {stages[last]['name']}"
        shown.append(
            tag(
                "section",
                heading,
                tag("figure", scrolling(picture, name), _caption(stages[last])),
                _networks(stages[last]),
                aria_label=name,
                class_="stage",
            )
        )
    return shown


def _stage_heading(stages: Sequence[Mapping], *, alone: bool) -> Markup:
    steps = " + ".join(f"{stage['steps']:,}" for stage in stages)
    names = (
        f"Stage {stages[0]['name']}"
        if len(stages) == 1
        else f"Stages {stages[0]['name']} to {stages[-1]['name']}, {len(stages)} of one kind"
    )
    return tag("h3", f"{steps} steps" if alone else f"{names}: {steps} steps")


def _caption(stage: Mapping) -> Markup:
    """What a step is, in sentences: the picture in words."""
    data = [tag("li", f"Data: {words}.") for words in describe.data_words(stage["data"])]
    return tag(
        "figcaption",
        tag(
            "details",
            tag("summary", "The same in words"),
            tag("ul", [tag("li", words) for words in describe.step_words(stage)], data),
        ),
    )


def _networks(stage: Mapping) -> Markup:
    trains = {
        name: [phase["name"] for phase in stage["phases"] if name in phase["trains"]]
        for name in (n["name"] for n in stage["networks"])
    }
    rows = []
    for each in stage["networks"]:
        notes = [f"keeps {', '.join(each['state'])}"] if each["state"] else []
        notes += (
            [f"moving average, decay {each['average_decay']:g}, is used afterwards"]
            if each["average_decay"] is not None
            else []
        )
        turns = ", ".join(trains[each["name"]]) or "not in this stage"
        rows.append(
            [each["name"], each["type"], _count(each["parameters"]), turns, "; ".join(notes) or tables.NONE]
        )
    for each in stage["frozen"]:
        rows.append([each["name"], each["type"], _count(each["parameters"]), "frozen", each["description"]])
    return html_table(["network", "type", "parameters", "trained in turn", "notes"], rows, caption="Networks")


def _count(number: int) -> Markup:
    return tag("data", f"{number:,}", value=number)


def _words(game: Game) -> list[Markup]:
    """The docstring of the experiment, its equations typeset."""
    found, (first, *rest) = [], blocks(game.docstring) or [("prose", "")]
    found.append(tag("p", first[1]))
    for kind, text in rest:
        if kind == "equations":
            lines = tag("div", typeset(text), class_="equations")
            found.append(scrolling(lines, "Equations"))
        elif kind == "prose":
            found += [tag("p", _prose(sentence)) for sentence in _sentences(text)]
    return found


def _sentences(text: str) -> list[str]:
    """A paragraph of a docstring, cut before its headings, without those that hold values."""
    parts, current = [], ""
    for word in text.split(" "):
        is_heading = word in ("Data:", "Deviations:", "Published:", "Expected:", "Measured:") or word in (
            "`small`:",
            "`paper`:",
        )
        if is_heading and current:
            parts.append(current)
            current = ""
        current = f"{current} {word}".strip()
    return [each for each in [*parts, current] if each and not each.startswith(WITHOUT_VALUES)]


def _prose(text: str) -> list:
    """Text with its `code` marked."""
    return [tag("code", part) if n % 2 else part for n, part in enumerate(text.split("`"))]


# --- values ---


def _published(entry: catalogue.Entry) -> Markup:
    if not entry.reported:
        return tag("p", "The review prints no value for this row.", class_="notice")
    doubts = tag(
        "p",
        "Not all of it can be taken as printed: see ",
        tag("a", "inconsistencies", href="#inconsistencies"),
        ".",
    )
    return escaped([values.published_table(entry.reported), doubts if entry.inconsistencies else ""])


def _measured(subject: Subject, pictures: Mapping[int, Sequence[str]]) -> list[Markup]:
    entry = subject.entry
    if not entry.implemented and not subject.measurements:
        return [tag("p", "Not implemented yet, so nothing is measured.", class_="notice")]
    if not subject.measurements:
        command = f"python -m medgan_jax reproduce {subject.table_name}"
        return [
            tag("p", ["No record of a run was found. ", tag("code", command), " makes one."], class_="notice")
        ]
    other = (
        tag("p", "Published values are of other data: they show the scale and are no contest.")
        if entry.reported
        else ""
    )
    return [
        other,
        *(
            _record(each, subject, pictures.get(number, ()))
            for number, each in enumerate(subject.measurements)
        ),
    ]


def _record(measured: Measurement, subject: Subject, pictures: Sequence[str]) -> Markup:
    failures = [
        tag("p", f"Seed {seed} failed: {why}", class_="notice warn")
        for seed, why in measured.failures.items()
    ]
    heading = tag("h3", measured.kind.capitalize(), " ", tag("code", measured.origin))
    if not measured.metrics:
        return tag("article", heading, failures or tag("p", "No seed finished.", class_="notice warn"))
    reported = subject.entry.reported
    stale = tag(
        "p",
        "The experiment's code or configuration has changed since this was measured.",
        class_="notice warn",
    )
    return tag(
        "article",
        heading,
        stale if measured.origin in subject.stale else "",
        failures,
        values.comparison(measured, reported),
        values.plots(measured, reported),
        _pictures(pictures, subject),
        _bounds(measured),
        definitions(_circumstances(measured)),
    )


def _circumstances(measured: Measurement) -> dict:
    health = [
        f"{name.replace('_', ' ')} {tables.number(value)}"
        for name, value in measured.health.items()
        if values.finite(value)
    ]
    return {
        "Training": f"{measured.steps:,} steps" if measured.steps is not None else "",
        "Seconds a seed": values.number(measured.seconds) if measured.seconds is not None else "",
        "Device": measured.device,
        "Signs of health": ", ".join(health),
        "Command": tag("code", measured.command) if measured.command else "",
        "Data fingerprint": tag("code", str(measured.data["fingerprint"])[:12])
        if measured.data.get("fingerprint")
        else "",
        "Code": tag("code", (measured.code or measured.commit or "")[:12])
        if measured.code or measured.commit
        else "",
    }


def _bounds(measured: Measurement) -> Markup | str:
    if not measured.bounds:
        return ""
    rows = [
        [
            each["bound"],
            values.number(each["value"]),
            values.number(each["limit"]),
            "holds" if each["holds"] else "does not hold",
        ]
        for each in measured.bounds
    ]
    return html_table(["bound", "measured", "limit", ""], rows, caption="What a run of this preset must show")


def _pictures(pictures: Sequence[str], subject: Subject) -> list[Markup]:
    images = list(subject.game.facts["images"]) if subject.game else []
    shown = f": {', '.join(images)}, left to right" if images else ""
    return [
        tag(
            "figure",
            tag(
                "a",
                tag(
                    "img",
                    src=f"{ROOT}{path}",
                    alt=f"Test cases of {subject.entry.name}, one in a row{shown}",
                ),
                href=f"{ROOT}{path}",
            ),
            tag("figcaption", f"Test cases{shown}."),
            class_="picture",
        )
        for path in pictures
    ]


def _audits(files: Mapping[str, str]) -> list[Markup]:
    if not files:
        return []
    links = items([link(title, file, ROOT) for file, title in files.items()])
    return [section("What it may be trusted with", links, id="audits")]


# --- the rest ---


def _run(subject: Subject) -> list[Markup]:
    entry = subject.entry
    if not entry.implemented:
        return []
    lines = [
        f"python -m {entry.module}",
        f"python -m medgan_jax describe {entry.id}",
        f"python -m medgan_jax train {entry.id} --workdir runs/mine --data.source FOLDER",
        f"python -m medgan_jax reproduce {subject.table_name}",
    ]
    return [section("Run it", scrolling(tag("pre", tag("code", "\n".join(lines))), "Commands"), id="run")]


def _unknowns(subject: Subject) -> list[Markup]:
    if subject.game is None:
        return []
    facts, found = subject.game.facts, []
    if facts["unknowns"]:
        found.append(section("Not said by the paper, chosen here", items(facts["unknowns"]), id="unknowns"))
    if facts["notes"]:
        found.append(section("Notes", definitions(facts["notes"]), id="notes"))
    return found


def _inconsistencies(entry: catalogue.Entry) -> Markup:
    if not entry.inconsistencies:
        return tag("p", "None is known for this row.", class_="notice")
    return items(list(entry.inconsistencies))


def _configuration(subject: Subject) -> list[Markup]:
    if subject.game is None:
        return []
    facts = subject.game.facts
    rows = [
        [tag("code", name), tag("code", repr(value))]
        for name, value in describe.flat(facts["configuration"]).items()
    ]
    inner = html_table(["field", "value"], rows, caption=f"Values of the preset {facts['preset']}")
    return [
        section(
            "Configuration",
            tag("details", tag("summary", f"{len(rows)} fields of the preset {facts['preset']}"), inner),
            id="configuration",
        )
    ]


def _neighbours(before: Subject | None, after: Subject | None) -> Markup:
    sides = []
    for subject, words, way in ((before, "← ", "prev"), (after, " →", "next")):
        if subject is not None:
            name = subject.entry.name
            sides.append(
                link(
                    f"{words}{name}" if way == "prev" else f"{name}{words}",
                    method_file(subject.entry.id),
                    ROOT,
                )
            )
    return tag(
        "nav", [tag("span", side) for side in sides], class_="neighbours", aria_label="Rows beside this one"
    )
