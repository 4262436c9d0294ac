"""Non-local means, the classical denoiser that averages pixels whose surroundings are alike."""

import itertools

import jax
import jax.numpy as jnp


def nonlocal_means(
    images: jax.Array, strength: float | jax.Array, *, patch: int = 5, reach: int = 5
) -> jax.Array:
    """Images (B, H, W, C) averaged over the pixels within `reach`, by the likeness of the patches round them.

    Weights are exp(-d / strength^2), d the mean squared difference of patches of `patch` pixels: `strength`
    is in the images' units; the pixel itself weighs as much as its best fellow. Buades, Coll and Morel, CVPR
    2005. The border is mirrored.
    """
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    offsets = [
        (i, j) for i, j in itertools.product(range(2 * reach + 1), repeat=2) if (i, j) != (reach, reach)
    ]

    def add(carry, offset):
        total, weights, best = carry
        other = jax.lax.dynamic_slice(padded, (0, *offset, 0), images.shape)
        distance = _box_mean(jnp.square(images - other).mean(-1, keepdims=True), patch)
        weight = jnp.exp(-distance / strength**2)
        return (total + weight * other, weights + weight, jnp.maximum(best, weight)), None

    zero = jnp.zeros((len(images), height, width, 1), images.dtype)
    (total, weights, best), _ = jax.lax.scan(add, (0 * images, zero, zero), jnp.array(offsets))
    # Where no other pixel is alike, the pixel stays as it is.
    best = jnp.maximum(best, 1e-12)
    return (total + best * images) / (weights + best)


def _box_mean(x: jax.Array, side: int) -> jax.Array:
    ones = jnp.ones_like(x[:1])
    sums = (
        jax.lax.reduce_window(each, 0.0, jax.lax.add, (1, side, side, 1), (1, 1, 1, 1), "SAME")
        for each in (x, ones)
    )
    total, count = sums
    return total / count
