"""Wavelet shrinkage, a classical denoiser: details that are small are noise."""

import itertools

import jax
import jax.numpy as jnp


def wavelet_shrinkage(images: jax.Array, threshold: float | jax.Array, *, levels: int = 3) -> jax.Array:
    """Images (B, *S, C) without the Haar details below `threshold`, averaged over all shifts.

    The undecimated transform with soft thresholds is the mean over shifts of the decimated one (Donoho and
    Johnstone 1994; Coifman and Donoho 1995). threshold: in the images' units, a multiple of the standard
    deviation of white noise; details of each level and direction are compared with as much of it as noise
    leaves there. The border is mirrored; levels are fewer where an image is small.
    """
    axes = tuple(range(1, images.ndim - 1))
    least = min(images.shape[axis] for axis in axes)
    while levels > 1 and 2**levels >= least:
        levels -= 1
    margin = [(2**levels,) * 2 if axis in axes else (0, 0) for axis in range(images.ndim)]
    padded = jnp.pad(images, margin, mode="reflect")
    shrunk = _shrunk(padded, threshold, axes, 0, levels)
    return shrunk[tuple(slice(before or None, -after or None) for before, after in margin)]


def _shrunk(x: jax.Array, threshold, axes: tuple[int, ...], level: int, levels: int) -> jax.Array:
    if level == levels:
        return x
    # Each half-sum or half-difference leaves 1 / sqrt(2) of white noise.
    left, shift = threshold * 2.0 ** (-len(axes) * (level + 1) / 2), 2**level
    bands = {(): x}
    for axis in axes:
        bands = {
            (*key, sign): (band + sign * jnp.roll(band, -shift, axis)) / 2
            for key, band in bands.items()
            for sign in (1, -1)
        }
    smooth = (1,) * len(axes)
    bands = {
        key: _shrunk(band, threshold, axes, level + 1, levels)
        if key == smooth
        else jnp.sign(band) * jnp.maximum(jnp.abs(band) - left, 0)
        for key, band in bands.items()
    }
    for axis in reversed(axes):
        keys = itertools.product((1, -1), repeat=len(next(iter(bands))) - 1)
        bands = {key: _joined(bands[*key, 1], bands[*key, -1], shift, axis) for key in keys}
    return bands[()]


def _joined(mean: jax.Array, detail: jax.Array, shift: int, axis: int) -> jax.Array:
    """The mean of what both shifts say of each pixel."""
    return (mean + detail + jnp.roll(mean - detail, shift, axis)) / 2
