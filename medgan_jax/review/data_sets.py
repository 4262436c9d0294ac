"""The data sets that this package builds, those of the review, and a user's folder, for `data list`."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Sequence

from medgan_jax.data.catalogue import configurations, review_rows
from medgan_jax.data.needs import Needs, Offer, declared, fits
from medgan_jax.data.phantom_sets import DRAWN, KNOWN
from medgan_jax.data.public.layout import Field, PublicSet
from medgan_jax.data.public.registry import SETS
from medgan_jax.errors import UserError
from medgan_jax.review.catalogue import entries, methods


@dataclasses.dataclass(frozen=True)
class Row:
    """One data set that `tfds:NAME` or `tfds:NAME/CONFIGURATION` opens.

    tables: those of the review that use it. experiments: those that can be trained on it, by what they
    declare; sizes may have to be set. manual: what has to be done by hand before it can be prepared.
    """

    name: str
    configuration: str
    anatomy: str
    modality: str
    targets: tuple[str, ...]
    tables: tuple[int, ...]
    experiments: tuple[str, ...]
    manual: str = ""


@dataclasses.dataclass(frozen=True)
class ReviewSet:
    """A data set of the review's tables.

    name: as printed. tables: where. status: whether it can be had. set: the builder that reads it, or the
    nearest to it. stand_in: what else serves where it cannot be had.
    """

    name: str
    tables: tuple[int, ...]
    status: str
    set: str
    stand_in: tuple[str, ...]
    note: str


def available() -> list[Row]:
    """The data sets with a builder here, by configuration. TFDS' own can be prepared by their names, too."""
    kspace = Offer(frozenset({"image", "complex", "kspace", "sampling", "label"}), 2, 1)
    rows = [
        Row(
            name="mr_head_kspace",
            configuration="",
            anatomy="head, axial (phantom)",
            modality="MR, complex, with undersampled k-space",
            targets=("kspace", "sampling", "label"),
            tables=(),
            experiments=tuple(usable_by(kspace)),
        ),
        *(_phantom_row(function) for function in DRAWN),
    ]
    return rows + [_public_row(public, form) for public in SETS.values() for form in public.forms]


@functools.cache
def _declarations() -> dict[str, Needs]:
    """What each experiment that declares it takes, by id; experiments are read and not imported."""
    found = {entry.id: declared(entry.module) for entry in entries() if entry.implemented}
    return {id: needs for id, needs in found.items() if needs is not None}


def usable_by(offer: Offer) -> list[str]:
    """Ids of the experiments that take what a source offers, sizes aside."""
    return [id for id, needs in _declarations().items() if fits(needs, offer)]


def _phantom_row(function: str) -> Row:
    drawn = DRAWN[function]
    image = () if drawn.rank is None else ("image",)
    known = KNOWN[drawn.module]
    return Row(
        name="phantoms",
        configuration=f"{function}_...",
        anatomy=f"{known.anatomy} (phantom)",
        modality=known.modality,
        targets=drawn.targets,
        tables=(),
        experiments=tuple(usable_by(Offer(frozenset(image + drawn.targets), drawn.rank, drawn.channels))),
    )


def _public_row(public: PublicSet, form: str) -> Row:
    fields = public.fields(form)
    image = next((field for field in fields if field.name == "image"), None)
    offer = Offer(
        frozenset(field.name for field in fields if not field.optional or len(public.forms[form]) > 1),
        _rank(image or fields[0]),
        (image or fields[0]).shape[-1],
    )
    return Row(
        name=public.name,
        configuration=form,
        anatomy=public.anatomy,
        modality=public.modality,
        targets=tuple(field.name for field in fields if field.name != "image"),
        tables=_tables(public.name),
        experiments=tuple(usable_by(offer)),
        manual=f"{public.terms} {public.registration}".strip(),
    )


def _rank(field: Field) -> int:
    return len(field.shape) - 1


def review_sets() -> list[ReviewSet]:
    """Every data set that the review's tables name: whether it can be had, and what stands in if not."""
    tables: dict[str, set[int]] = {}
    for method in methods():
        for dataset in method.datasets:
            tables.setdefault(dataset.name, set()).update([method.table] if method.table else [])
    rows = {name: row for row in review_rows() for name in row["names"]}
    return [
        ReviewSet(
            name,
            tuple(sorted(tables[name])),
            rows[name]["status"],
            rows[name]["set"],
            tuple(rows[name]["stand_in"]),
            rows[name]["note"],
        )
        for name in tables
    ]


