"""Clinical quantities of segmentations and landmarks: areas, volumes, ejection fraction, ratios,
identification.

Masks are binary, `(B, H, W, 1)` or `(B, D, H, W, 1)`; values are per case, `(B,)`, in physical units. A mask
with values other than 0 and 1 has no area, and scores NaN.
"""

from functools import partial

import jax
import jax.numpy as jnp

from medgan_jax.metrics.checks import as_float, case_axes, divide, square_root, undefined_unless


def _sizes(mask: jax.Array) -> jax.Array:
    mask = as_float(mask)
    valid = jnp.all((mask == 0) | (mask == 1), case_axes(mask))
    return undefined_unless(valid, jnp.sum(mask == 1, case_axes(mask), dtype=jnp.int32).astype(mask.dtype))


def _product(spacing, rank: int) -> jax.Array:
    spacing = jnp.asarray(spacing, jnp.float32)
    if spacing.shape[-1:] != (rank,):
        raise ValueError(f"spacing must hold {rank} values in mm, not shape {spacing.shape}")
    return undefined_unless(jnp.all(spacing > 0, axis=-1), jnp.prod(spacing, axis=-1))


def area(mask: jax.Array, *, spacing) -> jax.Array:
    """Area of each mask `(B, H, W, 1)` in mm^2: pixels times `dy dx`; `spacing` is `(2,)` or `(B, 2)` mm."""
    if jnp.ndim(mask) != 4:
        raise ValueError(f"an area is of masks (B, H, W, 1), not {jnp.shape(mask)}")
    return _sizes(mask) * _product(spacing, 2)


def volume(mask: jax.Array, *, spacing, slice_gap: jax.Array | float) -> jax.Array:
    """Volume of each mask `(B, D, H, W, 1)` in ml: `sum_slices area (thickness + gap)`.

    `spacing` is `(thickness, dy, dx)` in mm, `(3,)` or `(B, 3)`; `slice_gap` in mm is 0 where slices touch.
    Cine stacks leave gaps of up to 10 mm: dropping them falsifies volumes, though not ejection fractions.
    """
    if jnp.ndim(mask) != 5:
        raise ValueError(f"a volume is of masks (B, D, H, W, 1), not {jnp.shape(mask)}")
    spacing = jnp.asarray(spacing, jnp.float32)
    pixel = _product(spacing[..., 1:], 2)
    return _sizes(mask) * pixel * (spacing[..., 0] + slice_gap) / 1000.0


def ejection_fraction(end_diastolic: jax.Array, end_systolic: jax.Array) -> jax.Array:
    """`(EDV - ESV) / EDV` in percent from volumes in any unit, elementwise; NaN for an empty diastole.

    Compare methods by the report of `medgan_jax.evaluation.agreement.agreement_report`: correlation hides
    bias.
    """
    end_diastolic, end_systolic = as_float(end_diastolic), as_float(end_systolic)
    return 100 * divide(end_diastolic - end_systolic, end_diastolic)


def area_error(prediction: jax.Array, reference: jax.Array, *, spacing) -> jax.Array:
    """`|A_prediction - A_reference|` in mm^2 of masks `(B, H, W, 1)`: `(B,)`, lower is better.

    The mean over patients is the "MAE of infarct size" (`area_mae`); average a patient's slices first. Two
    disjoint masks of equal area score 0: report an overlap beside it.
    """
    return jnp.abs(area(prediction, spacing=spacing) - area(reference, spacing=spacing))


@partial(jax.jit, static_argnames=("n_patients",))
def area_mae(
    prediction: jax.Array, reference: jax.Array, *, spacing, patients: jax.Array, n_patients: int
) -> jax.Array:
    """Mean absolute error of area for each patient, `(n_patients,)` in mm^2, lower is better.

    Slices `(B, H, W, 1)` belong to `patients`, indices `(B,)` in `0 .. n_patients - 1`. A patient without
    slices is NaN. The average over patients is the review's "MAE of infarct size".
    """
    errors = area_error(prediction, reference, spacing=spacing)
    patients = jnp.asarray(patients)
    known = (patients >= 0) & (patients < n_patients)
    zeros = jnp.zeros(n_patients, errors.dtype)
    sums = zeros.at[patients].add(jnp.where(known, errors, 0), mode="drop")
    counts = zeros.at[patients].add(known.astype(errors.dtype), mode="drop")
    return undefined_unless(jnp.all(known), divide(sums, counts))


def infarct_share(infarct: jax.Array, myocardium: jax.Array) -> jax.Array:
    """Infarct size in percent of the myocardium, from masks of equal shape; the infarct counts inside it
    only."""
    inside = jnp.asarray(infarct) * jnp.asarray(myocardium)
    return 100 * divide(_sizes(inside), _sizes(myocardium))


def cup_to_disc_ratio(cup: jax.Array, disc: jax.Array) -> jax.Array:
    """Vertical cup-to-disc ratio of masks `(B, H, W, 1)`: height of the cup over height of the disc; NaN
    without disc.

    The absolute difference of two ratios is the error that glaucoma screening reports.
    """
    return divide(_height(cup), _height(disc))


