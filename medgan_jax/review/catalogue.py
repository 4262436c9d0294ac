"""The rows of the review as data: 15 base models and 82 methods, what it reports, what is implemented.

The facts are in `catalogue.json`, restated from Kazeminia et al., "GANs for medical image analysis",
Artificial Intelligence in Medicine 109 (2020) 101938. Values are as printed there, never rescaled. Reading
the catalogue imports no experiment and no JAX.
"""

import dataclasses
import difflib
import functools
import importlib.resources
import importlib.util
import json
from collections.abc import Mapping

from medgan_jax.errors import UserError

BASE = "base"


@dataclasses.dataclass(frozen=True)
class Citation:
    """The paper that a row stands for.

    source: `review_reference_list` (printed in the review's list) or `recalled`. confidence: that the paper
    is the one meant by the reference number (high, medium, low; None where the list itself says so).
    """

    authors: str
    year: int
    title: str
    venue: str
    source: str
    confidence: str | None = None

    def __str__(self) -> str:
        year = "" if str(self.year) in self.venue else f", {self.year}"
        title = self.title if self.title.endswith("?") else f"{self.title}."
        return f"{self.authors.rstrip('.')}. {title} {self.venue}{year}."


@dataclasses.dataclass(frozen=True)
class ReportedValue:
    """A value that the review prints for a method.

    metric: metric id. std: printed spread. unit: as printed. unit_inferred: what must be meant where the
    printed unit is missing or doubtful. condition: mask, organ or subset the value is for. dataset: its name.
    """

    metric: str
    value: float
    std: float | None = None
    unit: str | None = None
    unit_inferred: str | None = None
    condition: str | None = None
    dataset: str | None = None
    note: str | None = None

    @property
    def best_unit(self) -> str | None:
        """The inferred unit where there is one, else the printed one."""
        return self.unit_inferred or self.unit

    def in_words(self, *, with_dataset: bool = True) -> str:
        """`40.2 ± 4.07 dB (mask 30%; MICCAI Grand Challenge 2013)`."""
        spread = "" if self.std is None else f" ± {self.std:g}"
        unit = f" {self.best_unit}" if self.best_unit else ""
        where = "; ".join(part for part in (self.condition, self.dataset if with_dataset else None) if part)
        return f"{self.value:g}{spread}{unit}" + (f" ({where})" if where else "")

    def __str__(self) -> str:
        return f"{self.metric} {self.in_words()}"


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set that a method was trained and tested on; unclear sizes are the printed text."""

    name: str
    train: int | str | None = None
    test: int | str | None = None
    note: str | None = None

    def __str__(self) -> str:
        parts = {"train": self.train, "test": self.test}
        sizes = ", ".join(f"{part} {size}" for part, size in parts.items() if size is not None)
        return self.name + (f" ({sizes})" if sizes else "")


@dataclasses.dataclass(frozen=True)
class Metric:
    """A measure that the review lists or uses. kind: `computed` or a kind of human judgement."""

    id: str
    abbreviation: str
    name: str
    applications: tuple[str, ...]
    subjective: bool
    kind: str
    reported_by: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Inconsistency:
    """Something in the review that cannot be right as it is printed, and where."""

    where: str
    issue: str


@dataclasses.dataclass(frozen=True)
class Review:
    """The review itself."""

    title: str
    authors: str
    journal: str
    volume: int
    year: int
    article: str
    doi: str
    preprint: str

    def __str__(self) -> str:
        return f"{self.authors}. {self.title}. {self.journal} {self.volume} ({self.year}) {self.article}."


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the review: its number, its topic and the references of its rows."""

    table: int
    application: str
    topic: str
    rows: int
    methods: int
    refs: tuple[int, ...]


class _Row:
    """What base models and methods have in common."""

    @property
    def module(self) -> str:
        """Name of the experiment's module."""
        return f"experiments.{self.application}.{self.id}"

    @property
    def implemented(self) -> bool:
        """Whether the experiment's module exists; it is not imported."""
        try:
            return importlib.util.find_spec(self.module) is not None
        except ModuleNotFoundError:
            return False

    @property
    def place(self) -> str:
        """Where the review has this row, in words: `[83], reconstruction, table 12`."""
        reference = "no reference number" if self.ref is None else f"[{self.ref}]"
        where = f"section {self.section}" if self.table is None else f"table {self.table}"
        return f"{reference}, {self.application}, {where}"


