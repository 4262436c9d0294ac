"""Slices of phantom heads, or any images of one size, as the data of a stage."""

import functools

import jax

from medgan_jax.data.augmentations import turned_crop
from medgan_jax.data.parts import Counts, open_heads, open_parts, require_image
from medgan_jax.data.pipeline import Augment, Data, Stream
from medgan_jax.phantoms.head import head_slice


def head_data(
    source: str, *, size: int, counts: Counts, batch_size: int, augment: Augment | None = None
) -> Data:
    """Checked images of sides `size` by `parts.open_heads`: batches of `batch_size`, changed by `augment`."""
    heads = open_heads(source, size=size, counts=counts)
    train = Stream(heads.train, batch_size, augment)
    return Data(train, heads.validation, heads.test, fields=("image",))


def complex_head_data(
    source: str, *, size: int, channels: int, counts: Counts, batch_size: int, crop: float
) -> Data:
    """Checked complex slices, `image` (H, W, 2), or magnitudes, (H, W, 1), as `channels` says; as `head_data`.

    Phantoms are complex. crop: largest share of the sides that augmentation cuts off, after turns and mirrors.
    """
    draw = functools.partial(_complex_head, size=size)
    heads = open_parts(source, draw, name=f"head_complex_{size}", counts=counts)
    require_image(heads, channels=channels, size=size)
    train = Stream(heads.train, batch_size, turned_crop(size, crop))
    return Data(train, heads.validation, heads.test, fields=("image",))


def _complex_head(key: jax.Array, size: int) -> dict[str, jax.Array]:
    return {"image": head_slice(key, size)["complex"]}
