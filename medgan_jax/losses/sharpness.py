"""How sharp an image is, pixel by pixel, by local binary patterns: what SAGAN's sharpness network learns."""

import functools

import jax
import jax.numpy as jnp

from medgan_jax.losses.arrays import promoted


@functools.partial(jax.jit, static_argnames="threshold")
def local_binary_patterns(images: jax.Array, *, threshold: float = 0.016) -> jax.Array:
    """Rotation-invariant uniform codes 0 to 9 of the 8 neighbours at radius 1, (B, H, W) -> (B, H, W).

    A neighbour's bit is one where it is brighter than the centre by more than `threshold`. With at most two
    changes of bits round the circle the code is the number of ones, else 9 (Ojala et al. 2002). Diagonal
    neighbours are interpolated; the border is repeated outside.
    """
    height, width = images.shape[1:]
    padded = jnp.pad(promoted(images), ((0, 0), (1, 1), (1, 1)), mode="edge")
    step = 2**-0.5

    def shifted(down, right):
        return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    def diagonal(down, right):
        rows = (1 - step) * shifted(0, 0) + step * shifted(down, 0)
        beside = (1 - step) * shifted(0, right) + step * shifted(down, right)
        return (1 - step) * rows + step * beside

    around = (
        shifted(0, 1),
        diagonal(-1, 1),
        shifted(-1, 0),
        diagonal(-1, -1),
        shifted(0, -1),
        diagonal(1, -1),
        shifted(1, 0),
        diagonal(1, 1),
    )
    bits = jnp.stack([each - shifted(0, 0) - threshold > 0 for each in around]).astype(jnp.int32)
    changes = jnp.sum(bits != jnp.roll(bits, 1, axis=0), axis=0)
    return jnp.where(changes <= 2, bits.sum(0), 9)


@functools.partial(jax.jit, static_argnames=("window", "threshold"))
def lbp_sharpness(images: jax.Array, *, window: int = 21, threshold: float = 0.016) -> jax.Array:
    """Sharpness map in [0, 1], (B, H, W, 1) -> (B, H, W, 1): share of the codes 6 to 9 in a square window.

    Each image is first scaled to [0, 1] by its least and largest value, and so is its map at the end. Blurred
    places have few such codes. Yi and Eramian, IEEE Trans. Image Process. 25(4), 2016, at one scale; of the
    window at the border only what lies inside counts.
    """
    codes = local_binary_patterns(_unit_range(images)[..., 0], threshold=threshold)
    sharp = (codes >= 6).astype(jnp.float32)
    share = _window_sum(sharp, window) / _window_sum(jnp.ones_like(sharp), window)
    return _unit_range(share[..., None])


def _unit_range(images: jax.Array) -> jax.Array:
    images = promoted(images)
    axes = tuple(range(1, images.ndim))
    low, high = images.min(axes, keepdims=True), images.max(axes, keepdims=True)
    return (images - low) / jnp.where(high > low, high - low, 1)


def _window_sum(x: jax.Array, window: int) -> jax.Array:
    """Sums over squares round each pixel of (B, H, W), zeros outside."""
    before = window // 2
    around = ((0, 0), (before, window - 1 - before), (before, window - 1 - before))
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, window, window), (1, 1, 1), around)