def _height(mask: jax.Array) -> jax.Array:
    rows = jnp.any(jnp.asarray(mask) != 0, axis=(2, 3))
    index = jnp.arange(rows.shape[1])
    low = jnp.min(jnp.where(rows, index, rows.shape[1]), axis=1)
    high = jnp.max(jnp.where(rows, index, -1), axis=1)
    return jnp.where(jnp.any(rows, axis=1), high - low + 1, 0).astype(jnp.float32)


@jax.jit
def identification(predicted: jax.Array, reference: jax.Array, *, spacing, tolerance: float) -> jax.Array:
    """Whether each labelled point is identified, `(B, N, rank) -> (B, N)` of 1, 0, or NaN where there is
    none.

    The rule of vertebra labelling (Glocker et al. 2012): within `tolerance` mm (20 there) of its own
    reference centroid, and that centroid is the nearest of all of the case's. NaN rows mark absent points:
    absent in the reference is NaN, absent in the prediction only is 0.
    """
    predicted, reference = as_float(predicted), as_float(reference)
    if predicted.shape != reference.shape or predicted.ndim != 3:
        raise ValueError(f"points must be (B, N, rank) twice, not {predicted.shape} and {reference.shape}")
    spacing = jnp.asarray(spacing, predicted.dtype).reshape((-1, 1, 1, predicted.shape[-1]))
    offset = (predicted[:, :, None] - reference[:, None]) * spacing
    distance = square_root(jnp.sum(jnp.square(offset), axis=-1))
    distance = jnp.where(jnp.isnan(distance), jnp.inf, distance)
    own = jnp.diagonal(distance, axis1=1, axis2=2)
    hit = (own <= tolerance) & (own <= jnp.min(distance, axis=-1))
    return undefined_unless(~jnp.any(jnp.isnan(reference), axis=-1), hit.astype(predicted.dtype))


def identification_rate(
    predicted: jax.Array, reference: jax.Array, *, spacing, tolerance: float
) -> jax.Array:
    """Share of a case's reference points that are identified: `(B,)`, in [0, 1], higher is better."""
    hits = identification(predicted, reference, spacing=spacing, tolerance=tolerance)
    present = ~jnp.isnan(hits)
    total = jnp.sum(present, -1).astype(hits.dtype)
    return divide(jnp.sum(jnp.where(present, hits, 0), -1), total)


def _to_polyline(points: jax.Array, line: jax.Array) -> jax.Array:
    """Distance from each point `(N, rank)` to the nearest place on a polyline `(M, rank)`."""
    start, step = line[:-1], line[1:] - line[:-1]
    offset = points[:, None] - start[None]
    length = jnp.sum(step * step, axis=-1)
    position = jnp.sum(offset * step, axis=-1) / jnp.where(length > 0, length, 1)
    nearest = jnp.clip(position, 0, 1)[..., None] * step
    return square_root(jnp.min(jnp.sum(jnp.square(offset - nearest), axis=-1), axis=-1))


@jax.jit
def centreline_error(predicted: jax.Array, reference: jax.Array, *, spacing) -> jax.Array:
    """Mean symmetric distance of two polylines, `(B, N, rank)` and `(B, M, rank)` voxels: `(B,)` in mm.

    The average of the mean distances from either line's vertices to the other line (to its segments, not only
    its vertices, so the sampling of the target does not matter). Lower is better. NaN if a point is NaN.
    """
    predicted, reference = as_float(predicted), as_float(reference)
    spacing = jnp.asarray(spacing, predicted.dtype).reshape((-1, 1, predicted.shape[-1]))
    predicted, reference = predicted * spacing, reference * spacing
    there = jnp.mean(jax.vmap(_to_polyline)(predicted, reference), axis=-1)
    back = jnp.mean(jax.vmap(_to_polyline)(reference, predicted), axis=-1)
    return (there + back) / 2


@jax.jit
def centreline_overlap(
    predicted: jax.Array, reference: jax.Array, *, spacing, radius: jax.Array | float
) -> jax.Array:
    """Share of vertices of both lines within `radius` mm of the other: `(B,)`, in [0, 1], higher is better.

    The overlap of the coronary centreline challenge (Schaap et al. 2009) with one vessel radius for a case.
    """
    predicted, reference = as_float(predicted), as_float(reference)
    spacing = jnp.asarray(spacing, predicted.dtype).reshape((-1, 1, predicted.shape[-1]))
    predicted, reference = predicted * spacing, reference * spacing
    there = jax.vmap(_to_polyline)(predicted, reference)
    back = jax.vmap(_to_polyline)(reference, predicted)
    radius = jnp.asarray(radius, there.dtype).reshape(-1, 1)
    near = jnp.concatenate([there <= radius, back <= radius], axis=1).astype(there.dtype)
    valid = all_finite_points(predicted) & all_finite_points(reference)
    return undefined_unless(valid, jnp.mean(near, axis=1))


def all_finite_points(points: jax.Array) -> jax.Array:
    """Whether every coordinate of each case's points is finite, `(B,)`."""
    return jnp.all(jnp.isfinite(points), case_axes(points))
