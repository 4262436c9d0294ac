"""Losses of registration: local cross-correlation of two images, and how smooth a displacement is.

Images are `(B, *S, C)` of rank 2 or 3. Displacements are `(B, *S, rank)` in voxels, components in the order of
the axes. Every function returns a scalar.
"""

import jax
import jax.numpy as jnp

from medgan_jax.losses.arrays import promoted, promoted_pair


def local_cross_correlation(
    warped: jax.Array, fixed: jax.Array, *, window: int = 9, epsilon: float = 1e-5
) -> jax.Array:
    """Minus the mean of cov^2 / (var var) over windows of `window` voxels along each axis; in [-1, 0].

    Avants et al. 2008, as VoxelMorph has it (Balakrishnan et al. 2019). Windows are cut off at the border.
    epsilon: added to the product of variances, in the fourth power of the images' unit; a window in which an
    image is constant gives 0.
    """
    warped, fixed = promoted_pair(warped, fixed)
    size = jnp.ones_like(fixed[:1])

    def mean(x):
        return _window_sum(x, window) / _window_sum(size, window)

    mean_w, mean_f = mean(warped), mean(fixed)
    covariance = mean(warped * fixed) - mean_w * mean_f
    variance_w = jnp.maximum(mean(warped * warped) - mean_w * mean_w, 0)
    variance_f = jnp.maximum(mean(fixed * fixed) - mean_f * mean_f, 0)
    return -jnp.mean(jnp.square(covariance) / (variance_w * variance_f + epsilon))


def _window_sum(x: jax.Array, window: int) -> jax.Array:
    """Sums over windows round every voxel; beyond the border there is nothing."""
    shape = (1, *(window,) * (x.ndim - 2), 1)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, shape, (1,) * x.ndim, "SAME")


def smoothness_against_folding(displacement: jax.Array, *, weight: float = 10.0) -> jax.Array:
    """Mean over axes of the mean squared forward difference; differences of -1 and less count `weight` times.

    Such a difference folds the grid. The weight comes before the square. Fan et al. 2018, their public code.
    """
    displacement = promoted(displacement)
    rank = displacement.shape[-1]

    def along(axis):
        difference = jnp.diff(displacement, axis=axis)
        return jnp.mean(jnp.square(jnp.where(difference <= -1, weight * difference, difference)))

    return sum(along(axis) for axis in range(1, rank + 1)) / rank