@dataclasses.dataclass(frozen=True)
class BaseModel(_Row):
    """A GAN that the review's methods build on. used_by: reference numbers of those methods."""

    id: str
    name: str
    ref: int | None
    section: str
    citation: Citation
    used_by: tuple[int, ...]
    equations: tuple[str, ...] = ()
    inconsistencies: tuple[str, ...] = ()

    application = BASE
    table = None
    reported = ()
    datasets = ()


@dataclasses.dataclass(frozen=True)
class Method(_Row):
    """A reviewed method.

    table: None for a method that the review treats in its text alone. losses: as printed in the table, None
    where the table has no such column. losses_in_text: what the text adds. base_models: ids. inconsistencies:
    where the review contradicts itself, or the paper ("Against the paper").
    """

    id: str
    ref: int
    application: str
    subcategory: str
    table: int | None
    section: str
    review_name: str | None
    architecture: str | None
    base_models: tuple[str, ...]
    losses: tuple[str, ...] | None
    losses_in_text: tuple[str, ...]
    modality: str
    resolution: str | None
    datasets: tuple[DataSet, ...]
    reported: tuple[ReportedValue, ...]
    peer_reviewed: bool | None
    code_published: bool | None
    code_url: str | None
    citation: Citation
    inconsistencies: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The review's name for the method, or its id."""
        return self.review_name or self.id


Entry = BaseModel | Method


@functools.cache
def _facts() -> dict:
    file = importlib.resources.files("medgan_jax.review") / "catalogue.json"
    return json.loads(file.read_text(encoding="utf-8"))


def _record(cls, facts: Mapping, **made):
    """A record of type `cls` from plain facts; `made` holds the fields that are records themselves."""
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
    return cls(**{**plain, **made})


@functools.cache
def methods() -> tuple[Method, ...]:
    """The 82 methods, in the order of the review's applications."""
    return tuple(
        _record(
            Method,
            row,
            citation=Citation(**row["citation"]),
            datasets=tuple(DataSet(**dataset) for dataset in row["datasets"]),
            reported=tuple(ReportedValue(**value) for value in row["reported"]),
        )
        for row in _facts()["methods"]
    )


@functools.cache
def base_models() -> tuple[BaseModel, ...]:
    """The 15 base models: 9 of the review's section 3 and 6 that it uses elsewhere."""
    rows = _facts()["base_models"]
    return tuple(_record(BaseModel, row, citation=Citation(**row["citation"])) for row in rows)


@functools.cache
def metrics() -> tuple[Metric, ...]:
    """The 43 metrics that the review lists or uses."""
    return tuple(_record(Metric, row) for row in _facts()["metrics"])


@functools.cache
def tables() -> tuple[Table, ...]:
    """Tables 2 to 18 of the review."""
    return tuple(_record(Table, row) for row in _facts()["tables"])


@functools.cache
def inconsistencies() -> tuple[Inconsistency, ...]:
    """What the review itself gets wrong, beside what each row says of its own."""
    return tuple(_record(Inconsistency, row) for row in _facts()["inconsistencies"])


@functools.cache
def review() -> Review:
    """The review itself."""
    return Review(**_facts()["review"])


def entries() -> tuple[Entry, ...]:
    """All 97 rows: base models, then methods."""
    return (*base_models(), *methods())


def applications() -> tuple[str, ...]:
    """`base` and the review's applications, in its order."""
    return tuple(dict.fromkeys(entry.application for entry in entries()))


def find(id: str) -> Entry:
    """The row called `id`; UserError with the nearest ids and names where there is none."""
    by_id = {entry.id: entry for entry in entries()}
    if id in by_id:
        return by_id[id]
    raise UserError(f"no experiment is called {id!r}{nearest(id)}; see `python -m medgan_jax list`")


def nearest(id: str, count: int = 3) -> str:
    """`; the nearest are ...`, the ids whose id or review name is most like `id`; empty if none is alike."""
    spellings = {}
    for entry in entries():
        spellings.setdefault(entry.id.lower(), entry.id)
        spellings.setdefault(entry.name.lower().replace("-", "_").replace(" ", "_"), entry.id)
    asked = id.lower().replace("-", "_").replace(" ", "_").rsplit(".", 1)[-1].rsplit("/", 1)[-1]
    close = difflib.get_close_matches(asked, spellings, n=2 * count, cutoff=0.5)
    close += [spelling for spelling in spellings if len(asked) > 2 and asked in spelling]
    names = list(dict.fromkeys(spellings[spelling] for spelling in close))[:count]
    return f"; the nearest {'is' if len(names) == 1 else 'are'} {', '.join(names)}" if names else ""
