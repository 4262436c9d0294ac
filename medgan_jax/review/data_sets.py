"""The data sets that this package builds, those of the review, and a user's folder, for `data list`."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from medgan_jax.arguments import nearest
from medgan_jax.data.about import about
from medgan_jax.data.catalogue import configurations, review_rows
from medgan_jax.data.needs import Declaration, Offer, declaration, fits, instead
from medgan_jax.data.phantom_sets import DRAWN, KNOWN, phantom_sets
from medgan_jax.data.public.layout import Field, PublicSet
from medgan_jax.data.public.registry import SETS
from medgan_jax.data.records import Source
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
def _declarations() -> dict[str, Declaration]:
    """What each experiment that declares it takes, by id; experiments are read and not imported."""
    found = {entry.id: declaration(entry.module, entry.application) for entry in entries() if entry.implemented}
    return {id: one for id, one in found.items() if one is not None}


def usable_by(*offers: Offer) -> list[str]:
    """Ids of the experiments that take what a source offers, in one of these ways, sizes aside."""
    return [id for id, one in _declarations().items() if fits(one, offers)]


def _phantom_row(function: str) -> Row:
    drawn = DRAWN[function]
    image = () if drawn.rank is None else ("image",)
    known = KNOWN[drawn.module]
    offer = Offer(frozenset(image + drawn.targets), drawn.rank, drawn.channels, maps=drawn.maps)
    return Row(
        name="phantoms",
        configuration=f"{function}_...",
        anatomy=f"{known.anatomy} (phantom)",
        modality=known.modality,
        targets=drawn.targets,
        tables=(),
        experiments=tuple(usable_by(offer)),
    )


def _public_row(public: PublicSet, form: str) -> Row:
    fields = public.fields(form)
    image = next((field for field in fields if field.name == "image"), None)
    offer = Offer(
        frozenset(field.name for field in fields if not field.optional or len(public.forms[form]) > 1),
        _rank(image or fields[0]),
        (image or fields[0]).shape[-1],
        maps=frozenset(field.name for field in fields if image and field is not image and _on_grid(field, image)),
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


def _on_grid(field: Field, image: Field) -> bool:
    return _rank(field) == _rank(image) and np.dtype(field.dtype).kind in "iub"


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

    `phantoms/CONFIGURATION` and `phantoms/MODULE` are those phantoms alone. Raises UserError for a name that
    no set here has.
    """
    if name in SETS:
        return _describe_public(SETS[name])
    set_name, _, part = name.partition("/")
    if set_name == "phantoms":
        return _describe_phantoms(part)
    if name == "mr_head_kspace":
        return [f"tfds:{name}/{form}" for form in configurations(name)]
    raise UserError(
        f"no data set here is called '{name}', and it is no folder; see `python -m medgan_jax data list`"
    )


def _describe_phantoms(part: str) -> list[str]:
    from medgan_jax.data.builders.phantoms import offers

    chosen = [form for form, one in phantom_sets().items() if part in ("", form, one.module)]
    if not chosen:
        hint = nearest(part, phantom_sets())
        raise UserError(f"no phantom is called '{part}'{hint}; see `python -m medgan_jax data list phantoms`")
    lines = []
    for form, offer in offers(chosen).items():
        known = phantom_sets()[form].known
        shown = f"{known.anatomy}; {known.modality}; {', '.join(sorted(offer.fields))}"
        lines.append(f"{form}: {shown}{_for_experiments(usable_by(offer))}")
    return lines


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
    """What `--data.source FOLDER` opens: fields with their shapes, parts with records and subjects.

    anatomy, modality: see `data.about`. experiments: those that can be trained on it as it is; otherwise: by
    experiment what has to be said or renamed for one of `maps` to serve it; sizes aside. alike: whether images
    are of one size and number of channels, and those in two dimensions square. planned: what `reproduce real`
    runs on a set of this name, with its options.
    """

    name: str
    anatomy: str
    modality: str
    fields: dict[str, str]
    parts: dict[str, dict[str, int]]
    class_names: tuple[str, ...]
    domains: tuple[str, ...]
    experiments: tuple[str, ...]
    otherwise: dict[str, str]
    maps: tuple[str, ...]
    alike: bool
    planned: dict[str, str]


