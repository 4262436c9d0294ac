"""Object-level scores of instance segmentation as the GlaS challenge defines them: F1, object Dice, object
Hausdorff.

Label maps `(B, H, W, 1)` or `(B, D, H, W, 1)` hold 0 for background and one number for each object; touching
objects stay apart because their numbers differ, so never pass a relabelled mask. Every score comes in two
forms: `(B,)` per image, and with `pooled=True` one number over the objects of all images together, which is
what the challenge ranks (Sirinukunwattana et al. 2017). An object's mate is the object of the other map with
the largest overlap; background is never a mate.

`empty_policy` for images (or, pooled, sets) without objects: `'nan'` leaves undefined what has no value (both
sides empty; for distances one side too), `'best_worst'` is the challenge's 1 for F1 and Dice and 0 mm where
both sides are empty, and 0 or the image's diagonal where one is (the challenge's code has infinity, which
poisons means), `'strict'` raises.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.spatial import KDTree

from medgan_jax.errors import UserError

EMPTY_POLICIES = ("nan", "best_worst", "strict")


@dataclass(frozen=True)
class _Image:
    """The objects of one image: sizes `(S,)` and `(G,)`, overlaps `(S, G)` in voxels, and their points in
    mm."""

    prediction_sizes: np.ndarray
    reference_sizes: np.ndarray
    overlap: np.ndarray
    prediction_points: list[np.ndarray]
    reference_points: list[np.ndarray]
    diagonal: float


def _check_labels(prediction, reference) -> tuple[np.ndarray, np.ndarray]:
    prediction, reference = np.asarray(prediction), np.asarray(reference)
    if prediction.shape != reference.shape:
        raise UserError(
            f"prediction is {prediction.shape} but reference is {reference.shape}: give equal shapes"
        )
    if prediction.ndim not in (4, 5) or prediction.shape[-1] != 1:
        raise UserError(f"label maps must be (B, H, W, 1) or (B, D, H, W, 1), not {prediction.shape}")
    checked = []
    for name, labels in (("prediction", prediction), ("reference", reference)):
        if not np.isfinite(labels).all() or (labels < 0).any() or (labels != np.floor(labels)).any():
            raise UserError(f"the {name} must hold whole object numbers from 0 up")
        checked.append(labels.astype(np.int64))
    return checked[0], checked[1]


def _split(labels: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Compact labels (background 0), sizes of the objects, and the points of each in mm."""
    compact = np.unique(np.append(labels.ravel(), 0), return_inverse=True)[1][:-1]
    sizes = np.bincount(compact)[1:] if compact.any() else np.zeros(0, int)
    order = np.argsort(compact, kind="stable")[compact.size - sizes.sum() :]
    points = np.stack(np.unravel_index(order, labels.shape), axis=1) * spacing
    return compact, sizes, np.split(points, np.cumsum(sizes)[:-1]) if sizes.size else []


def _image(prediction: np.ndarray, reference: np.ndarray, spacing: np.ndarray) -> _Image:
    a, a_sizes, a_points = _split(prediction, spacing)
    b, b_sizes, b_points = _split(reference, spacing)
    table = coo_matrix(
        (np.ones(a.size, np.int64), (a, b)), shape=(a_sizes.size + 1, b_sizes.size + 1)
    ).toarray()
    diagonal = float(np.linalg.norm((np.array(prediction.shape) - 1) * spacing))
    return _Image(a_sizes, b_sizes, table[1:, 1:], a_points, b_points, diagonal)


