"""The records of a phantom set: what its drawing function gives, in the types and shapes that are stored."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from medgan_jax.data.phantom_sets import PhantomSet
from medgan_jax.data.sources import SPLITS, PhantomSource
from medgan_jax.errors import UserError

SEED = 0
# Records that one process draws at a time.
CHUNK = 8
_SINGULAR = {"labels": "label", "masks": "mask"}
_TYPES = {"b": np.uint8, "i": np.int32, "u": np.int32, "f": np.float32}
# Maps of classes: few of them, so that a byte holds their numbers. Instances may be more.
_CLASSES = np.uint8


@functools.cache
def shapes(phantom: PhantomSet) -> Mapping[str, jax.ShapeDtypeStruct]:
    """What is stored, by field, from the drawing function's own shapes; maps get a channel."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    drawn = jax.eval_shape(phantom.generate, key)
    spatial = _spatial(drawn)
    return {
        _SINGULAR.get(name, name): jax.ShapeDtypeStruct(
            (*array.shape, 1) if array.shape == spatial else array.shape, _type(name, array)
        )
        for name, array in drawn.items()
    }


def _type(name: str, array: jax.ShapeDtypeStruct) -> type:
    kind = np.dtype(array.dtype).kind
    return _CLASSES if kind in "iu" and array.shape and name.endswith("labels") else _TYPES[kind]


def _spatial(drawn: Mapping[str, jax.ShapeDtypeStruct]) -> tuple[int, ...] | None:
    """Sides of the image; None without one. An image of the shape of its label map has no channel yet."""
    if "image" not in drawn:
        return None
    image, labels = drawn["image"].shape, drawn.get("labels")
    return image if labels is not None and labels.shape == image else image[:-1]


def draw(phantom: PhantomSet, split: str, start: int) -> list[tuple[str, dict[str, Any]]]:
    """`CHUNK` records of a part with their ids, from that of number `start` on; fewer at its end."""
    source = _source(phantom, split)
    return [_stored(phantom, source[index]) for index in range(start, min(start + CHUNK, len(source)))]


@functools.cache
def _source(phantom: PhantomSet, split: str) -> PhantomSource:
    count = phantom.counts[SPLITS.index(split)]
    return PhantomSource(phantom.name, phantom.generate, count, SEED, split=split)


def _stored(phantom: PhantomSet, record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    declared, stored = shapes(phantom), {"id": record["id"], "subject": record["subject"]}
    for name, array in record.items():
        if isinstance(array, str):
            continue
        if not np.isfinite(array).all():
            raise UserError(f"the phantom {phantom.name} has NaN or infinity in '{name}' of {record['id']}")
        shape = declared[_SINGULAR.get(name, name)]
        kept = array.astype(shape.dtype)
        if array.dtype.kind != "f" and (kept != array).any():
            raise UserError(f"the phantom {phantom.name} has numbers in '{name}' that {shape.dtype} does not hold")
        stored[_SINGULAR.get(name, name)] = kept.reshape(shape.shape)
    return record["id"], stored
