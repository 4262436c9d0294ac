"""The three parts of an experiment's data, training, validation and test, from what `--data.source` names."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from medgan_jax.data.sources import PhantomSource, Source, common_shape, joined, open_domains, open_source, subset
from medgan_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Parts:
    """Sources that share no subject."""

    train: Source
    validation: Source
    test: Source


def open_parts(
    source: str,
    phantom: Callable[[jax.Array], Mapping[str, jax.Array]],
    *,
    name: str,
    counts: tuple[int, int, int],
    seed: int = 0,
    version: int = 1,
) -> Parts:
    """Opens the parts of a folder or prepared set, or draws phantoms.

    phantom: key -> record. name: of this phantom with its parameters; version: to be raised when it draws other
    images. counts: phantoms for training, validation and test. The seed of the phantoms is fixed, so that all
    seeds of an experiment see the same subjects.
    """

    def draw(split: str) -> Source:
        count = dict(zip(("train", "validation", "test"), counts, strict=True))[split]
        return PhantomSource(name, phantom, count, seed, split=split, version=version)

    return Parts(*(open_source(source, split=split, phantom=draw) for split in ("train", "validation", "test")))


def open_detection_parts(
    source: str,
    phantom: Callable[[jax.Array, Any], Mapping[str, jax.Array]],
    *,
    name: str,
    counts: tuple[int, int, int],
    seed: int = 0,
    version: int = 1,
) -> Parts:
    """Healthy cases to train on; healthy and anomalous ones, with their `mask`, for validation and test.

    phantom: (key, anomalous) -> record; half of the validation and test phantoms are anomalous. In a folder the
    training cases are those whose mask is empty.
    """

    def mixed(key: jax.Array) -> Mapping[str, jax.Array]:
        choice, key = jax.random.split(key)
        return phantom(key, jax.random.bernoulli(choice))

    def healthy(key: jax.Array) -> Mapping[str, jax.Array]:
        return phantom(key, False)

    def draw(split: str) -> Source:
        count = dict(zip(("train", "validation", "test"), counts, strict=True))[split]
        record = healthy if split == "train" else mixed
        return PhantomSource(name, record, count, seed, split=split, version=version)

    parts = Parts(*(open_source(source, split=split, phantom=draw) for split in ("train", "validation", "test")))
    if source == "phantom":
        return parts
    if "mask" not in parts.train[0]:
        raise UserError(f"'{parts.train.name}' has no masks, which tell the healthy cases from the others")
    empty = [index for index in range(len(parts.train)) if not parts.train[index]["mask"].any()]
    if not empty:
        raise UserError(f"'{parts.train.name}' has no training case with an empty mask: none is healthy")
    return dataclasses.replace(parts, train=subset(parts.train, empty))


@dataclasses.dataclass(frozen=True)
class DomainParts:
    """Two or more domains without pairs for training; `paired` says whether validation and test cases are pairs."""

    train: Mapping[str, Source]
    validation: Source
    test: Source
    paired: bool


def open_domain_parts(
    source: str,
    phantoms: Mapping[str, Callable[[jax.Array], Mapping[str, jax.Array]]],
    *,
    name: str,
    counts: tuple[int, int, int],
    channels: int,
    seed: int = 0,
    version: int = 1,
) -> DomainParts:
    """Opens unpaired domains: the first folders of `source` in order of names, or phantoms by domain.

    The phantoms of different domains are different subjects in training. Validation and test phantoms are drawn in
    every domain from the same subject, so that a translation has a truth to be compared with; folders have none.
    """
    if source != "phantom":
        return _folder_domains(source, tuple(phantoms), channels)

    def all_domains(key: jax.Array) -> dict[str, jax.Array]:
        return {domain: draw(key)["image"] for domain, draw in phantoms.items()}

    train = {
        domain: PhantomSource(f"{name}_{domain}", draw, counts[0], seed + number, version=version)
        for number, (domain, draw) in enumerate(phantoms.items())
    }
    held = [
        PhantomSource(name, all_domains, count, seed, split=split, version=version)
        for split, count in zip(("validation", "test"), counts[1:], strict=True)
    ]
    return DomainParts(train, *held, paired=True)


def _folder_domains(source: str, names: tuple[str, ...], channels: int) -> DomainParts:
    if source.startswith("tfds:"):
        raise UserError(f"data source '{source}': unpaired domains are read from folders; name one")
    opened = {}
    for split in ("train", "validation", "test"):
        domains = open_domains(source, split=split)
        if len(domains) < len(names):
            found = ", ".join(domains) or "none"
            raise UserError(f"'{source}' has domains {found} for {split}; this experiment needs {len(names)}")
        opened[split] = dict(zip(names, domains.values(), strict=False))
    for part in (source for sources in opened.values() for source in sources.values()):
        shape = common_shape(part)
        if shape[-1] != channels:
            raise UserError(f"'{part.name}' has images with {shape[-1]} channels; set config.channels to it")
    return DomainParts(opened["train"], joined(opened["validation"]), joined(opened["test"]), paired=False)


def require_image(parts: Parts, *, channels: int, rank: int = 2, field: str = "image") -> tuple[int, ...]:
    """The common spatial shape of `field`; UserError where sizes, rank or channels do not serve the experiment."""
    shapes = {}
    for part in (parts.train, parts.validation, parts.test):
        if field not in part[0]:
            present = ", ".join(name for name, value in part[0].items() if not isinstance(value, str))
            raise UserError(f"'{part.name}' has no '{field}' for this experiment; its records have {present}")
        shapes[common_shape(part, field)] = part.name
    if len(shapes) > 1:
        raise UserError(f"'{parts.train.name}' mixes sizes {', '.join(map(str, shapes))}; bring them to one size")
    shape = next(iter(shapes))
    if len(shape) != rank + 1:
        kind = "volumes (D, H, W, C)" if rank == 3 else "images (H, W, C)"
        raise UserError(f"'{parts.train.name}' has '{field}' of shape {shape}; this experiment takes {kind}")
    if shape[-1] != channels:
        raise UserError(
            f"'{parts.train.name}' has '{field}' with {shape[-1]} channels; this experiment takes {channels}"
        )
    return shape[:-1]


def value_range(source: Source, field: str = "image") -> tuple[float, float]:
    """Smallest and largest value of `field` over all records: what an experiment maps to [-1, 1]."""
    ends = [(float(array.min()), float(array.max())) for array in (source[i][field] for i in range(len(source)))]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if low == high:
        raise UserError(f"every '{field}' of '{source.name}' is {low} everywhere; there is nothing to learn")
    return low, high
