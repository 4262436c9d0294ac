"""The three parts of an experiment's data, training, validation and test, from what `--data.source` names.

Where it names nothing, phantoms are drawn. A phantom is a `functools.partial` of a function of a key with its
sizes as keywords: the keywords go into the fingerprint, and equal partials are compiled once.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from medgan_jax.data import transforms
from medgan_jax.data.distributions import MODES, ring_point
from medgan_jax.data.intensity import Affine, MinMax
from medgan_jax.data.sources import (
    SPLITS,
    PhantomSource,
    Source,
    cached,
    common_shape,
    joined,
    mapped,
    open_domains,
    open_source,
    ordered_pairs,
    subset,
)
from medgan_jax.errors import UserError
from medgan_jax.models.sizes import in_words
from medgan_jax.phantoms.head import Contrast, head_slice
from medgan_jax.phantoms.liver_lesions import LABELS, liver_lesion_patch
from medgan_jax.phantoms.torso import windowed

Draw = Callable[..., Mapping[str, jax.Array]]
Counts = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Parts:
    """Sources that share no subject."""

    train: Source
    validation: Source
    test: Source


def open_parts(
    source: str, phantom: Draw, *, name: str, counts: Counts, seed: int = 0, version: int = 1
) -> Parts:
    """Opens the parts of a folder or prepared set, or draws phantoms.

    phantom: key -> record. name: of this phantom with its parameters; version: to be raised when it draws
    other images. counts: phantoms for training, validation and test. The seed of the phantoms is fixed, so
    that all seeds of an experiment see the same subjects.
    """

    def draw(split: str) -> Source:
        return PhantomSource(name, phantom, counts[SPLITS.index(split)], seed, split=split, version=version)

    return Parts(*(open_source(source, split=split, phantom=draw) for split in SPLITS))


def open_heads(
    source: str,
    *,
    size: int,
    counts: Counts,
    contrast: Contrast = "t1",
    channels: int = 1,
    magnitude: bool = False,
) -> Parts:
    """Checked parts with an `image` of sides `size`: what `source` names, or magnitudes of head phantoms.

    magnitude: refuse images with negative values.
    """
    phantom = functools.partial(_head, size=size, contrast=contrast)
    parts = open_parts(source, phantom, name=f"head_{contrast}_{size}", counts=counts)
    require_image(parts, channels=channels, size=size)
    if magnitude:
        require_magnitude(parts)
    return parts


def _head(key: jax.Array, size: int, contrast: Contrast) -> dict[str, jax.Array]:
    return {"image": head_slice(key, size, contrast=contrast)["image"]}


def open_ring(source: str, *, counts: Counts, classes: int = MODES) -> Parts:
    """Parts with a `point` and its `label`, of the ring of Gaussians, which no folder holds."""
    if source != "phantom":
        raise UserError(f"data source '{source}': the ring is drawn, not read; say --config.form image")
    if classes != MODES:
        raise UserError(f"the ring has {MODES} classes, not {classes}: say --config.classes {MODES}")
    return open_parts(source, ring_point, name=f"ring_{MODES}", counts=counts)


def open_lesions(source: str, *, size: int, classes: int, counts: Counts) -> Parts:
    """Checked parts with an `image` of sides `size` and its class, a `label` from 0 to `classes` - 1.

    What `source` names, or phantom liver lesions, which are of three classes, each as likely as the others.
    """
    if source == "phantom" and classes != len(LABELS):
        raise UserError(f"phantom lesions have {len(LABELS)} classes, not {classes}: say --config.classes 3")
    phantom = functools.partial(_lesion, size=size)
    parts = open_parts(source, phantom, name=f"liver_lesion_{size}", counts=counts)
    require_image(parts, channels=1, size=size)
    for part in (parts.train, parts.validation, parts.test):
        _require_classes(part, classes)
    return parts


def _lesion(key: jax.Array, size: int) -> dict[str, jax.Array]:
    which, key = jax.random.split(key)
    drawn = liver_lesion_patch(key, jax.random.randint(which, (), 0, len(LABELS)), size)
    return {"image": windowed(drawn["image"], 85, 250), "label": drawn["label"]}


def _require_classes(part: Source, classes: int) -> None:
    """UserError unless every record has a class below `classes`; those of phantoms are known."""
    if isinstance(part, PhantomSource):
        return
    if "label" not in part[0] or np.ndim(part[0]["label"]) > 0:
        raise UserError(f"'{part.name}' has no class for each image: give it a table with a column 'label'")
    labels = {int(part[index]["label"]) for index in range(len(part))}
    if not labels <= set(range(classes)):
        raise UserError(
            f"'{part.name}' has the classes {', '.join(map(str, sorted(labels)))}, and the experiment is set to "
            f"{classes}, numbered from 0: say --config.classes {max(labels) + 1}"
        )


def open_detection_parts(
    source: str, phantom: functools.partial, *, name: str, counts: Counts, seed: int = 0, version: int = 1
) -> Parts:
    """Healthy cases to train on; healthy and anomalous ones, with their `mask`, for validation and test.

    phantom: (key, anomalous) -> record; half of the validation and test phantoms are anomalous. In a folder
    the training cases are those whose mask is empty.
    """
    healthy = functools.partial(phantom, anomalous=False)
    mixed = functools.partial(_healthy_or_not, phantom.func, **phantom.keywords)

    def draw(split: str) -> Source:
        count, record = counts[SPLITS.index(split)], healthy if split == "train" else mixed
        return PhantomSource(name, record, count, seed, split=split, version=version)

    parts = Parts(*(open_source(source, split=split, phantom=draw) for split in SPLITS))
    if source == "phantom":
        return parts
    if "mask" not in parts.train[0]:
        raise UserError(f"'{parts.train.name}' has no masks, which tell the healthy cases from the others")
    empty = [index for index in range(len(parts.train)) if not parts.train[index]["mask"].any()]
    if not empty:
        raise UserError(f"'{parts.train.name}' has no training case with an empty mask: none is healthy")
    return dataclasses.replace(parts, train=subset(parts.train, empty))


def _healthy_or_not(draw: Draw, key: jax.Array, **options) -> Mapping[str, jax.Array]:
    choice, key = jax.random.split(key)
    return draw(key, anomalous=jax.random.bernoulli(choice), **options)


def open_pairs(
    source: str, phantom: Draw, *, shape: tuple[int, ...], name: str, counts: Counts, held: int = 120
) -> Parts:
    """Checked parts whose records are a `moving` and a `fixed` image of sides `shape`, for registration.

    phantom: key -> record of a pair. The subjects of a folder, with an `image` and perhaps a `mask` of labels,
    are padded to `shape` and paired in every order within their part; `held` pairs of the validation part,
    and as many of the test part, evenly spread over it, are kept.
    """
    parts = open_parts(source, phantom, name=name, counts=counts)
    if source != "phantom":
        padded = functools.partial(transforms.pad, size=shape)
        paired = [
            ordered_pairs(cached(mapped(part, padded)), ("moving", "fixed"))
            for part in (parts.train, parts.validation, parts.test)
        ]
        parts = Parts(paired[0], *(subset(pairs, _evenly(len(pairs), held)) for pairs in paired[1:]))
    for part in (parts.train, parts.validation, parts.test):
        for field in ("moving", "fixed"):
            _require(part, field, 1, shape)
    return parts


def _evenly(count: int, most: int) -> list[int]:
    """At most `most` whole numbers below `count`, evenly spread."""
    return sorted({index * count // min(count, most) for index in range(min(count, most))})


@dataclasses.dataclass(frozen=True)
class DomainParts:
    """Domains without pairs in training; `paired` says whether validation and test cases are pairs."""

    train: Mapping[str, Source]
    validation: Source
    test: Source
    paired: bool


def open_domain_parts(
    source: str,
    phantom: functools.partial,
    domains: Sequence[str],
    *,
    name: str,
    counts: Counts,
    seed: int = 0,
    version: int = 1,
) -> DomainParts:
    """Opens unpaired domains: the first folders of `source` in order of names, or phantoms by domain.

    phantom: (key, domain) -> record with an `image`, and perhaps fields that no domain changes, such as a
    `label`. The phantoms of different domains are different subjects in training. Validation and test phantoms
    are drawn in every domain from the same subject, so that a translation has a truth to be compared with;
    folders have none.
    """
    if source != "phantom":
        return _folder_domains(source, tuple(domains))
    together = functools.partial(_every_domain, phantom.func, tuple(domains), **phantom.keywords)
    train = {
        domain: PhantomSource(
            f"{name}_{domain}",
            functools.partial(phantom, domain=domain),
            counts[0],
            seed + number,
            version=version,
        )
        for number, domain in enumerate(domains)
    }
    held = [
        PhantomSource(name, together, count, seed, split=split, version=version)
        for split, count in zip(SPLITS[1:], counts[1:], strict=True)
    ]
    return DomainParts(train, *held, paired=True)


def _every_domain(draw: Draw, domains: tuple[str, ...], key: jax.Array, **options) -> dict[str, jax.Array]:
    drawn = {domain: draw(key, domain=domain, **options) for domain in domains}
    # What several domains have, such as the labels of the subject, is the first one's.
    shared = {field: value for record in reversed(drawn.values()) for field, value in record.items()}
    shared.pop("image")
    return {domain: record["image"] for domain, record in drawn.items()} | shared


def _folder_domains(source: str, names: tuple[str, ...]) -> DomainParts:
    if source.startswith("tfds:"):
        raise UserError(f"data source '{source}': unpaired domains are read from folders; name one")
    opened = {}
    for split in SPLITS:
        domains = open_domains(source, split=split)
        if len(domains) < len(names):
            found = ", ".join(domains) or "none"
            raise UserError(f"'{source}' has domains {found} for {split}; this experiment needs {len(names)}")
        opened[split] = dict(zip(names, domains.values(), strict=False))
    return DomainParts(opened["train"], joined(opened["validation"]), joined(opened["test"]), paired=False)


def require_volumes(parts: Parts, *, channels: int, least: int, fields: Sequence[str] = ("image",)) -> None:
    """UserError unless `fields` are, in every record, volumes of one shape whose sides are `least` or more."""
    for part in (parts.train, parts.validation, parts.test):
        for field in fields:
            shape = _shape(part, field)
            if len(shape) != 4 or shape[-1] != channels or min(shape[:-1]) < least:
                raise UserError(
                    f"'{part.name}' has '{field}' of shape {shape}; this experiment takes volumes "
                    f"(D, H, W, {channels}) with sides of at least {least}"
                )


def require_image(parts: Parts, *, channels: int, size: int, rank: int = 2, field: str = "image") -> None:
    """UserError unless `field` is, in every record, an image with `channels` and `rank` sides of `size`."""
    for part in (parts.train, parts.validation, parts.test):
        _require(part, field, channels, (size,) * rank)


def require_domains(parts: DomainParts, *, channels: int, size: int, rank: int = 2) -> None:
    """`require_image` for every domain."""
    for domain, train in parts.train.items():
        _require(train, "image", channels, (size,) * rank)
        for held in (parts.validation, parts.test):
            _require(held, domain, channels, (size,) * rank)


def _require(part: Source, field: str, channels: int, sides: tuple[int, ...]) -> None:
    shape = _shape(part, field)
    if len(shape) != len(sides) + 1:
        kind = "volumes (D, H, W, C)" if len(sides) == 3 else "images (H, W, C)"
        raise UserError(f"'{part.name}' has '{field}' of shape {shape}; this experiment takes {kind}")
    if shape[-1] != channels:
        raise UserError(
            f"'{part.name}' has '{field}' with {shape[-1]} channels; this experiment takes {channels}"
        )
    if shape[:-1] != sides:
        same = len(set(shape[:-1])) == 1
        mend = f"say --config.size {shape[0]}" if same else "crop or pad them to equal sides"
        raise UserError(
            f"'{part.name}' has '{field}' of {in_words(shape[:-1])}, and the experiment is set to "
            f"{in_words(sides)}: {mend}"
        )


def _shape(part: Source, field: str) -> tuple[int, ...]:
    """The one shape that `field` has in every record; UserError where there is none, or no such field."""
    first = part.blank()[0]
    if field not in first:
        present = ", ".join(name for name, value in first.items() if not isinstance(value, str))
        raise UserError(f"'{part.name}' has no '{field}' for this experiment; its records have {present}")
    # Phantoms are of one size, and drawing all of them would take long.
    return first[field].shape if isinstance(part, PhantomSource) else common_shape(part, field)


def require_magnitude(parts: Parts, field: str = "image") -> None:
    """UserError if `field` is negative anywhere: magnitudes of a complex signal are not."""
    for part in (parts.train, parts.validation, parts.test):
        low, _ = value_range(part, field)
        if low < 0:
            raise UserError(
                f"'{part.name}' has '{field}' down to {low:g}; this experiment takes magnitudes, 0 and more"
            )


def value_range(source: Source, field: str = "image") -> tuple[float, float]:
    """Smallest and largest value of `field` over all records; phantoms are drawn in [0, 1]."""
    if isinstance(source, PhantomSource):
        return 0.0, 1.0
    images = (source[index][field] for index in range(len(source)))
    ends = [(float(image.min()), float(image.max())) for image in images]
    return min(low for low, _ in ends), max(high for _, high in ends)


def symmetric_range(source: Source, field: str = "image", to: tuple[float, float] = (-1, 1)) -> MinMax:
    """The map of the range of `field` over all records onto `to`; UserError if all is one value."""
    low, high = value_range(source, field)
    if low == high:
        raise UserError(f"every '{field}' of '{source.name}' is {low:g}: there is nothing to learn")
    return MinMax(low, high, "input", to)


def joint_range(sources: Sequence[Source], field: str = "image") -> Affine:
    """The map of the range of `field` over all records of all `sources` onto [-1, 1]; it cuts nothing off."""
    lows, highs = zip(*(value_range(source, field) for source in sources), strict=True)
    scale = 2 / (max(highs) - min(lows))
    return Affine(scale, -1 - scale * min(lows), "input")


def unit_range(source: Source, field: str = "image") -> MinMax:
    """The map of the range of `field` over all records onto [0, 1]; UserError if all is one value."""
    return symmetric_range(source, field, (0, 1))


def largest_is_one(source: Source, field: str = "image") -> Affine:
    """The map that divides by the largest value of `field` over all records; 0 stays 0, and so do empty images."""
    return Affine(1 / (value_range(source, field)[1] or 1.0), 0.0, "input")


def magnitude_range(image: np.ndarray) -> MinMax:
    """The map of 0 and the largest value of one magnitude image onto -1 and 1; an empty image lands on -1."""
    return MinMax(0.0, float(image.max()) or 1.0, "input", (-1, 1))


def largest_of_image(image: np.ndarray) -> Affine:
    """The map of one magnitude image that divides it by its largest value; an empty image stays as it is."""
    return Affine(1 / (float(image.max()) or 1.0), 0.0, "input")


def standard_range(image: np.ndarray) -> Affine:
    """The map of one image to mean 0 and deviation 1; an image of one value lands on 0."""
    deviation = float(image.std()) or 1.0
    return Affine(1 / deviation, -float(image.mean()) / deviation, "input")
