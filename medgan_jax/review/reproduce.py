"""`python -m medgan_jax reproduce TABLE`: runs the experiments of a table and writes published beside measured."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

from medgan_jax.errors import UserError
from medgan_jax.review import catalogue, result_rows
from medgan_jax.review.runs import Run, play_all
from medgan_jax.training.workdir import write_json
from medgan_jax.training.writers import writing


@dataclasses.dataclass(frozen=True)
class Request:
    """What to reproduce: which entries, at which preset, with which seeds and data.

    sources: `--data.source` by experiment id; phantoms for the others. jobs: see `runs.play_all`.
    """

    name: str
    title: str
    entries: tuple[catalogue.Entry, ...]
    preset: str
    seeds: tuple[int, ...]
    workdir: pathlib.Path
    output: pathlib.Path
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    jobs: int = 0


def table_names() -> dict[str, str]:
    """What can be reproduced, with its title: tables of the review, `base`, `text` and `all`."""
    numbered = {f"table{each.table}": f"Table {each.table}: {each.topic}" for each in catalogue.tables()}
    return numbered | {
        "base": "Base models of section 3",
        "text": "Methods that the review treats in its text alone",
        "all": "All rows of the review",
    }


def entries_of(name: str) -> tuple[catalogue.Entry, ...]:
    """The rows of a table by the name that `reproduce` takes; UserError for an unknown one."""
    names = table_names()
    if name not in names:
        raise UserError(f"there is no table {name!r} to reproduce; there are {', '.join(names)}")
    if name == "all":
        return catalogue.entries()
    if name == "base":
        return catalogue.base_models()
    number = None if name == "text" else int(name.removeprefix("table"))
    return tuple(each for each in catalogue.methods() if each.table == number)


def read_sources(texts: Sequence[str]) -> dict[str, str]:
    """`ID=FOLDER` by id; UserError for anything else."""
    sources = {}
    for text in texts:
        identifier, sign, source = text.partition("=")
        if not sign or not source:
            raise UserError(f"--source {text} is not of the form ID=FOLDER")
        sources[catalogue.find(identifier).id] = source
    return sources


def reproduce(request: Request) -> list[result_rows.Row]:
    """Runs what is not done yet, writes the table in every form, and returns its rows."""
    runs = {
        entry.id: [
            Run(entry.id, entry.module, request.preset, seed, request.workdir,
                request.sources.get(entry.id, "phantom"))
            for seed in request.seeds
        ]
        for entry in request.entries
        if entry.implemented
    }  # fmt: skip
    results = play_all([run for each in runs.values() for run in each], jobs=request.jobs)
    rows = []
    for entry in request.entries:
        own = runs.get(entry.id, [])
        failures = {run.seed: run.failure() or "it did not finish" for run in own if results[run] is None}
        rows.append(result_rows.row(entry, {run.seed: results[run] for run in own}, failures))
    write(request, rows)
    return rows


def write(request: Request, rows: Sequence[result_rows.Row]) -> None:
    """The table as JSON, Markdown, CSV and LaTeX in the output folder."""
    try:
        request.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {request.output} cannot be made: {error.strerror}") from error
    facts = {"name": request.name, "preset": request.preset, "seeds": list(request.seeds)}
    write_json(request.output / f"{request.name}.json", result_rows.plain(rows, request.title, **facts))
    for ending, form in result_rows.FORMS.items():
        path = request.output / f"{request.name}.{ending}"
        with writing(path):
            path.write_text(form(rows, request.title))


def summary(rows: Sequence[result_rows.Row]) -> str:
    """`4 rows: 2 measured, 1 failed, 1 not implemented`."""
    counts = {state: sum(row.state == state for row in rows) for state in
              (result_rows.MEASURED, result_rows.FAILED, result_rows.WAITING)}  # fmt: skip
    return f"{len(rows)} rows: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count)


def as_json(request: Request) -> str:
    """The table that was written, as text."""
    return json.dumps(json.loads((request.output / f"{request.name}.json").read_text()), indent=2)
