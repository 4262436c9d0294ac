"""Whether images show a lesion, at a known place or anywhere in a region: thresholds and rates of both.

Arrays are NumPy's, cases first: images and masks `(N, H, W)` of one channel. The filter is matched to a
smooth disc less its surroundings (Barrett & Myers, "Foundations of image science", 2004, section 13.2), so
that a constant does not count and the answer is a height in the images' units. A detector is fixed on real
images, with and without lesions, before it is asked about generated ones.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from medgan_jax.errors import UserError
from medgan_jax.evaluation.statistics import wilson_interval

WIDER = 2.0  # the surroundings' radius over the disc's


@dataclasses.dataclass(frozen=True)
class Detector:
    """Thresholds of the response, in the images' units.

    known: at a known place, least errors of both kinds. anywhere: of the largest response in the region,
    which a given share of lesion-free images exceeds. radii: of the discs that are looked for, in pixels.
    """

    radii: tuple[float, ...]
    known: float
    anywhere: float


def responses(images: np.ndarray, radius: float) -> np.ndarray:
    """Mean of a disc about each pixel less that of the ring around it, `(N, H, W)`."""
    images = np.asarray(images, np.float64)
    reach = int(np.ceil(WIDER * radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(y, x)
    disc, ring = distance <= radius, (distance > radius) & (distance <= WIDER * radius)
    kernel = disc / disc.sum() - ring / max(ring.sum(), 1)
    return np.stack([ndimage.correlate(image, kernel, mode="nearest") for image in images])


def largest(images: np.ndarray, regions: np.ndarray, radii: Sequence[float]) -> np.ndarray:
    """The largest response `(N,)` to a disc of any of the radii with its middle in the image's region."""
    found = np.max([responses(images, radius) for radius in radii], axis=0)
    inside = np.where(np.asarray(regions, bool), found, -np.inf)
    return inside.reshape(len(inside), -1).max(1)


def at_places(images: np.ndarray, lesions: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Mean `(N,)` within each lesion less that of the ring about it, as wide as it, within the region."""
    found = []
    for image, lesion, region in zip(images, lesions, regions, strict=True):
        lesion = np.asarray(lesion, bool)
        radius = max(1.0, float(np.sqrt(lesion.sum() / np.pi)))
        grown = ndimage.distance_transform_edt(~lesion) <= (WIDER - 1) * radius
        ring = grown & ~lesion & np.asarray(region, bool)
        found.append(image[lesion].mean() - image[ring].mean() if lesion.any() and ring.any() else np.nan)
    return np.array(found)


def fit_detector(
    present: np.ndarray, absent: np.ndarray, lesions: np.ndarray, regions: np.ndarray, *, false_share: float
) -> Detector:
    """The detector of real images (N, H, W) of the same subjects with and without a lesion.

    lesions: where they are; regions: where lesions can be. false_share: of lesion-free images that may be
    called ill by the search.
    """
    areas = np.asarray(lesions, bool).reshape(len(lesions), -1).sum(1)
    if not areas.all():
        raise UserError("a detector needs a lesion in every one of the images that have one")
    radii = tuple(float(r) for r in np.maximum(1.0, np.quantile(np.sqrt(areas / np.pi), (0.25, 0.75)) * 0.8))
    ill, healthy = at_places(present, lesions, regions), at_places(absent, lesions, regions)
    return Detector(
        radii=radii,
        known=least_errors(ill, healthy),
        anywhere=float(np.quantile(largest(absent, regions, radii), 1 - false_share)),
    )


def least_errors(positive: np.ndarray, negative: np.ndarray) -> float:
    """The threshold between values with the least sum of both error rates; of several the middle one."""
    positive, negative = (values[np.isfinite(values)] for values in map(np.asarray, (positive, negative)))
    if not positive.size or not negative.size:
        raise UserError("a threshold needs values with and without a lesion")
    values = np.unique(np.concatenate([positive, negative]))
    cuts = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    errors = [(positive <= cut).mean() + (negative > cut).mean() for cut in cuts]
    best = np.flatnonzero(np.isclose(errors, np.min(errors)))
    return float(cuts[best[len(best) // 2]])


@dataclasses.dataclass(frozen=True)
class Rate:
    """A share of cases with its 95 % Wilson interval."""

    value: float
    lower: float
    upper: float
    n: int


def rate(happened: np.ndarray) -> Rate:
    """Of one truth value a case, each case another patient."""
    happened = np.asarray(happened, bool)
    lower, upper = wilson_interval(int(happened.sum()), len(happened), confidence=0.95)
    return Rate(float(happened.mean()), lower, upper, len(happened))