@functools.cache
def _tables(name: str) -> tuple[int, ...]:
    """Tables of the review that use a set of ours, or what stands nearest to it."""
    return tuple(sorted({table for row in review_sets() if row.set == name for table in row.tables}))


def describe(name: str) -> list[str]:
    """All that is known of one set: for a public one its licence and what to do by hand, step by step.

    Raises UserError for a name that no set here has.
    """
    if name in SETS:
        return _describe_public(SETS[name])
    if name == "phantoms":
        from medgan_jax.data.builders.phantoms import offers

        return [
            f"{form}: {', '.join(sorted(offer.fields))}" + _for_experiments(usable_by(offer))
            for form, offer in offers().items()
        ]
    if name == "mr_head_kspace":
        return [f"tfds:{name}/{form}" for form in configurations(name)]
    raise UserError(
        f"no data set here is called '{name}', and it is no folder; see `python -m medgan_jax data list`"
    )


def _describe_public(public: PublicSet) -> list[str]:
    lines = public.instructions.splitlines()
    lines += [f"Citation: {public.citation}", f"Notes: {public.notes}"]
    for form, parts in public.forms.items():
        lines.append(f"tfds:{public.name}" + (f"/{form}" if form else ""))
        for part in parts:
            count = "" if part.count is None else f", {part.count} cases"
            lines.append(f"  {part.split or 'train and test, by subject'}{count}:")
            for field in part.fields:
                optional = ", may be missing" if field.optional else ""
                lines.append(f"    {field.name}: {' or '.join(field.templates)}{optional}")
        users = _public_row(public, form).experiments
        lines.append(_for_experiments(users).strip() or "no experiment declares that it takes this")
    return lines


def _for_experiments(ids: Sequence[str]) -> str:
    return f" for {', '.join(ids)}" if ids else ""


@dataclasses.dataclass(frozen=True)
class FolderFacts:
    """What `--data.source FOLDER` opens: fields with their shapes, parts with records and subjects."""

    name: str
    fields: dict[str, str]
    parts: dict[str, dict[str, int]]
    class_names: tuple[str, ...]
    domains: tuple[str, ...]
    experiments: tuple[str, ...]


def folder(path: str | pathlib.Path) -> FolderFacts:
    """What a user's folder holds, after every file of it was checked; UserError as `open_folder` raises."""
    from medgan_jax.data.folders import SPLITS, open_domains, open_folder

    domains: tuple[str, ...] = ()
    with contextlib.suppress(UserError):
        domains = tuple(open_domains(path, split="train"))
    try:
        sources = {split: open_folder(path, split=split) for split in SPLITS}
    except UserError:
        if not domains:
            raise
        opened = {split: open_domains(path, split=split) for split in SPLITS}
        sources = {f"{split}, {name}": one for split, ones in opened.items() for name, one in ones.items()}
    first = next(iter(sources.values()))
    record = {name: value for name, value in first[0].items() if not isinstance(value, str)}
    shapes = {name: first.shapes(name) or [value.shape] for name, value in record.items()}
    image = record.get("image", next(iter(record.values())))
    offer = Offer(frozenset(record), image.ndim - 1, image.shape[-1], len(domains))
    return FolderFacts(
        name=first.name,
        fields={name: _range(found) for name, found in shapes.items()},
        parts={
            split: {"records": len(source), "subjects": len(set(source.subjects))}
            for split, source in sources.items()
        },
        class_names=first.class_names,
        domains=domains,
        experiments=tuple(usable_by(offer)),
    )


def _range(shapes: list[tuple[int, ...]]) -> str:
    """`480-512 x 512 x 1`."""
    sides = (
        [sorted(set(side)) for side in zip(*shapes, strict=True)] if len(set(map(len, shapes))) == 1 else []
    )
    words = [str(side[0]) if len(side) == 1 else f"{side[0]}-{side[-1]}" for side in sides]
    return " x ".join(words) or "a number"
