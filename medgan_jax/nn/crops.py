"""Random crops and turns on the device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Places(NamedTuple):
    """Where each image is cut: `corner` (B, 2), row and column, and whether it is mirrored (B,)."""

    corner: jax.Array
    mirror: jax.Array


def random_places(key: jax.Array, count: int, sides: tuple[int, int], crop: int) -> Places:
    """Places of `count` crops of side `crop` in images of `sides` (H, W); every second one is mirrored."""
    where, which = jax.random.split(key)
    room = jnp.asarray(sides) - crop + 1
    mirror = jax.random.bernoulli(which, shape=(count,))
    return Places(jax.random.randint(where, (count, 2), 0, room), mirror)


def cut(images: jax.Array, places: Places, crop: int) -> jax.Array:
    """Crops (B, crop, crop, C) of images (B, H, W, C), or of one image (1, H, W, C), at `places`."""

    def one(image, corner, mirror):
        part = jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (crop, crop, image.shape[-1]))
        return jnp.where(mirror, part[:, ::-1], part)

    if len(images) == 1:
        return jax.vmap(lambda corner, mirror: one(images[0], corner, mirror))(*places)
    return jax.vmap(one)(images, *places)


def turned(images: jax.Array, key: jax.Array) -> jax.Array:
    """Square images (B, S, S, C), each in one of its eight positions: tissue has no upright one."""
    flips = jax.random.bernoulli(key, shape=(3, len(images), 1, 1, 1))
    images = jnp.where(flips[0], images[:, ::-1], images)
    images = jnp.where(flips[1], images[:, :, ::-1], images)
    return jnp.where(flips[2], images.swapaxes(1, 2), images)
