"""Errors and plausibility of spatial transforms: landmark and mesh distances, Jacobians, local correlation.

Points are `(B, N, rank)` in voxels; `spacing` (mm per voxel along each spatial axis, in the order of the
axes) turns them into mm. Dense displacement fields are `(B, H, W, 2)` or `(B, D, H, W, 3)` in voxels,
components in the order of the axes, and map the fixed grid to positions in the moving image (pull fields).
Landmarks given in the fixed image are therefore carried to the moving image by the field, not the other way
round.
"""

from functools import partial

import jax
import jax.numpy as jnp

from medgan_jax.metrics.checks import (
    all_finite,
    as_float,
    case_axes,
    case_mean,
    divide,
    image_pair,
    square_root,
    undefined_unless,
)
from medgan_jax.metrics.image import window_mean


def landmark_distances(predicted: jax.Array, reference: jax.Array, *, spacing) -> jax.Array:
    """Distance of corresponding points, `||T(x) - y||`, `(B, N, rank) -> (B, N)` in mm, in [0, inf).

    Lower is better; the target registration error of each landmark (Fitzpatrick and West 2001). `spacing` is
    `(rank,)` or `(B, rank)` mm per voxel; ones for points already in mm. NaN points (absent landmarks) have
    NaN distances; an infinite coordinate makes the whole case NaN, lest it pass for an absent landmark.
    """
    predicted, reference = as_float(predicted), as_float(reference)
    if predicted.shape != reference.shape or predicted.ndim != 3:
        raise ValueError(f"points must be (B, N, rank) twice, not {predicted.shape} and {reference.shape}")
    spacing = jnp.asarray(spacing, predicted.dtype)
    if spacing.shape[-1:] != predicted.shape[-1:]:
        raise ValueError(f"spacing {spacing.shape} does not fit points of rank {predicted.shape[-1]}")
    spacing = spacing.reshape((-1, 1, spacing.shape[-1]))
    distance = square_root(jnp.sum(jnp.square((predicted - reference) * spacing), axis=-1))
    sound = ~jnp.any(jnp.isinf(predicted) | jnp.isinf(reference), axis=(1, 2))
    return undefined_unless(jnp.all(spacing > 0, axis=-1) & sound[:, None], distance)


def tre(predicted: jax.Array, reference: jax.Array, *, spacing, reduction: str) -> jax.Array:
    """Target registration error of each case, `||T(x) - y||` over its landmarks: `(B,)` in mm, in [0, inf).

    Lower is better (Fitzpatrick and West 2001). `reduction` over a case's landmarks must be named, because
    papers differ: 'mean' (most), 'rms' (Hu et al. 2018: root mean square per patient), 'median' or 'max'. NaN
    landmarks do not count. Report the initial error of the identity transform beside it, and the median and
    95th percentile over cases.
    """
    return _reduce_points(landmark_distances(predicted, reference, spacing=spacing), reduction)


def p2p_error(predicted: jax.Array, reference: jax.Array, *, spacing, reduction: str) -> jax.Array:
    """Point-to-point error, `||v_i - w_i||`, of two meshes with corresponding vertices: `(B,)` in mm, in [0,
    inf).

    Lower is better; the review's P2PE (Kazeminia et al. 2020, Table 1). The distance of vertex i to vertex i,
    not to the nearest point of the other surface (which is smaller). `reduction` is 'mean', 'rms', 'median'
    or 'max' over a case's vertices.
    """
    return _reduce_points(landmark_distances(predicted, reference, spacing=spacing), reduction)


def _reduce_points(distance: jax.Array, reduction: str) -> jax.Array:
    reductions = {
        "mean": lambda d: jnp.nanmean(d, axis=-1),
        "rms": lambda d: square_root(jnp.nanmean(jnp.square(d), axis=-1)),
        "median": lambda d: jnp.nanmedian(d, axis=-1),
        "max": lambda d: jnp.nanmax(d, axis=-1),
    }
    if reduction not in reductions:
        raise ValueError(f"reduction must be one of {sorted(reductions)}, not {reduction!r}")
    return reductions[reduction](distance)


@jax.jit
def centroids(masks: jax.Array) -> jax.Array:
    """Centre of gravity of each channel of binary masks `(B, [D], H, W, N) -> (B, N, rank)` in voxels.

    NaN for an empty channel. Label centroids serve as landmarks where none were set by hand (Hu et al. 2018).
    """
    inside = (as_float(masks) >= 0.5).astype(jnp.float32)
    spatial = tuple(range(1, inside.ndim - 1))
    size = jnp.sum(inside, spatial)
    grids = jnp.meshgrid(*(jnp.arange(n, dtype=jnp.float32) for n in inside.shape[1:-1]), indexing="ij")
    return jnp.stack(
        [divide(jnp.sum(inside * grid[None, ..., None], spatial), size) for grid in grids], axis=-1
    )


