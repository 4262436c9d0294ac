"""Clinical quantities of segmentations and landmarks: areas, volumes, ejection fraction, ratios,
identification.

Masks are binary, `(B, H, W, 1)` or `(B, D, H, W, 1)`; values are per case, `(B,)`, in physical units. A mask
with values other than 0 and 1 has no area, and scores NaN.
"""

from functools import partial

import jax
import jax.numpy as jnp

from medgan_jax.metrics.checks import (
    all_finite,
    as_float,
    case_axes,
    divide,
    finite_or_nan,
    square_root,
    undefined_unless,
)


def _is_mask(mask: jax.Array) -> jax.Array:
    """Whether each case holds nothing but 0 and 1, `(B,)`."""
    return jnp.all((mask == 0) | (mask == 1), case_axes(mask))


def _sizes(mask: jax.Array) -> jax.Array:
    mask = as_float(mask)
    size = jnp.sum(mask == 1, case_axes(mask), dtype=jnp.int32).astype(mask.dtype)
    return undefined_unless(_is_mask(mask), size)


def _two_masks(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    first, second = as_float(first), as_float(second)
    if first.shape != second.shape:
        raise ValueError(f"masks must have one shape, not {first.shape} and {second.shape}")
    if first.ndim not in (4, 5):
        raise ValueError(f"masks must be (B, H, W, 1) or (B, D, H, W, 1), not {first.shape}")
    return first, second


def _millimetres(first: jax.Array, second: jax.Array, spacing) -> tuple[jax.Array, jax.Array]:
    """Two sets of points `(B, N, rank)`, `(B, M, rank)` in mm; NaN for a spacing that is none."""
    first, second = as_float(first), as_float(second)
    if first.ndim != 3 or second.ndim != 3 or first.shape[::2] != second.shape[::2]:
        raise ValueError(
            f"points must be (B, N, rank) and (B, M, rank), not {first.shape} and {second.shape}"
        )
    spacing = jnp.asarray(spacing, first.dtype)
    if spacing.shape[-1:] != first.shape[-1:]:
        raise ValueError(f"spacing {spacing.shape} does not fit points of rank {first.shape[-1]}")
    spacing = spacing.reshape((-1, 1, first.shape[-1]))
    spacing = undefined_unless(jnp.all(spacing > 0, axis=-1, keepdims=True), spacing)
    return first * spacing, second * spacing


def _product(spacing, rank: int) -> jax.Array:
    spacing = jnp.asarray(spacing, jnp.float32)
    if spacing.shape[-1:] != (rank,):
        raise ValueError(f"spacing must hold {rank} values in mm, not shape {spacing.shape}")
    return undefined_unless(jnp.all(spacing > 0, axis=-1), jnp.prod(spacing, axis=-1))


def area(mask: jax.Array, *, spacing) -> jax.Array:
    """Area of each mask `(B, H, W, 1)`, `pixels dy dx`: `(B,)` in mm^2, in [0, inf), no direction.

    `spacing` is `(dy, dx)`, `(2,)` or `(B, 2)`, in mm: pixels are not mm^2, and scanners differ. The quantity
    of the review's "infarct size" (Kazeminia et al. 2020, Table 1).
    """
    if jnp.ndim(mask) != 4:
        raise ValueError(f"an area is of masks (B, H, W, 1), not {jnp.shape(mask)}")
    return _sizes(mask) * _product(spacing, 2)


def volume(mask: jax.Array, *, spacing, slice_gap: jax.Array | float) -> jax.Array:
    """Volume of each mask `(B, D, H, W, 1)`, `sum_slices area (thickness + gap)`: `(B,)` in ml, in [0, inf).

    Simpson's sum of discs, as in cardiac MR (Schulz-Menger et al. 2020); no direction. `spacing` is
    `(thickness, dy, dx)` in mm, `(3,)` or `(B, 3)`; `slice_gap` in mm is 0 where slices touch. Cine stacks
    leave gaps of up to 10 mm: dropping them falsifies volumes, though not ejection fractions.
    """
    if jnp.ndim(mask) != 5:
        raise ValueError(f"a volume is of masks (B, D, H, W, 1), not {jnp.shape(mask)}")
    spacing = jnp.asarray(spacing, jnp.float32)
    pixel = _product(spacing[..., 1:], 2)
    height = spacing[..., 0] + slice_gap
    return _sizes(mask) * pixel * undefined_unless((spacing[..., 0] > 0) & (height > 0), height) / 1000.0


def ejection_fraction(end_diastolic: jax.Array, end_systolic: jax.Array) -> jax.Array:
    """Ejection fraction, `100 (EDV - ESV) / EDV` elementwise: in %, at most 100, no direction.

    Volumes in any one unit, equal shapes; NaN for an empty diastole and for volumes below 0. The quantity of
    the review's "correlation of EF" (Kazeminia et al. 2020, Table 1). Compare methods by the report of
    `medgan_jax.evaluation.agreement.agreement_report`: correlation hides bias.
    """
    end_diastolic, end_systolic = as_float(end_diastolic), as_float(end_systolic)
    if end_diastolic.shape != end_systolic.shape:
        raise ValueError(f"{end_diastolic.shape} diastoles against {end_systolic.shape} systoles")
    fraction = 100 * divide(end_diastolic - end_systolic, end_diastolic)
    return finite_or_nan(undefined_unless((end_diastolic >= 0) & (end_systolic >= 0), fraction))


def area_error(prediction: jax.Array, reference: jax.Array, *, spacing) -> jax.Array:
    """Area error, `|A_prediction - A_reference|`, of masks `(B, H, W, 1)`: `(B,)` in mm^2, in [0, inf).

    Lower is better. The mean over patients is the "MAE of infarct size" (Kazeminia et al. 2020, Table 1):
    `area_mae` averages a patient's slices first. Two disjoint masks of equal area score 0: report an overlap
    beside it.
    """
    prediction, reference = _two_masks(prediction, reference)
    return jnp.abs(area(prediction, spacing=spacing) - area(reference, spacing=spacing))


@partial(jax.jit, static_argnames=("n_patients",))
def area_mae(
    prediction: jax.Array, reference: jax.Array, *, spacing, patients: jax.Array, n_patients: int
) -> jax.Array:
    """Mean absolute area error of each patient, `mean_slices |A - A_ref|`: `(n_patients,)` in mm^2, in [0,
    inf).

    Lower is better. Slices `(B, H, W, 1)` belong to `patients`, indices `(B,)` in `0 .. n_patients - 1`: a
    mean over slices would weigh patients by their number of slices. A patient without slices is NaN. The
    average over patients is the review's "MAE of infarct size" (Kazeminia et al. 2020, Table 1).
    """
    errors = area_error(prediction, reference, spacing=spacing)
    patients = jnp.asarray(patients)
    if patients.shape != errors.shape or not jnp.issubdtype(patients.dtype, jnp.integer):
        raise ValueError(f"patients must be an index for each of {errors.shape} slices, not {patients.shape}")
    known = (patients >= 0) & (patients < n_patients)
    zeros = jnp.zeros(n_patients, errors.dtype)
    sums = zeros.at[patients].add(jnp.where(known, errors, 0), mode="drop")
    counts = zeros.at[patients].add(known.astype(errors.dtype), mode="drop")
    return undefined_unless(jnp.all(known), divide(sums, counts))


def infarct_share(infarct: jax.Array, myocardium: jax.Array) -> jax.Array:
    """Infarct size, `100 |infarct n myocardium| / |myocardium|`: `(B,)` in %, in [0, 100], no
    direction.

    Masks `(B, [D], H, W, 1)` of equal shape. Infarct outside the myocardium does not count, so report the
    overlap of the myocardium too. Late-enhancement CMR reports this share (Kim et al. 1999). NaN without
    myocardium.
    """
    infarct, myocardium = _two_masks(infarct, myocardium)
    share = 100 * divide(_sizes(infarct * myocardium), _sizes(myocardium))
    return undefined_unless(_is_mask(infarct), share)


def cup_to_disc_ratio(cup: jax.Array, disc: jax.Array) -> jax.Array:
    """Vertical cup-to-disc ratio, `height(cup) / height(disc)`, of masks `(B, H, W, 1)`: `(B,)`, in [0, inf).

    Dimensionless, no direction; NaN without disc. The absolute difference of two ratios is the error that
    glaucoma screening reports (REFUGE, Orlando et al. 2020). A single stray pixel changes a height: keep the
    largest component first.
    """
    cup, disc = _two_masks(cup, disc)
    if cup.ndim != 4:
        raise ValueError(f"cup and disc are (B, H, W, 1), not {cup.shape}")
    return undefined_unless(_is_mask(cup) & _is_mask(disc), divide(_height(cup), _height(disc)))


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
    absent in the reference is NaN, absent in the prediction only is 0. A case with an infinite coordinate or
    a spacing that is not positive is NaN.
    """
    if jnp.shape(predicted) != jnp.shape(reference):
        raise ValueError(f"points must be (B, N, rank) twice, not {predicted.shape} and {reference.shape}")
    sound = ~jnp.any(jnp.isinf(as_float(predicted)) | jnp.isinf(as_float(reference)), axis=(1, 2))
    valid = sound & jnp.all(jnp.asarray(spacing) > 0, axis=-1) & (tolerance >= 0)
    predicted, reference = _millimetres(predicted, reference, spacing)
    offset = predicted[:, :, None] - reference[:, None]
    distance = square_root(jnp.sum(jnp.square(offset), axis=-1))
    distance = jnp.where(jnp.isnan(distance), jnp.inf, distance)
    own = jnp.diagonal(distance, axis1=1, axis2=2)
    hit = (own <= tolerance) & (own <= jnp.min(distance, axis=-1))
    present = ~jnp.any(jnp.isnan(reference), axis=-1)
    return undefined_unless(present & valid[:, None], hit.astype(predicted.dtype))


def identification_rate(
    predicted: jax.Array, reference: jax.Array, *, spacing, tolerance: float
) -> jax.Array:
    """Identification rate, `hits / reference points`, of labelled points: `(B,)`, in [0, 1], higher is
    better.

    By the rule of `identification` (Glocker et al. 2012), which a point next to the wrong vertebra fails
    however near it is. Points absent from the reference do not count; those the prediction leaves out do.
    """
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
    """Mean symmetric distance of two polylines, `(mean d(P, R) + mean d(R, P)) / 2`: `(B,)` in mm, in [0,
    inf).

    Lines `(B, N, rank)` and `(B, M, rank)` in voxels. Lower is better. From either line's vertices to the
    other line's segments, not only its vertices, so the sampling of the target does not matter; after the
    average distance of the coronary challenge (Schaap et al. 2009). NaN if a point is NaN.
    """
    predicted, reference = _millimetres(predicted, reference, spacing)
    there = jnp.mean(jax.vmap(_to_polyline)(predicted, reference), axis=-1)
    back = jnp.mean(jax.vmap(_to_polyline)(reference, predicted), axis=-1)
    return undefined_unless(all_finite(predicted, reference), (there + back) / 2)


@jax.jit
def centreline_overlap(
    predicted: jax.Array, reference: jax.Array, *, spacing, radius: jax.Array | float
) -> jax.Array:
    """Overlap of two polylines, `#{vertices within radius of the other line} / #{vertices}`: `(B,)`, in [0,
    1].

    Higher is better. The overlap of the coronary centreline challenge (Schaap et al. 2009) with one vessel
    `radius` in mm for a case; NaN if a point is NaN. Vertices count, so resample both lines evenly first.
    """
    predicted, reference = _millimetres(predicted, reference, spacing)
    there = jax.vmap(_to_polyline)(predicted, reference)
    back = jax.vmap(_to_polyline)(reference, predicted)
    radius = jnp.asarray(radius, there.dtype).reshape(-1, 1)
    near = jnp.concatenate([there <= radius, back <= radius], axis=1).astype(there.dtype)
    valid = all_finite(predicted, reference) & (radius[:, 0] >= 0)
    return undefined_unless(valid, jnp.mean(near, axis=1))
