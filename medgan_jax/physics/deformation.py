"""Smooth invertible deformations: random ones, what they do to images, points and volume, how they compose.

Conventions, kept by every function here:

* a displacement `(..., H, W, 2)` or `(..., D, H, W, 3)` is in voxels, components in the order of the axes;
* it pulls: `warped(x) = image(x + u(x))`, so it lives on the fixed grid and points into the moving image;
* images have channels last, `(..., H, W, C)` or `(..., D, H, W, C)`; leading axes are cases, equal in both;
* beyond the border an image or a field goes on as its outermost voxel.

Every function is pure and works under `jit`, `vmap` and `grad`.
"""

import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

Interpolation = Literal["linear", "nearest"]


def warp(image: jax.Array, displacement: jax.Array, *, interpolation: Interpolation = "linear") -> jax.Array:
    """The image `(..., *spatial, C)` pulled through `displacement` `(..., *spatial, rank)`.

    "linear" gives floating-point values, "nearest" keeps the type of `image` and adds no new value, as label
    maps need. The grid of the displacement may differ from that of the image; the result lies on the former.
    Raises `ValueError` for shapes that do not fit.
    """
    rank = _rank(displacement)
    if image.ndim != displacement.ndim or image.shape[: -rank - 1] != displacement.shape[: -rank - 1]:
        raise ValueError(f"an image of {image.shape} does not fit a displacement of {displacement.shape}")
    if interpolation not in get_args(Interpolation):
        raise ValueError(f"unknown interpolation {interpolation!r}; there are {get_args(Interpolation)}")
    positions = identity(displacement.shape[-rank - 1 : -1]) + displacement
    return _per_case(lambda case, at: _sample(case, at, interpolation), image, positions, rank)


def warp_points(points: jax.Array, displacement: jax.Array) -> jax.Array:
    """Points `(..., N, rank)` in voxels of the fixed grid, carried into the moving image: `x + u(x)`.

    Landmarks go the other way than images do: those of the moving image need the `inverse` displacement.
    """
    rank = _rank(displacement)
    shape = displacement.shape[:-1]
    if points.shape[-1] != rank or points.shape[:-2] != shape[:-rank]:
        raise ValueError(f"points of {points.shape} do not fit a displacement of {displacement.shape}")
    cases = displacement.reshape(-1, *displacement.shape[-rank - 1 :])
    moved = jax.vmap(lambda field, at: at + _sample(field, at, "linear"))
    return moved(cases, _floating(points).reshape(-1, *points.shape[-2:])).reshape(points.shape)


def compose(first: jax.Array, second: jax.Array) -> jax.Array:
    """Warps by `first` and then by `second` as one displacement: `x -> second(x) + first(x + second(x))`."""
    return second + warp(first, second)


def exponential(velocity: jax.Array, *, steps: int = 7) -> jax.Array:
    """The displacement of a flow along a stationary `velocity` `(..., *spatial, rank)` for a unit of time.

    Scaling and squaring: `velocity / 2^steps`, composed with itself `steps` times. The flow of a smooth
    velocity is invertible, its inverse the flow of `-velocity`. Arsigny et al., MICCAI 2006; `steps=7` as
    VoxelMorph and MONAI have it.
    """
    scaled = _floating(velocity) / 2**steps
    return jax.lax.fori_loop(0, steps, lambda _, field: compose(field, field), scaled)


def inverse(displacement: jax.Array, *, iterations: int = 40) -> jax.Array:
    """The displacement v that undoes u, `v(x) = -u(x + v(x))`, by as many damped fixed-point iterations.

    Each step goes half of the way, so that it converges where u stretches up to fourfold, not only where it
    changes by less than a voxel per voxel. Where x + v(x) leaves the grid there is no inverse to find.
    Chen et al., Med. Phys. 35(1), 2008. A flow is undone by `exponential(-velocity)` too.
    """
    start = jnp.zeros_like(_floating(displacement))
    return jax.lax.fori_loop(0, iterations, lambda _, v: (v - warp(displacement, v)) / 2, start)


def jacobian_determinant(displacement: jax.Array) -> jax.Array:
    """Determinant of `I + grad u` at every voxel, `(..., *spatial)`; above 0 where nothing folds.

    Central differences, one-sided at the border. `metrics.registration` has the scores made of it.
    """
    rank = _rank(displacement)
    axes = tuple(range(-rank - 1, -1))
    gradient = jnp.stack(jnp.gradient(_floating(displacement), axis=axes), axis=-1)
    return _determinant([[gradient[..., i, j] + (i == j) for j in range(rank)] for i in range(rank)])


