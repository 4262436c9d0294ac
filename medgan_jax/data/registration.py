"""Pairs of images for registration, from what `--data.source` names or from phantoms."""

import functools

import jax

from medgan_jax.data.parts import Counts, open_pairs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.phantoms.deformed import deformed_pair


def deformed_brains(source: str, shape: tuple[int, ...], counts: Counts, batch_size: int) -> Data:
    """Images `moving` and `fixed` (*shape, 1), to train on; for a test with all that is known of the pair.

    Of a folder's subjects, see `parts.open_pairs`, that is `moving_mask` and `fixed_mask`; of phantom brains
    also landmarks and the true `displacement`.
    """
    draw = functools.partial(_pair, shape=shape)
    pairs = open_pairs(source, draw, shape=shape, name="deformed_brain", counts=counts)
    return Data(Stream(pairs.train, batch_size, fields=("moving", "fixed")), pairs.validation, pairs.test)


def _pair(key: jax.Array, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    drawn = deformed_pair(key, shape)
    return drawn | {f"{name}_mask": drawn[f"{name}_labels"][..., None] for name in ("moving", "fixed")}
