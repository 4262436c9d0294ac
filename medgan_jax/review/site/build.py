"""Writes the site: one folder that works from a disk, with no server and no network."""

import dataclasses
import importlib.resources
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from medgan_jax.errors import UserError
from medgan_jax.review import catalogue, learning, tables
from medgan_jax.review.site import benchmark_page, measurements, method_page, overview_pages, studies
from medgan_jax.review.site.frame import method_file, table_file
from medgan_jax.review.site.markup import file_name
from medgan_jax.review.site.measurements import LEARNING, Measurement
from medgan_jax.review.site.subjects import Subject, gather
from medgan_jax.training.run import use_compilation_cache

ASSETS = ("style.css", "script.js")
FRONT, DATA = "index.html", "data.json"


def report(output: pathlib.Path, results: Sequence[pathlib.Path], *, preset: str = "paper") -> pathlib.Path:
    """Makes the site in `output` from result folders and committed records; returns its front page."""
    _check(output)
    use_compilation_cache()
    measured = measurements.by_experiment(measurements.all_measurements(results))
    benchmarks, audits = studies.benchmarks(results), studies.audits(results)
    subjects = gather(catalogue.entries(), measured, preset=preset, stale=is_stale)
    return write(output, subjects, benchmarks, audits)


def _check(output: pathlib.Path) -> None:
    """UserError for a place that is no folder, or holds what is not a site."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file; name a folder")
    if output.is_dir() and any(output.iterdir()) and not (output / DATA).is_file():
        raise UserError(f"--output {output} holds other files than a site; name an empty or a new folder")


def is_stale(entry: catalogue.Entry, measured: Measurement) -> bool:
    """Whether a record of learning is of other code or another configuration than the present ones."""
    return measured.kind == LEARNING and measured.code != learning.present_fingerprint(entry.module)


def write(
    output: pathlib.Path,
    subjects: Sequence[Subject],
    benchmarks: Sequence[Mapping] = (),
    audits: Mapping[str, Sequence[studies.Audit]] | None = None,
) -> pathlib.Path:
    """Writes every page of these rows, of benchmarks and of audits by experiment, what they share, and all numbers
    as JSON; returns the front page.
    """
    try:
        for folder in ("methods", "tables", "benchmarks", "audits", "images", "assets"):
            (output / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output} cannot be made: {error.strerror}") from error
    for pattern in ("methods/*.html", "tables/*.html", "benchmarks/*.html", "audits/*.html", "images/*.png"):
        for path in output.glob(pattern):
            path.unlink()
    for name in ASSETS:
        content = (importlib.resources.files("medgan_jax.review.site") / name).read_text(encoding="utf-8")
        (output / "assets" / name).write_text(content, encoding="utf-8")
    front = overview_pages.front_page(subjects, benchmarks)
    pages = {FRONT: front, "review.html": overview_pages.review_page(subjects)}
    for each in benchmarks:
        pages[benchmark_page.benchmark_file(each)] = benchmark_page.benchmark_page(each)
    for name in overview_pages.table_names():
        if rows := [each for each in subjects if each.table_name == name]:
            pages[table_file(name)] = overview_pages.table_page(name, rows)
    around = zip([None, *subjects], subjects, [*subjects[1:], None], strict=False)
    for before, each, after in around:
        pictures, back = _copied(output, each), method_file(each.entry.id)
        own = list((audits or {}).get(each.entry.id, ()))
        files = {studies.audit_file(audit, number): audit for number, audit in enumerate(own)}
        pages |= {name: studies.site_audit_page(audit, back) for name, audit in files.items()}
        pages[back] = method_page.method_page(
            each, subjects, pictures, before=before, after=after, audits={name: a.title for name, a in files.items()}
        )
    for name, text in pages.items():
        (output / name).write_text(text, encoding="utf-8")
    numbers = plain(subjects) | {"benchmarks": list(benchmarks)}
    (output / DATA).write_text(json.dumps(numbers, indent=1, default=str) + "\n", encoding="utf-8")
    return output / FRONT


def _copied(output: pathlib.Path, subject: Subject) -> dict[int, list[str]]:
    """The sample pictures of a row, copied into the site: their files by the number of the record."""
    files: dict[int, list[str]] = {}
    for number, each in enumerate(subject.measurements):
        for picture in each.pictures:
            name = f"images/{file_name(subject.entry.id)}-{number}.png"
            shutil.copyfile(picture, output / name)
            files.setdefault(number, []).append(name)
    return files


def plain(subjects: Sequence[Subject]) -> dict[str, Any]:
    """All that the site says in numbers, as plain values."""
    return {"review": dataclasses.asdict(catalogue.review()), "rows": [_plain_row(each) for each in subjects]}


def _plain_row(subject: Subject) -> Mapping[str, Any]:
    published = [dataclasses.asdict(value) for value in subject.entry.reported]
    measured = [
        {name: value for name, value in dataclasses.asdict(each).items() if name != "pictures"}
        for each in subject.measurements
    ]
    return {
        **tables.listing_facts(subject.entry),
        "published": published,
        "measured": measured,
        "trouble": subject.trouble,
    }
