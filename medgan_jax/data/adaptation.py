"""Data for domain adaptation: cases with labels of one domain, and of another, whose labels are for tests."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.data import parts
from medgan_jax.data.bags import bags
from medgan_jax.data.intensity import MinMax
from medgan_jax.data.parts import Counts, Parts
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.sources import SPLITS, PhantomSource, Source, common_shape, mapped, open_domains
from medgan_jax.errors import UserError
from medgan_jax.phantoms.tissue import FIELD_UM, tissue_patch
from medgan_jax.physics import staining

DOMAINS = ("A", "B")


@dataclasses.dataclass(frozen=True)
class AdaptationParts:
    """Parts of the source domain, which has labels, and of the target domain, whose test part has them."""

    source: Parts
    target: Parts


def open_adaptation_parts(
    source: str,
    phantom: functools.partial,
    *,
    name: str,
    counts: Counts,
    classes: int,
    shape: tuple[int, ...],
    arranged: Callable[[Source], Source] = lambda source: source,
    seed: int = 0,
    version: int = 1,
) -> AdaptationParts:
    """The first two domains of a folder in order of names, source and target, or phantoms of both.

    phantom: (key, domain), domain 'A' or 'B' -> record with `image` and class `label`; the domains are of
    different subjects. arranged: applied to each part of a folder, such as `data.bags.bags`. shape: of every
    image. UserError where an image has another, where labels that are needed are missing, or where the
    domains have other classes.
    """
    if source == "phantom":
        both = (_phantoms(phantom, name, domain, counts, seed, version) for domain in DOMAINS)
        return _checked(AdaptationParts(*both), shape)
    if source.startswith("tfds:"):
        raise UserError(f"data source '{source}': domains are read from folders; name one")
    opened = [open_domains(source, split=split) for split in SPLITS]
    found = sorted(set.intersection(*(set(part) for part in opened)))
    if len(found) < 2:
        raise UserError(
            f"'{source}' has {', '.join(found) or 'no domain'} for training and test; adaptation needs two"
        )
    first, second = (Parts(*(arranged(part[domain]) for part in opened)) for domain in found[:2])
    for part in (first.train, first.validation, first.test, second.test):
        _require_classes(part, classes)
    if first.train.class_names != second.test.class_names:
        raise UserError(
            f"'{source}': {found[0]} has the classes {', '.join(first.train.class_names)} and {found[1]} "
            f"{', '.join(second.test.class_names)}; a class needs the same name in both"
        )
    return _checked(AdaptationParts(first, second), shape)


def open_patches(
    source: str,
    *,
    size: int,
    channels: int,
    classes: int,
    counts: Counts,
    field: float = FIELD_UM,
    slides: int | None = None,
) -> AdaptationParts:
    """Images (size, size, channels) of two domains, and `label`, below `classes`.

    From the first two domains of a folder, or of phantom tissue of low and high grade, in colour, by two
    laboratories, `field` micrometres wide. slides: how many stains each laboratory has, which its patches
    share in training, validation and test; None for one of its own for every patch.
    """
    draw = functools.partial(_patch, size=size, field=field, slides=slides)
    return open_adaptation_parts(
        source, draw, name=f"tissue_{size}", counts=counts, classes=classes, shape=(size, size, channels)
    )


def _patch(key: jax.Array, domain: str, size: int, field: float, slides: int | None) -> dict[str, jax.Array]:
    grade = jax.random.bernoulli(jax.random.fold_in(key, 3)).astype(jnp.int32)
    slide = None
    if slides is not None:
        laboratory = jax.random.key(DOMAINS.index(domain))
        number = jax.random.randint(jax.random.fold_in(key, 4), (), 0, slides)
        slide = jax.random.fold_in(laboratory, number)
    patch = tissue_patch(key, size, scanner=domain, malignant=grade, field=field, slide=slide)
    return {"image": patch["image"], "label": grade}


def open_slides(source: str, *, size: int, bag: int, counts: Counts) -> AdaptationParts:
    """Slides of two laboratories in bags: `image` (bag, size, size, 3), and `label`, low or high grade.

    From the first two domains of a folder, or of phantom tissue: a bag is patches of one slide and one grade.
    """
    return open_adaptation_parts(
        source, functools.partial(_slide, size=size, bag=bag), classes=2, name=f"tissue_slides_{size}",
        counts=counts, shape=(bag, size, size, 3), arranged=lambda part: bags(part, bag),
    )  # fmt: skip


def slides_of_two_laboratories(
    source: str, batch_size: int, *, size: int, bag: int, counts: Counts
) -> tuple[Data, Data, MinMax]:
    """`open_slides` in batches of slides: the source's, both, and the map of the source's range onto [-1, 1].

    Of the source come `image` and `label`, of the `target`, beside the `source`, images alone. The test is on
    the target, with `normalised`: see `with_reinhard`.
    """
    slides = open_slides(source, size=size, bag=bag, counts=counts)
    known = Stream(slides.source.train, batch_size, fields=("image", "label"))
    streams = {"source": known, "target": Stream(slides.target.train, batch_size, fields=("image",))}
    test = with_reinhard(slides.target.test, slides.source.train)
    both = Data(streams, test=test, fields=("image", "label", "normalised"))
    return Data(known), both, parts.symmetric_range(slides.source.train)


def _slide(key: jax.Array, domain: str, size: int, bag: int) -> dict[str, jax.Array]:
    slide, high = jax.random.fold_in(key, 1), jax.random.bernoulli(jax.random.fold_in(key, 2))
    draw = functools.partial(tissue_patch, size=size, scanner=domain, malignant=high, slide=slide)
    images = jax.vmap(lambda key: draw(key)["image"])(jax.random.split(key, bag))
    return {"image": images, "label": high.astype(jnp.int32)}


def with_reinhard(cases: Source, like: Source, images: int = 8) -> Source:
    """`cases` with `normalised`: their `image` in the colours of the first `images` records of `like`.

    After Reinhard, in the units of the file. An image is (H, W, 3), or a bag (P, H, W, 3), taken as one.
    """

    @functools.cache
    def known():
        unit = parts.unit_range(like)
        rows = [_rows(like[index]["image"]) for index in range(min(images, len(like)))]
        return unit, unit.forward(np.concatenate(rows))

    def normalise(record):
        image, (unit, reference) = record["image"], known()
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            moved = np.asarray(_reinhard(unit.forward(_rows(image)), reference))
        return {**record, "normalised": unit.inverse(moved).reshape(image.shape)}

    return mapped(cases, normalise)


_reinhard = jax.jit(staining.reinhard)


def _rows(image: np.ndarray) -> np.ndarray:
    """An image, or the images of a bag below one another, (H, W, 3)."""
    return image.reshape(-1, *image.shape[-2:])


def _checked(domains: AdaptationParts, shape: tuple[int, ...]) -> AdaptationParts:
    for part in (domains.source, domains.target):
        for each in (part.train, part.validation, part.test):
            found = common_shape(each.blank())
            if found != shape:
                raise UserError(f"'{each.name}' has images {found}, and this experiment is set to {shape}")
    return domains


def _phantoms(phantom, name: str, domain: str, counts: Counts, seed: int, version: int) -> Parts:
    draw = functools.partial(phantom, domain=domain)
    own = seed + DOMAINS.index(domain)
    drawn = (
        PhantomSource(f"{name}_{domain}", draw, count, own, split=split, version=version)
        for split, count in zip(SPLITS, counts, strict=True)
    )
    return Parts(*drawn)


def _require_classes(part: Source, classes: int) -> None:
    """UserError unless each record has a class below `classes`."""
    if "label" not in part[0] or np.ndim(part[0]["label"]):
        raise UserError(f"'{part.name}' has no class for each record: give it a table with a column 'label'")
    highest = max(int(part[index]["label"]) for index in range(len(part)))
    if highest >= classes:
        raise UserError(f"'{part.name}' has {highest + 1} classes, and this experiment is set to {classes}")