def folder(path: str | pathlib.Path) -> FolderFacts:
    """What a user's folder holds, after every file of it was checked; UserError as `open_folder` raises."""
    sources, whole, domains = _opened(path)
    first = next(iter(sources.values()))
    record = _arrays(first)
    shapes = {name: first.shapes(name) or [value.shape] for name, value in record.items()}
    offer = None if whole is None else _offer(whole)
    offers = [one for one in (offer, _domain_offer(domains)) if one is not None]
    stated = about(path, _image(record), _file(whole or first))
    return FolderFacts(
        name=first.name,
        anatomy=stated.anatomy,
        modality=stated.modality,
        fields={name: _range(found) for name, found in shapes.items()},
        parts={
            split: {"records": len(source), "subjects": len(set(source.subjects))}
            for split, source in sources.items()
        },
        class_names=first.class_names,
        domains=tuple(domains),
        experiments=tuple(usable_by(*offers)),
        otherwise={} if offer is None else _with_other_names(offer),
        maps=() if offer is None else tuple(sorted(offer.maps)),
        alike=_alike([whole] if domains == {} else list(domains.values())),
        planned=_planned(pathlib.Path(path).expanduser().resolve().name),
    )


def _opened(path: str | pathlib.Path) -> tuple[dict[str, Source], Source | None, dict[str, Source]]:
    """The parts of a folder, the training part if its files make records, and its domains if it has any.

    Images beside targets are no domains, though each lies in a folder.
    """
    from medgan_jax.data.folders import SPLITS, open_domains, open_folder

    domains: dict[str, Source] = {}
    try:
        sources = {split: open_folder(path, split=split) for split in SPLITS}
    except UserError:
        with contextlib.suppress(UserError):
            domains = open_domains(path, split="train")
        if not domains:
            raise
        opened = {split: open_domains(path, split=split) for split in SPLITS}
        parts = {f"{split}, {name}": one for split, ones in opened.items() for name, one in ones.items()}
        return parts, None, domains
    if "image" not in sources["train"][0] or "domain" in sources["train"].metadata[0]:
        with contextlib.suppress(UserError):
            domains = open_domains(path, split="train")
    return sources, sources["train"], domains


def _arrays(source: Source) -> dict[str, np.ndarray]:
    return {name: value for name, value in source[0].items() if not isinstance(value, str)}


def _image(record: Mapping[str, np.ndarray]) -> np.ndarray:
    """The image of a record; of paired domains, which have no 'image', the first."""
    return record.get("image", next(iter(record.values())))


def _file(source: Source) -> pathlib.Path | None:
    """The file of the first image, if it has one of its own."""
    return source.path(0) if hasattr(source, "path") and "image" in source[0] else None


def _offer(source: Source) -> Offer:
    """What a training part has."""
    record = _arrays(source)
    image, shapes = _image(record), source.shapes("image") or [_image(record).shape]
    maps = {
        name
        for name, value in record.items()
        if value.dtype.kind in "iub" and value.ndim == image.ndim and value.shape[:-1] == image.shape[:-1]
    }
    healthy = any(not source[index]["mask"].any() for index in range(len(source))) if "mask" in maps else None
    ranks, channels = {len(shape) - 1 for shape in shapes}, {shape[-1] for shape in shapes}
    return Offer(
        frozenset(record), _only(ranks), _only(channels), maps=frozenset(maps), healthy=healthy
    )


def _domain_offer(domains: Mapping[str, Source]) -> Offer | None:
    """What unpaired domains have in common."""
    if not domains:
        return None
    offers = [_offer(source) for source in domains.values()]
    return Offer(
        frozenset.intersection(*(offer.fields for offer in offers)),
        _only({offer.rank for offer in offers}),
        _only({offer.channels for offer in offers}),
        len(offers),
        frozenset.union(*(offer.maps for offer in offers)),
    )


def _alike(sources: Sequence[Source]) -> bool:
    """Whether images are of one size and number of channels, and those in two dimensions square."""
    shapes = {shape for source in sources for shape in source.shapes("image") or [_image(_arrays(source)).shape]}
    height, width, *_ = first = min(shapes)
    return len(shapes) == 1 and (len(first) == 4 or height == width)


def _only(values: set[int]) -> int:
    """The one value; 0 where there are several."""
    return min(values) if len(values) == 1 else 0


def _with_other_names(offer: Offer) -> dict[str, str]:
    found = {id: instead(one, offer) for id, one in _declarations().items()}
    return {id: how for id, how in found.items() if how}


def _planned(name: str) -> dict[str, str]:
    """The plans of `reproduce real` for a set: their options, or that they need another folder made of it."""
    # They bring JAX with them, which lists do without.
    from medgan_jax.review.real.plans import PLANS

    return {
        plan.id: f"on {plan.derived}, which it makes of the set" if plan.derived else " ".join(plan.options("paper"))
        for plan in PLANS
        if plan.set == name
    }


def _range(shapes: list[tuple[int, ...]]) -> str:
    """`480-512 x 512 x 1`."""
    sides = (
        [sorted(set(side)) for side in zip(*shapes, strict=True)] if len(set(map(len, shapes))) == 1 else []
    )
    words = [str(side[0]) if len(side) == 1 else f"{side[0]}-{side[-1]}" for side in sides]
    return " x ".join(words) or "a number"
