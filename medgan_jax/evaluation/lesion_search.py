"""Whether images show a lesion, at a known place or anywhere in a region: thresholds and rates of both.

Arrays are NumPy's, cases first: images and masks `(N, H, W)` of one channel; lesions are brighter than what
is around them. Every response is a height over surroundings, so that a constant does not count. A detector is
fixed on real images, with and without lesions, before it is asked about generated ones.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from medgan_jax.errors import UserError
from medgan_jax.evaluation.statistics import wilson_interval

WIDER = 2.0  # radius of a lesion's surroundings over its own
SMALLER = 1 / 3  # radius of the disc that is searched with over the lesions' median


@dataclasses.dataclass(frozen=True)
class Detector:
    """Thresholds of the responses, in the images' units.

    known: at a known place, least errors of both kinds. anywhere: of the largest response in the region,
    which a given share of lesion-free images exceeds. radius: of the disc that is searched with, in pixels.
    """

    radius: float
    known: float
    anywhere: float


def largest(images: np.ndarray, regions: np.ndarray, radius: float) -> np.ndarray:
    """The largest mean `(N,)` of a disc less the median of the image's region, in which the disc lies deep.

    Middles of discs stay two radii away from the region's border, where its own structures are bright.
    """
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (np.hypot(y, x) <= radius).astype(float)
    found = []
    for image, region in zip(np.asarray(images, np.float64), np.asarray(regions, bool), strict=True):
        inner = ndimage.distance_transform_edt(region) > 2 * radius
        means = ndimage.correlate(image, disc / disc.sum(), mode="nearest")
        found.append(means[inner].max() - np.median(image[region]) if inner.any() else np.nan)
    return np.array(found)


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
    radius = float(max(1.0, SMALLER * np.median(np.sqrt(areas / np.pi))))
    ill, healthy = at_places(present, lesions, regions), at_places(absent, lesions, regions)
    return Detector(
        radius=radius,
        known=least_errors(ill, healthy),
        anywhere=float(np.nanquantile(largest(absent, regions, radius), 1 - false_share)),
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
