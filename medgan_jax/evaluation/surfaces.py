"""Distances between the surfaces of two masks, in mm: Hausdorff, average surface distances, surface Dice.

Every metric takes `(prediction, reference)`, binary, `(B, H, W, 1)` or `(B, D, H, W, 1)`, and returns `(B,)`
in float64. What makes published numbers disagree is an argument: `spacing` (mm along each spatial axis, in
the order of the axes, `(rank,)` or `(B, rank)`), `boundary`, `percentile` with its `definition`, and
`empty_policy`.

`boundary` names the points that make a surface:

- `'erosion1'`: foreground voxels with a background neighbour across a face (the mask less its erosion by the
  1-connected cross; outside the image is background). MedPy, MONAI and MetricsReloaded do this.
- `'surfel'`: voxel corners where the 2 x 2 (x 2) neighbours differ, weighted by the length or area of the
  surface through them. DeepMind's surface-distance does this; means and percentiles are then over area.

`empty_policy`: `'nan'` (an empty mask has no surface: exclude the case, and count it), `'best_worst'` (both
empty: 0 mm; one empty: the diagonal of the image in mm; surface Dice 1 and 0), `'strict'` (raises).

Memory: masks are cropped to the box of both objects, and nearest points are found in a k-d tree of the
surface, so what is held grows with the surface and not with the volume.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from medgan_jax.errors import UserError
from medgan_jax.evaluation.surfels import surfel_weights

EMPTY_POLICIES = ("nan", "best_worst", "strict")
BOUNDARIES = ("erosion1", "surfel")
DEFINITIONS = ("max_of_directed", "pooled")


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm from each surface point of either mask to the other surface, and the weights of the
    points."""

    to_reference: np.ndarray
    to_prediction: np.ndarray
    prediction_weights: np.ndarray
    reference_weights: np.ndarray


def _check_masks(prediction, reference) -> tuple[np.ndarray, np.ndarray]:
    prediction, reference = np.asarray(prediction), np.asarray(reference)
    if prediction.shape != reference.shape:
        raise UserError(
            f"prediction is {prediction.shape} but reference is {reference.shape}: give equal shapes"
        )
    if prediction.ndim not in (4, 5) or prediction.shape[-1] != 1:
        raise UserError(f"masks must be (B, H, W, 1) or (B, D, H, W, 1), not {prediction.shape}")
    for name, mask in (("prediction", prediction), ("reference", reference)):
        if mask.dtype != bool and not np.isin(np.unique(mask), (0, 1)).all():
            raise UserError(f"the {name} holds values other than 0 and 1: threshold it first")
    return prediction.astype(bool, copy=False), reference.astype(bool, copy=False)


def _check_spacing(spacing, batch: int, rank: int) -> np.ndarray:
    spacing = np.asarray(spacing, float)
    if spacing.shape not in ((rank,), (batch, rank)):
        raise UserError(
            f"spacing must hold {rank} values in mm (per case or for all), not shape {spacing.shape}"
        )
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise UserError(f"spacing must be positive, in mm, not {spacing.tolist()}")
    return np.broadcast_to(spacing, (batch, rank))


def _check_choice(name: str, value, choices) -> None:
    if value not in choices:
        raise UserError(f"{name} must be one of {', '.join(map(str, choices))}, not {value!r}")


def _bounding_box(mask: np.ndarray) -> list[tuple[int, int]]:
    """First and last index plus one of the foreground along every axis."""
    box = []
    for axis in range(mask.ndim):
        occupied = np.flatnonzero(mask.any(tuple(i for i in range(mask.ndim) if i != axis)))
        box.append((int(occupied[0]), int(occupied[-1]) + 1))
    return box


