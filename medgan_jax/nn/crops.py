"""Random crops and turns on the device, alone and as a stage's `prepare`."""

from collections.abc import Callable
from typing import Any, NamedTuple

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


def patches_of_bags(intensity: Any, bag: int) -> Callable[[dict, jax.Array], dict]:
    """Bags (B, bag, S, S, C) of labelled slides, for adaptation, in the values of `intensity`.

    For training, slides of the `source`, alone or beside those of the `target`, become single patches, each
    turned at random: `source` (B bag, S, S, C), `label` (B bag,), `target`. For a test, whose bags are in
    `normalised` colours, too, they stay bags: `x`, `normalised`, `label` (B,), and a patch of each to see.
    """

    def patches(bags, key):
        return turned(intensity.forward(bags).reshape(-1, *bags.shape[2:]), key)

    def prepare(batch, key):
        if "normalised" in batch:
            x, normalised = intensity.forward(batch["image"]), intensity.forward(batch["normalised"])
            return {"x": x, "normalised": normalised, "label": batch["label"],
                    "patch": x[:, 0], "patch_normalised": normalised[:, 0]}  # fmt: skip
        labelled, keys = batch.get("source", batch), jax.random.split(key)
        known = {"source": patches(labelled["image"], keys[0]), "label": jnp.repeat(labelled["label"], bag)}
        return known | ({"target": patches(batch["target"], keys[1])} if "target" in batch else {})

    return prepare


def crops_and_style(intensity: Any, style: jax.Array, crop: int) -> Callable[[dict, jax.Array], dict]:
    """`image` (B, H, W, C) -> `x` in the values of `intensity`; for numbered images also what a style needs.

    That is their `number`, `places` of random crops of them, and `style`, as many random crops
    (B, crop, crop, C) of the image `style` (H', W', C).
    """

    def prepare(batch, key):
        x = intensity.forward(batch["image"])
        if "number" not in batch:
            return {"x": x}
        keys = jax.random.split(key)
        places = random_places(keys[0], len(x), x.shape[1:3], crop)
        crops = cut(style[None], random_places(keys[1], len(x), style.shape[:2], crop), crop)
        return {"x": x, "number": batch["number"], "places": places, "style": crops}

    return prepare
