"""Detection of lesions at points: matching candidates to lesions, and the free-response ROC curve."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medgan_jax.errors import UserError


@dataclass(frozen=True)
class Matches:
    """One case: each candidate's score and the lesion it hits (-1 for none), and how many lesions there
    are."""

    scores: np.ndarray
    lesions: np.ndarray
    n_lesions: int


@dataclass(frozen=True)
class Froc:
    """Points of the curve for descending thresholds: false positives per image, share of lesions found,
    threshold."""

    false_positives: np.ndarray
    sensitivity: np.ndarray
    thresholds: np.ndarray
    n_images: int
    n_lesions: int


def _points(name: str, points, rank: int) -> np.ndarray:
    points = np.asarray(points, float)
    if points.size == 0:
        return np.zeros((0, rank))
    if points.ndim != 2 or points.shape[1] != rank:
        raise UserError(f"the {name} must be (N, {rank}) positions for {rank} spacings, not {points.shape}")
    if not np.isfinite(points).all():
        raise UserError(f"the {name} hold positions that are not finite")
    return points


def match_points(candidates, scores, lesions, *, spacing, tolerance) -> Matches:
    """Candidates of one case matched to the nearest lesion centre within `tolerance` mm.

    `candidates` `(N, rank)` and `lesions` `(M, rank)` are in voxels, `spacing` `(rank,)` in mm; `tolerance`
    is one distance, or one radius for each lesion as in LUNA16. The criterion decides the curve, so it is
    stated.
    """
    spacing, tolerance = np.asarray(spacing, float), np.asarray(tolerance, float)
    if spacing.ndim != 1 or not (spacing > 0).all() or not (tolerance >= 0).all():
        raise UserError(
            "spacing must hold a positive value in mm for each axis, and tolerance be 0 mm or more"
        )
    candidates, lesions = (
        _points("candidates", candidates, spacing.size),
        _points("lesions", lesions, spacing.size),
    )
    scores = np.asarray(scores, float).ravel()
    if scores.size != len(candidates) or not np.isfinite(scores).all():
        raise UserError(f"{len(candidates)} candidates need as many finite scores; got {scores.size}")
    if tolerance.shape not in ((), (len(lesions),)):
        raise UserError(
            f"tolerance is one distance or one per lesion ({len(lesions)}), not {tolerance.shape}"
        )
    if not len(lesions) or not len(candidates):
        return Matches(scores, np.full(len(candidates), -1), len(lesions))
    distance = np.linalg.norm((candidates[:, None] - lesions[None]) * spacing, axis=-1)
    distance = np.where(distance <= np.broadcast_to(tolerance, len(lesions)), distance, np.inf)
    nearest = distance.argmin(axis=1)
    return Matches(scores, np.where(np.isfinite(distance.min(axis=1)), nearest, -1), len(lesions))


def match_components(score_map, lesion_labels, *, threshold: float) -> Matches:
    """Candidates of one case as the connected components of `score_map >= threshold`, `(H, W)` or `(D, H,
    W)`.

    A component (touching by faces) scores its maximum and hits the lesion of `lesion_labels` (0 background,
    1..M) that it overlaps most; one that touches no lesion is false.
    """
    score_map, given = np.asarray(score_map, float), np.asarray(lesion_labels, float)
    if score_map.shape != given.shape or not np.isfinite(score_map).all() or np.isnan(threshold):
        raise UserError(
            f"the score map {score_map.shape} must be finite and of the labels' shape {given.shape}"
        )
    if not np.isfinite(given).all() or (given < 0).any() or (given != np.floor(given)).any():
        raise UserError("the lesion labels must be whole numbers from 0 up")
    labels = given.astype(int)
    components, count = ndimage.label(score_map >= threshold)
    present = np.unique(labels[labels > 0])
    scores, hits = [], []
    for index, box in enumerate(ndimage.find_objects(components), start=1):
        inside = components[box] == index
        scores.append(score_map[box][inside].max())
        overlap = np.bincount(np.searchsorted(present, labels[box][inside & (labels[box] > 0)]), minlength=1)
        hits.append(int(overlap.argmax()) if overlap.any() else -1)
    return Matches(np.array(scores, float), np.array(hits, int).reshape(count), present.size)


def froc(cases: Sequence[Matches]) -> Froc:
    """Free-response ROC over cases: sensitivity per lesion against false positives per image (Bunch et al.
    1978).

    A lesion is found at a threshold when any candidate on it scores at least that; further candidates on a
    found lesion count neither way. Cases without lesions count as images. Sensitivity is NaN without any
    lesion.
    """
    if not cases:
        raise UserError("a FROC curve needs at least one case")
    n_lesions = sum(case.n_lesions for case in cases)
    false = np.concatenate([case.scores[case.lesions < 0] for case in cases])
    best = [
        case.scores[case.lesions == lesion].max()
        for case in cases
        for lesion in range(case.n_lesions)
        if (case.lesions == lesion).any()
    ]
    found = np.array(best, float)
    thresholds = np.unique(np.concatenate([false, found]))[::-1]
    thresholds = np.concatenate([[np.inf], thresholds])
    count = lambda values: values.size - np.searchsorted(np.sort(values), thresholds, side="left")  # noqa: E731
    sensitivity = count(found) / n_lesions if n_lesions else np.full(thresholds.size, np.nan)
    return Froc(count(false) / len(cases), sensitivity, thresholds, len(cases), n_lesions)


def sensitivity_at(curve: Froc, rates) -> np.ndarray:
    """Sensitivity at each rate of false positives per image, `max {TPR: FPPI <= rate}`: `(rates,)`, in [0,
    1].

    Higher is better: the points of a FROC curve that papers print (Bunch et al. 1978). The highest the curve
    reaches without exceeding the rate; nothing is interpolated, which would credit thresholds that do not
    exist.
    """
    if not (np.asarray(rates, float) >= 0).all() or np.size(rates) == 0:
        raise UserError(f"rates must be false positives per image, 0 or more, not {rates}")
    reached = [curve.sensitivity[curve.false_positives <= rate].max() for rate in np.atleast_1d(rates)]
    return np.array(reached)


LUNA16_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def froc_score(curve: Froc, *, rates) -> float:
    """Mean of `sensitivity_at` the given rates of false positives per image: in [0, 1], higher is better.

    The competition metric of LUNA16 with `LUNA16_RATES` (Setio et al. 2017), read off the steps of the curve
    without interpolation between them.
    """
    return float(np.mean(sensitivity_at(curve, rates)))