def _crop(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mask's box with a margin of one background voxel, and the index of its first voxel."""
    box = _bounding_box(mask)
    inner = mask[tuple(slice(low, high) for low, high in box)]
    return np.pad(inner, 1), np.array([low - 1 for low, _ in box])


def _erosion_border(mask: np.ndarray) -> np.ndarray:
    """Foreground voxels of a mask with a background margin that have a background neighbour across a face."""
    core = tuple(slice(1, -1) for _ in range(mask.ndim))
    inside = mask[core].copy()
    for axis in range(mask.ndim):
        for shift in (slice(0, -2), slice(2, None)):
            inside &= mask[(*core[:axis], shift, *core[axis + 1 :])]
    border = np.zeros_like(mask)
    border[core] = mask[core] & ~inside
    return border


def _neighbour_code(mask: np.ndarray) -> np.ndarray:
    """For every corner between voxels, the bits of the 2 x 2 (x 2) voxels around it, first voxel highest."""
    rank = mask.ndim
    code = np.zeros(tuple(n - 1 for n in mask.shape), np.uint8)
    for corner in np.ndindex(*(2,) * rank):
        view = mask[tuple(slice(c, c + n) for c, n in zip(corner, code.shape, strict=True))]
        bit = 2**rank - 1 - int(np.ravel_multi_index(corner, (2,) * rank))
        code |= view.astype(np.uint8) << bit
    return code


def _points(mask: np.ndarray, spacing: np.ndarray, boundary: str) -> tuple[np.ndarray, np.ndarray]:
    """Surface points in mm `(N, rank)` and their weights `(N,)`."""
    cropped, origin = _crop(mask)
    if boundary == "erosion1":
        index = np.argwhere(_erosion_border(cropped))
        return (index + origin) * spacing, np.ones(len(index))
    code = _neighbour_code(cropped)
    index = np.argwhere((code != 0) & (code != 2 ** (2**mask.ndim) - 1))
    weights = surfel_weights(mask.ndim, tuple(spacing))[code[tuple(index.T)]]
    return (index + origin + 0.5) * spacing, weights


def surface_distances(
    prediction: np.ndarray, reference: np.ndarray, *, spacing, boundary: str
) -> SurfaceDistances:
    """Distances in mm between the surfaces of two non-empty masks of one case, `(H, W)` or `(D, H, W)`."""
    spacing = np.asarray(spacing, float)
    prediction_points, prediction_weights = _points(np.asarray(prediction, bool), spacing, boundary)
    reference_points, reference_weights = _points(np.asarray(reference, bool), spacing, boundary)
    to_reference = KDTree(reference_points).query(prediction_points, workers=-1)[0]
    to_prediction = KDTree(prediction_points).query(reference_points, workers=-1)[0]
    return SurfaceDistances(to_reference, to_prediction, prediction_weights, reference_weights)


def _each_case(
    prediction, reference, spacing, boundary, empty_policy, measure, both_empty, one_empty
) -> np.ndarray:
    """`measure(SurfaceDistances)` for every case with two surfaces, and what the policy says for the
    others."""
    _check_choice("boundary", boundary, BOUNDARIES)

    def of_masks(a, b, step):
        return measure(surface_distances(a, b, spacing=step, boundary=boundary))

    return _each_pair(prediction, reference, spacing, empty_policy, of_masks, both_empty, one_empty)


def _each_pair(
    prediction, reference, spacing, empty_policy, measure, both_empty: float, one_empty: float | None
) -> np.ndarray:
    """`measure(a, b, spacing)` for every case with two objects; `one_empty=None` is the image's diagonal."""
    prediction, reference = _check_masks(prediction, reference)
    _check_choice("empty_policy", empty_policy, EMPTY_POLICIES)
    rank = prediction.ndim - 2
    spacing = _check_spacing(spacing, len(prediction), rank)
    values = np.full(len(prediction), np.nan)
    for i, (a, b, step) in enumerate(zip(prediction[..., 0], reference[..., 0], spacing, strict=True)):
        missing = (not a.any()) + (not b.any())
        if missing == 0:
            values[i] = measure(a, b, step)
        elif empty_policy == "strict":
            raise UserError(
                f"case {i} has an empty mask, which has no surface: leave it out or choose an empty_policy"
            )
        elif empty_policy == "best_worst":
            diagonal = float(np.linalg.norm((np.array(a.shape) - 1) * step))
            values[i] = both_empty if missing == 2 else (diagonal if one_empty is None else one_empty)
    return values


def _percentile(values: np.ndarray, weights: np.ndarray, percentile: float, boundary: str) -> float:
    """Linear-interpolated percentile of points; for surfels, the first distance that the share of area
    reaches."""
    if boundary == "erosion1":
        return float(np.percentile(values, percentile))
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / np.sum(weights)
    return float(values[order][min(np.searchsorted(share, percentile / 100), len(values) - 1)])


def hausdorff(
    prediction,
    reference,
    *,
    spacing,
    percentile: float | None,
    definition: str,
    boundary: str,
    empty_policy: str,
) -> np.ndarray:
    """Hausdorff distance of two surfaces, `max(max d_AB, max d_BA)`: `(B,)` in mm, in [0, inf), lower is
    better.

    `percentile=None` is the maximum; 95 is HD95, of which there are two: `definition='max_of_directed'` (the
    larger of the two directed percentiles: MONAI, MetricsReloaded, DeepMind) and `'pooled'` (the percentile
    of both directions together: MedPy). They differ; for the maximum they agree. One stray voxel sets the
    maximum (Huttenlocher et al. 1993; how tools disagree: Podobnik and Vrtovec 2024).
    """
    _check_choice("definition", definition, DEFINITIONS)
    if percentile is not None and not 0 < percentile <= 100:
        raise UserError(f"percentile must be None (the maximum) or within (0, 100], not {percentile}")

    def measure(d: SurfaceDistances) -> float:
        if percentile is None:
            return float(max(d.to_reference.max(), d.to_prediction.max()))
        if definition == "pooled":
            values = np.concatenate([d.to_reference, d.to_prediction])
            weights = np.concatenate([d.prediction_weights, d.reference_weights])
            return _percentile(values, weights, percentile, boundary)
        pairs = ((d.to_reference, d.prediction_weights), (d.to_prediction, d.reference_weights))
        return max(_percentile(values, weights, percentile, boundary) for values, weights in pairs)

    return _each_case(prediction, reference, spacing, boundary, empty_policy, measure, 0.0, None)


def _weighted_means(d: SurfaceDistances) -> tuple[float, float]:
    return (
        float(np.average(d.to_reference, weights=d.prediction_weights)),
        float(np.average(d.to_prediction, weights=d.reference_weights)),
    )


def asd(prediction, reference, *, spacing, boundary: str, empty_policy: str) -> np.ndarray:
    """Average surface distance, `mean d_AB`, from the prediction A to the reference B: `(B,)` in mm, in [0,
    inf).

    Lower is better (Heimann et al. 2009, one direction). Missing parts of the reference cost nothing in this
    direction: `assd` and `masd` are symmetric.
    """
    measure = lambda d: _weighted_means(d)[0]  # noqa: E731
    return _each_case(prediction, reference, spacing, boundary, empty_policy, measure, 0.0, None)


def masd(prediction, reference, *, spacing, boundary: str, empty_policy: str) -> np.ndarray:
    """Mean of the two directed average surface distances, `(mean d_AB + mean d_BA) / 2`: `(B,)` in mm.

    In [0, inf), lower is better; MASD of Metrics Reloaded (Maier-Hein et al. 2024). Both directions weigh the
    same, unlike in `assd`, where the larger surface counts more.
    """
    measure = lambda d: sum(_weighted_means(d)) / 2  # noqa: E731
    return _each_case(prediction, reference, spacing, boundary, empty_policy, measure, 0.0, None)


def msd(prediction, reference, *, spacing, boundary: str, empty_policy: str) -> np.ndarray:
    """Mean surface distance of the review (Kazeminia et al. 2020, Table 1), here `(mean d_AB + mean d_BA) /
    2`.

    `(B,)` in mm, in [0, inf), lower is better. The name is ambiguous in the literature, where it is directed
    as often as not: this is `masd`, and `asd` the directed one. Say which.
    """
    return masd(prediction, reference, spacing=spacing, boundary=boundary, empty_policy=empty_policy)


def assd(prediction, reference, *, spacing, boundary: str, empty_policy: str) -> np.ndarray:
    """Average symmetric surface distance, `(sum d_AB + sum d_BA) / (|A| + |B|)`: `(B,)` in mm, in [0, inf).

    Lower is better (Heimann et al. 2009). The review's ASD. Both directions are pooled, so the larger surface
    counts more than in `masd`.
    """

    def measure(d: SurfaceDistances) -> float:
        total = np.sum(d.to_reference * d.prediction_weights) + np.sum(d.to_prediction * d.reference_weights)
        return float(total / (np.sum(d.prediction_weights) + np.sum(d.reference_weights)))

    return _each_case(prediction, reference, spacing, boundary, empty_policy, measure, 0.0, None)


def nsd(prediction, reference, *, spacing, tolerance: float, boundary: str, empty_policy: str) -> np.ndarray:
    """Normalised surface distance (surface Dice) at `tolerance` mm: `(B,)`, in [0, 1], higher is better.

    The share of both surfaces that lies within the tolerance of the other (Nikolov et al. 2018, by area with
    `boundary='surfel'`). Choose the tolerance from the disagreement of human readers.
    """
    if not tolerance >= 0:
        raise UserError(f"tolerance must be a distance in mm, not {tolerance}")

    def measure(d: SurfaceDistances) -> float:
        near = np.sum(d.prediction_weights[d.to_reference <= tolerance])
        near += np.sum(d.reference_weights[d.to_prediction <= tolerance])
        return float(near / (np.sum(d.prediction_weights) + np.sum(d.reference_weights)))

    return _each_case(prediction, reference, spacing, boundary, empty_policy, measure, 1.0, 0.0)


def boundary_iou(prediction, reference, *, spacing, distance: float, empty_policy: str) -> np.ndarray:
    """Boundary IoU (Cheng et al. 2021): `(B,)`, in [0, 1], higher is better.

    `|A_d n B_d| / |A_d u B_d|`, where `A_d` are the voxels of A whose nearest background voxel (outside the
    image is background) lies within `distance` mm. Plain IoU forgets the contour of large objects; this one
    forgets their inside. The paper counts the distance in steps of a square, this function in mm along a
    straight line; at one voxel of equal spacing `A_d` is the border of MetricsReloaded's `boundary_iou`.
    """
    if not distance > 0:
        raise UserError(f"distance must be positive, in mm, not {distance}")

    def measure(a: np.ndarray, b: np.ndarray, step: np.ndarray) -> float:
        box = tuple(slice(low, high) for low, high in _bounding_box(a | b))
        strips = [_strip(mask[box], step, distance) for mask in (a, b)]
        return float((strips[0] & strips[1]).sum() / (strips[0] | strips[1]).sum())

    return _each_pair(prediction, reference, spacing, empty_policy, measure, 1.0, 0.0)


def _strip(mask: np.ndarray, spacing: np.ndarray, distance: float) -> np.ndarray:
    """Voxels of a mask within `distance` mm of the background, which surrounds the image."""
    depth = distance_transform_edt(np.pad(mask, 1), sampling=spacing)[(slice(1, -1),) * mask.ndim]
    return mask & (depth <= distance)
