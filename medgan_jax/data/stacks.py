"""Stacks of slices from one end of an organ to the other, and what is left where outer slices are missing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.data.parts import Counts, open_parts
from medgan_jax.data.records import Record, Source, digest, mapped, split_validation
from medgan_jax.errors import UserError


def stack_ends(source: Source, side: int, kept: int = 3) -> Source:
    """Complete stacks `image` (D, H, W, C) -> their ends (2, `kept`, H, W, C), outermost slice first.

    Entry 0 is the end that the stack begins with, entry 1 the other one; values go from -1, a signal of 0, to
    1, the stack's largest. `dropped` (2,) int32 says how many slices of each end are to count as missing in a
    test: none in half of the stacks, else 1 to `kept` - 1, by a hash of the record's id. UserError where a
    record is no stack of at least 2 `kept` grey slices of this `side`.
    """

    def ends(record: Record) -> Record:
        image = record["image"]
        if image.ndim != 4 or len(image) < 2 * kept or image.shape[1:] != (side, side, 1):
            raise UserError(
                f"'{source.name}': {record['id']} is {image.shape}; this experiment takes stacks of at least "
                f"{2 * kept} slices, (D, {side}, {side}, 1): crop them, or say --config.size"
            )
        image = 2 * image / max(float(image.max()), 1e-6) - 1
        dropped = [_dropped(record["id"], end, kept) for end in range(2)]
        both = np.stack([image[:kept], image[: -kept - 1 : -1]])
        known = {name: record[name] for name in ("id", "subject")}
        return {"image": both, "dropped": np.array(dropped, np.int32), **known}

    return mapped(source, ends)


@dataclasses.dataclass(frozen=True)
class StackParts:
    """Ends of stacks by part; the training subjects with labels and those without."""

    labelled: Source
    unlabelled: Source
    validation: Source
    test: Source


def open_stack_ends(source: str, phantom: functools.partial, *, name: str, counts: Counts, side: int,
                    labelled: float) -> StackParts:  # fmt: skip
    """Ends of the complete stacks that `source` names, or of phantoms: key -> record with a stack `image`.

    labelled: share of the training subjects whose labels are used, chosen by a hash of their names.
    """
    parts = open_parts(source, phantom, name=name, counts=counts)
    train, validation, test = (stack_ends(part, side) for part in (parts.train, parts.validation, parts.test))
    without, known = split_validation(train, labelled)
    return StackParts(known, without, validation, test)


def _dropped(id: str, end: int, kept: int) -> int:
    number = int(digest("dropped slices", id, end), 16)
    return 0 if number % 2 else 1 + number // 2 % (kept - 1)


def draw_dropped(key: jax.Array, count: int, kept: int = 3) -> jax.Array:
    """How many slices are missing at both ends of `count` stacks (count, 2): as `dropped`, but at random."""
    any_, how_many = jax.random.split(key)
    missing = jax.random.bernoulli(any_, shape=(count, 2))
    return missing * jax.random.randint(how_many, (count, 2), 1, kept)


def as_found(ends: jax.Array, dropped: jax.Array) -> jax.Array:
    """The outermost slices (B, 2, H, W, C) of ends (B, 2, K, H, W, C) once `dropped` (B, 2) are gone."""
    index = dropped.reshape(*dropped.shape, *(1,) * (ends.ndim - 2))
    return jnp.take_along_axis(ends, index, axis=2)[:, :, 0]