def _images(prediction, reference, spacing, empty_policy) -> list[_Image]:
    prediction, reference = _check_labels(prediction, reference)
    if empty_policy not in EMPTY_POLICIES:
        raise UserError(f"empty_policy must be one of {', '.join(EMPTY_POLICIES)}, not {empty_policy!r}")
    rank = prediction.ndim - 2
    spacing = np.asarray(spacing, float)
    if spacing.shape != (rank,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise UserError(f"spacing must hold {rank} positive values in mm, not {spacing.tolist()}")
    return [_image(a[..., 0], b[..., 0], spacing) for a, b in zip(prediction, reference, strict=True)]


def _score(
    images, pooled: bool, empty_policy: str, measure, both_empty: float, one_empty: float | None, formula=None
):
    """`measure(images)` for each image or for all together, with what the policy says where objects are
    missing."""
    values = []
    for group in [images] if pooled else [[image] for image in images]:
        sides = [sum(x.prediction_sizes.size for x in group), sum(x.reference_sizes.size for x in group)]
        if all(sides):
            values.append(measure(group))
        elif empty_policy == "strict":
            raise UserError("a label map has no objects: leave the case out or choose another empty_policy")
        elif any(sides) and formula is not None:
            values.append(formula)
        elif empty_policy == "nan":
            values.append(np.nan)
        else:
            worst = max(image.diagonal for image in group) if one_empty is None else one_empty
            values.append(worst if any(sides) else both_empty)
    return float(values[0]) if pooled else np.array(values, float)


def object_f1(prediction, reference, *, empty_policy: str, pooled: bool = False) -> np.ndarray | float:
    """F1 of detected objects, in [0, 1], higher is better (GlaS: Sirinukunwattana et al. 2017).

    A predicted object is true if it covers at least half of its mate, else false; a reference object that no
    predicted one covers to half is missed. `2 P R / (P + R)` of these counts. 0 when one side is empty.
    """
    images = _images(prediction, reference, np.ones(np.ndim(prediction) - 2), empty_policy)

    def measure(group: list[_Image]) -> float:
        true = predicted = found = wanted = 0
        for image in group:
            predicted, wanted = predicted + image.prediction_sizes.size, wanted + image.reference_sizes.size
            if image.overlap.size:
                mates = image.overlap.argmax(axis=1)
                hit = image.overlap.max(axis=1) >= 0.5 * image.reference_sizes[mates]
                true, found = true + hit.sum(), found + np.unique(mates[hit]).size
        missed = wanted - found
        precision, recall = true / predicted, true / max(true + missed, 1)
        return 2 * precision * recall / (precision + recall) if true else 0.0

    return _score(images, pooled, empty_policy, measure, 1.0, 0.0, formula=0.0)


def _weighted_both_ways(group: list[_Image], of_predicted, of_reference) -> float:
    """Half the sum of the size-weighted means over predicted and over reference objects."""
    total = 0.0
    for sizes_name, values_of in (("prediction_sizes", of_predicted), ("reference_sizes", of_reference)):
        sizes = np.concatenate([getattr(image, sizes_name) for image in group])
        values = np.concatenate([values_of(image) for image in group])
        total += 0.5 * float(np.sum(sizes * values) / np.sum(sizes))
    return total


def _mate_dice(overlap: np.ndarray, sizes: np.ndarray, mate_sizes: np.ndarray) -> np.ndarray:
    if not overlap.size:
        return np.zeros(sizes.size)
    mates = overlap.argmax(axis=1)
    # Without any overlap the first object would be the "mate", and its Dice is 0, as it should be.
    return 2 * overlap.max(axis=1) / (sizes + mate_sizes[mates])


def object_dice(prediction, reference, *, empty_policy: str, pooled: bool = False) -> np.ndarray | float:
    """Object Dice, in [0, 1], higher is better: Dice of every object with its mate, weighted by size, both
    ways.

    `1/2 [sum_i |S_i|/|S| Dice(S_i, G*) + sum_j |G_j|/|G| Dice(G_j, S*)]`; an object without a mate scores 0
    (GlaS: Sirinukunwattana et al. 2017). Relabelling touching objects by components changes it.
    """
    images = _images(prediction, reference, np.ones(np.ndim(prediction) - 2), empty_policy)

    def measure(group: list[_Image]) -> float:
        return _weighted_both_ways(
            group,
            lambda image: _mate_dice(image.overlap, image.prediction_sizes, image.reference_sizes),
            lambda image: _mate_dice(image.overlap.T, image.reference_sizes, image.prediction_sizes),
        )

    return _score(images, pooled, empty_policy, measure, 1.0, 0.0, formula=0.0)


def object_hausdorff(
    prediction, reference, *, spacing, empty_policy: str, pooled: bool = False
) -> np.ndarray | float:
    """Object Hausdorff distance in mm, in [0, inf), lower is better: the review's OH.

    Of GlaS (Sirinukunwattana et al. 2017). Weighted as `object_dice`, with the Hausdorff distance over all
    voxels of an object and its mate (not over contours); where nothing overlaps, the mate is the object at
    the smallest Hausdorff distance. Pooled, an object in an image without any object of the other side counts
    as the image's diagonal. `spacing` is `(rank,)` mm.
    """
    images = _images(prediction, reference, spacing, empty_policy)

    def measure(group: list[_Image]) -> float:
        return _weighted_both_ways(
            group,
            lambda image: _mate_hausdorff(
                image.overlap, image.prediction_points, image.reference_points, image.diagonal
            ),
            lambda image: _mate_hausdorff(
                image.overlap.T, image.reference_points, image.prediction_points, image.diagonal
            ),
        )

    return _score(images, pooled, empty_policy, measure, 0.0, None)


def _mate_hausdorff(
    overlap, objects: list[np.ndarray], others: list[np.ndarray], diagonal: float
) -> np.ndarray:
    if not others:
        return np.full(len(objects), diagonal)
    trees = [KDTree(points) for points in others]
    extents = np.array([np.concatenate([points.min(0), points.max(0)]) for points in others])
    values = []
    for row, points in zip(overlap, objects, strict=True):
        tree = KDTree(points)
        if row.any():
            mate = int(row.argmax())
            values.append(_hausdorff(points, tree, others[mate], trees[mate]))
            continue
        # Extents give a lower bound, so that only the nearest few objects are measured.
        bounds = np.abs(extents - np.concatenate([points.min(0), points.max(0)])).max(axis=1)
        best = np.inf
        for candidate in np.argsort(bounds):
            if bounds[candidate] >= best:
                break
            best = min(best, _hausdorff(points, tree, others[candidate], trees[candidate]))
        values.append(best)
    return np.array(values)


def _hausdorff(a: np.ndarray, a_tree: KDTree, b: np.ndarray, b_tree: KDTree) -> float:
    return float(max(b_tree.query(a)[0].max(), a_tree.query(b)[0].max()))
