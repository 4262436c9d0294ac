"""Losses between images: absolute and squared error, gradients, total variation, relative error of a case.

Images are `(B, ..., C)`, channels last, of rank 2 or 3. Every function returns a scalar.
"""

import jax
import jax.numpy as jnp

from medgan_jax.losses.arrays import case_norm, promoted, promoted_pair


def l1(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """mean |prediction - target| over all elements; both `(B, ...)` of one shape, else ValueError."""
    prediction, target = promoted_pair(prediction, target)
    return jnp.mean(jnp.abs(prediction - target))


def balanced_l1(prediction: jax.Array, target: jax.Array, region: jax.Array) -> jax.Array:
    """Mean |prediction - target| inside `region` plus that outside, over the batch; `(B, ..., 1)` each.

    Voxels weigh as the inverse of the size of their part, so that a small region counts as much as the rest.
    A part that is empty adds nothing. region: non-zero is inside.
    """
    prediction, target = promoted_pair(prediction, target)
    inside = (region != 0).astype(target.dtype)
    error = jnp.abs(prediction - target)
    return sum(jnp.sum(error * part) / jnp.maximum(jnp.sum(part), 1) for part in (inside, 1 - inside))


def l2(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """mean (prediction - target)^2 over all elements; both `(B, ...)` of one shape, else ValueError."""
    prediction, target = promoted_pair(prediction, target)
    return jnp.mean(jnp.square(prediction - target))


def norm(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean over cases of ||prediction - target||_2; both `(B, ...)` of one shape, else ValueError."""
    prediction, target = promoted_pair(prediction, target)
    return jnp.mean(case_norm(prediction - target))


def charbonnier(prediction: jax.Array, target: jax.Array, *, epsilon: float = 1e-3) -> jax.Array:
    """mean sqrt((prediction - target)^2 + epsilon^2): a smooth absolute error (Charbonnier et al. 1994).

    `epsilon` is in the units of the images.
    """
    prediction, target = promoted_pair(prediction, target)
    return jnp.mean(jnp.sqrt(jnp.square(prediction - target) + epsilon**2))


def relative_l2(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean over cases of ||prediction - target||_2 / ||target||_2; both `(B, ...)`.

    DAGAN's image term (Yang et al. 2018), called MSE there though neither squared nor absolute. A target of
    norm 0 gives a non-finite value.
    """
    prediction, target = promoted_pair(prediction, target)
    return jnp.mean(case_norm(prediction - target) / case_norm(target))


def _spatial_axes(x: jax.Array) -> range:
    return range(1, x.ndim - 1)


def gradient_difference(
    prediction: jax.Array, target: jax.Array, *, exponent: float = 2.0, summed: bool = False
) -> jax.Array:
    """Sum over axes of the mean of | |d target| - |d prediction| |^exponent, d the forward difference.

    Mathieu et al. 2016, eq. 6. Images `(B, ..., C)`. summed: sums over the pixels of a case, whose mean over
    cases is taken, as in the paper; else means over pixels.
    """
    prediction, target = promoted_pair(prediction, target)

    def along(axis):
        slopes = jnp.abs(jnp.diff(target, axis=axis)) - jnp.abs(jnp.diff(prediction, axis=axis))
        terms = jnp.abs(slopes) ** exponent
        return jnp.sum(terms) / len(terms) if summed else jnp.mean(terms)

    return sum(along(axis) for axis in _spatial_axes(target))


def total_variation(images: jax.Array) -> jax.Array:
    """Sum over spatial axes of the mean absolute forward difference (anisotropic); images `(B, ..., C)`."""
    images = promoted(images)
    return sum(jnp.mean(jnp.abs(jnp.diff(images, axis=axis))) for axis in _spatial_axes(images))