@jax.jit
def jacobian_determinant(displacement: jax.Array) -> jax.Array:
    """Determinant of `I + grad u` at the interior voxels, `(B, [D - 2], H - 2, W - 2)`, dimensionless.

    Central differences of a displacement in voxels. 1 keeps volume, above 1 expands, 0 or less folds. Use
    voxel units for both displacement and grid: the determinant then does not depend on the spacing.
    """
    displacement = as_float(displacement)
    rank = displacement.ndim - 2
    if rank not in (2, 3) or displacement.shape[-1] != rank:
        raise ValueError(f"a displacement is (B, H, W, 2) or (B, D, H, W, 3), not {displacement.shape}")
    if min(displacement.shape[1:-1]) < 3:
        raise ValueError("central differences need three voxels along every axis")

    def derivative(axis):
        inner = [slice(None)] + [slice(1, -1)] * rank
        after, before = list(inner), list(inner)
        after[axis + 1], before[axis + 1] = slice(2, None), slice(None, -2)
        return (displacement[tuple(after)] - displacement[tuple(before)]) / 2

    gradient = jnp.stack([derivative(axis) for axis in range(rank)], axis=-1)
    matrix = gradient + jnp.eye(rank, dtype=gradient.dtype)
    rows = [[matrix[..., i, j] for j in range(rank)] for i in range(rank)]
    return _determinant(rows)


def _determinant(rows: list[list[jax.Array]]) -> jax.Array:
    if len(rows) == 2:
        (a, b), (c, d) = rows
        return a * d - b * c
    minors = [[[row[k] for k in range(3) if k != j] for row in rows[1:]] for j in range(3)]
    return sum((-1) ** j * rows[0][j] * _determinant(minors[j]) for j in range(3))


@jax.jit
def fold_fraction(displacement: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Folding, `#{det(I + grad u) <= 0} / #voxels`, of a displacement: `(B,)`, in [0, 1], lower is better.

    Central differences at interior voxels; registration reports it since VoxelMorph (Balakrishnan et al.
    2019). A good overlap by a field that folds is no anatomy. `mask` has the shape of the image,
    `(B, [D], H, W)`, and counts the voxels inside it.
    """
    determinant = jacobian_determinant(displacement)
    folded = (determinant <= 0).astype(determinant.dtype)
    return undefined_unless(all_finite(displacement), case_mean(folded, _interior(mask, determinant)))


@jax.jit
def sd_log_jacobian(displacement: jax.Array, *, floor: float, mask: jax.Array | None = None) -> jax.Array:
    """Roughness, `SD(log max(det(I + grad u), floor))`, of a displacement: `(B,)`, in [0, inf), lower is
    better.

    Dimensionless; of Learn2Reg (Hering et al. 2022). Determinants are clipped from below at `floor`
    (Learn2Reg clips at 1e-9 after adding 3: a convention with another value, so the floor is stated), since
    folds have no logarithm. Report `fold_fraction` beside it.
    """
    determinant = jacobian_determinant(displacement)
    inside = _interior(mask, determinant)
    floor = jnp.asarray(floor, determinant.dtype)
    logarithm = jnp.log(jnp.maximum(determinant, undefined_unless(floor > 0, floor)))
    mean = case_mean(logarithm, inside).reshape((-1,) + (1,) * (logarithm.ndim - 1))
    value = square_root(case_mean(jnp.square(logarithm - mean), inside))
    return undefined_unless(all_finite(displacement), value)


def _interior(mask: jax.Array | None, determinant: jax.Array) -> jax.Array | None:
    if mask is None:
        return None
    return jnp.asarray(mask)[(slice(None), *(slice(1, -1),) * (determinant.ndim - 1))]


@partial(jax.jit, static_argnames=("window",))
def local_ncc(prediction: jax.Array, reference: jax.Array, *, window: int, eps: float) -> jax.Array:
    """Local squared correlation, mean over windows of `cov^2 / (var_a var_b + eps)`: `(B,)`, in [0, 1].

    Higher is better; the similarity of ANTs and VoxelMorph (Avants et al. 2008) with `window=9` pixels along
    each axis. Windows in which an image is constant have no correlation: `eps > 0` (in units of the fourth
    power of intensity) makes them 0 with a finite gradient. The sum of such windows depends on the
    background, so crop or mask alike.
    """
    a, b = image_pair(prediction, reference)
    axes = tuple(range(1, a.ndim - 1))
    if window < 2 or min(a.shape[1:-1]) < window:
        raise ValueError(f"a window of {window} does not fit into images of {a.shape[1:-1]}")
    valid = all_finite(a, b)
    a, b = (x - jnp.mean(x, case_axes(x), keepdims=True) for x in (a, b))
    taps = [1.0 / window] * window
    mean_a, mean_b, aa, bb, ab = (window_mean(z, taps, axes) for z in (a, b, a * a, b * b, a * b))
    covariance = ab - mean_a * mean_b
    variances = jnp.maximum(aa - mean_a * mean_a, 0) * jnp.maximum(bb - mean_b * mean_b, 0)
    return undefined_unless(valid, case_mean(divide(jnp.square(covariance), variances + eps)))