def random_velocity(
    key: jax.Array, shape: Sequence[int], *, amplitude: float | jax.Array, smoothness: float
) -> jax.Array:
    """A random smooth field `(*shape, rank)`: white noise through a Gaussian filter, in voxels.

    Each component has zero mean and the standard deviation `amplitude` at every voxel, the border's included;
    `smoothness` is the standard deviation of the filter. A flow along it is well away from folding while the
    amplitude is at most half the smoothness.
    """
    rank = len(shape)
    field = jax.random.normal(key, (*shape, rank))
    for axis, size in enumerate(shape):
        offset = np.arange(size)[:, None] - np.arange(size)
        filters = np.exp(-np.square(offset / smoothness) / 2)
        # Rows of unit length keep the variance, at the border too, where a filter is cut off.
        filters /= np.linalg.norm(filters, axis=1, keepdims=True)
        filtered = jnp.tensordot(jnp.asarray(filters, field.dtype), field, (1, axis), precision="highest")
        field = jnp.moveaxis(filtered, 0, axis)
    return amplitude * field


def random_diffeomorphism(
    key: jax.Array,
    shape: Sequence[int],
    *,
    amplitude: float | jax.Array,
    smoothness: float,
    steps: int = 7,
) -> jax.Array:
    """A random invertible displacement `(*shape, rank)` in voxels: `exponential` of a `random_velocity`."""
    velocity = random_velocity(key, shape, amplitude=amplitude, smoothness=smoothness)
    return exponential(velocity, steps=steps)


def affine(shape: Sequence[int], matrix: jax.Array, translation: float | jax.Array = 0.0) -> jax.Array:
    """The displacement `(*shape, rank)` of `x -> c + matrix (x - c) + translation`, c the middle of the grid.

    `matrix` is `(rank, rank)`, `translation` `(rank,)` in voxels; the identity leaves a pure translation.
    """
    centre = (jnp.asarray(shape, jnp.float32) - 1) / 2
    grid = identity(shape) - centre
    return jnp.einsum("...j,ij->...i", grid, jnp.asarray(matrix), precision="highest") - grid + translation


def identity(shape: Sequence[int]) -> jax.Array:
    """Positions of the voxels of a grid, `(*shape, rank)`, in voxels."""
    grids = jnp.meshgrid(*(jnp.arange(size, dtype=jnp.float32) for size in shape), indexing="ij")
    return jnp.stack(grids, axis=-1)


def _sample(image: jax.Array, positions: jax.Array, interpolation: Interpolation) -> jax.Array:
    """Values `(..., C)` of one image `(*spatial, C)` at `positions` `(..., rank)` in voxels."""
    shape = image.shape[:-1]
    flat = image.reshape(-1, image.shape[-1])
    # Positions stop at the border: outside, the gradient with respect to them is zero.
    inside = jnp.clip(positions, 0, jnp.asarray(shape, positions.dtype) - 1)
    if interpolation == "nearest":
        return flat[_index(jnp.floor(inside + 0.5).astype(jnp.int32), shape)]
    flat = _floating(flat)
    lower = jnp.floor(inside)
    share = inside - lower
    result = 0.0
    for corner in itertools.product((0, 1), repeat=len(shape)):
        weight = jnp.prod(jnp.where(np.array(corner, bool), share, 1 - share), axis=-1, keepdims=True)
        result = result + weight * flat[_index(lower.astype(jnp.int32) + np.array(corner), shape)]
    return result


def _index(voxels: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Index into the flattened grid of voxels `(..., rank)`; those beyond the far border count as on it."""
    return jnp.ravel_multi_index(tuple(jnp.moveaxis(voxels, -1, 0)), tuple(shape), mode="clip")


def _per_case(function, image: jax.Array, positions: jax.Array, rank: int) -> jax.Array:
    cases = [x.reshape(-1, *x.shape[-rank - 1 :]) for x in (image, positions)]
    return jax.vmap(function)(*cases).reshape(*positions.shape[:-1], image.shape[-1])


def _rank(displacement: jax.Array) -> int:
    rank = displacement.shape[-1]
    if rank not in (2, 3) or displacement.ndim <= rank:
        raise ValueError(f"a displacement is (..., H, W, 2) or (..., D, H, W, 3), not {displacement.shape}")
    return rank


def _determinant(rows: list[list[jax.Array]]) -> jax.Array:
    if len(rows) == 1:
        return rows[0][0]
    minors = [[[row[k] for k in range(len(rows)) if k != j] for row in rows[1:]] for j in range(len(rows))]
    return sum((-1) ** j * rows[0][j] * _determinant(minor) for j, minor in enumerate(minors))


def _floating(x: jax.Array) -> jax.Array:
    return jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))
