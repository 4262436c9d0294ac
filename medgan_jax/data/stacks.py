"""Stacks of slices from one end of an organ to the other, and what is left where outer slices are missing."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.data.parts import Counts, open_parts
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.records import Record, Source, digest, mapped, split_validation
from medgan_jax.errors import UserError
from medgan_jax.phantoms.cardiac import cardiac_stack


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


# Ends of a stack of the heart, first and last: missing basal and missing apical slices.
ENDS = ("mbs", "mas")


def heart_ends(source: str, size: int, counts: Counts, labelled: float, batch_size: int) -> Data:
    """Ends of the stacks that `source` names, or of phantom hearts in short-axis MR.

    Training draws `batch_size` stacks of subjects with labels, and as many of those without, under the names
    `labelled` and `unlabelled`; a test has 32 in a batch. labelled: share of training subjects with labels,
    which themselves follow from the slices that are dropped: see `ends_as_found`.
    """
    ends = open_stack_ends(source, functools.partial(_heart, size=size), side=size, labelled=labelled,
                           name=f"cardiac_stack_{size}", counts=counts)  # fmt: skip
    both = {"labelled": ends.labelled, "unlabelled": ends.unlabelled}
    streams = {name: Stream(part, batch_size, fields=("image",)) for name, part in both.items()}
    return Data(streams, ends.validation, ends.test, 32, fields=("image", "dropped"))


def _heart(key: jax.Array, size: int) -> dict[str, jax.Array]:
    return {"image": cardiac_stack(key, size)["image"]}


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


def ends_as_found(names: tuple[str, str], latent: int) -> Callable[[dict, jax.Array], dict]:
    """A stage's `prepare`: the outermost slice that is left at each end of a stack.

    For training, by the name of the end: slices `x` (B, H, W, 1) with classes `y` (B,), 1 for a slice that is
    the end, slices `u` without classes, and normal vectors `z` (B, 2, latent). For a test, whose batch says
    what is `dropped`: `{name}_slice`, `{name}_truth` (B,), true where the end is missing, and a common `z`.
    """

    def prepare(batch, key):
        keys = jax.random.split(key, 3)
        if "dropped" in batch:
            slices, gone = as_found(batch["image"], batch["dropped"]), batch["dropped"] > 0
            known = {f"{name}_slice": slices[:, n] for n, name in enumerate(names)}
            known |= {f"{name}_truth": gone[:, n] for n, name in enumerate(names)}
            return known | {"z": jax.random.normal(keys[2], (len(slices), 2, latent))}
        gone, gone_too = (draw_dropped(key, len(batch["labelled"])) for key in keys[:2])
        x, u = as_found(batch["labelled"], gone), as_found(batch["unlabelled"], gone_too)
        z, y = jax.random.normal(keys[2], (len(x), 2, 2, latent)), (gone == 0).astype(jnp.int32)
        return {
            name: {"x": x[:, n], "y": y[:, n], "u": u[:, n], "z": z[:, n]} for n, name in enumerate(names)
        }

    return prepare
