"""Clinical scores that need connected components: the Agatston score of coronary calcium."""

import numpy as np
from scipy import ndimage

from medgan_jax.errors import UserError

AGATSTON_THRESHOLDS = {
    # HU limits of the four weights by tube voltage in kV; 120 is Agatston's, the others match its
    # calcium mass.
    120: (130.0, 200.0, 300.0, 400.0),
    100: (145.0, 222.0, 334.0, 446.0),
    70: (207.0, 318.0, 477.0, 636.0),
}
RISK_LIMITS = (0.0, 10.0, 100.0, 400.0)


def agatston(
    images,
    *,
    region,
    spacing,
    slice_increment: float,
    minimum_area: float,
    connectivity: int,
    tube_voltage: int,
) -> np.ndarray:
    """Agatston score of non-contrast CT `(B, D, H, W, 1)` in HU: `(B,)` in Agatston units, in [0, inf).

    `sum_slices sum_lesions area weight(max HU) * slice_increment / 3`; no direction, lower is less calcium.

    In each axial slice (D is cranio-caudal) connected pixels at or above the first threshold inside the
    coronary `region` (a mask of the same shape) are a lesion if they cover at least `minimum_area` mm^2; a
    lesion adds its area times a weight of 1 to 4 by its maximum HU in that slice. The sum is scaled by
    `slice_increment / 3` mm, for which the score is defined (Agatston et al. 1990). `spacing` is `(dy, dx)`
    in mm; `connectivity` is 1 (faces) or 2 (corners too); `tube_voltage` in kV chooses the thresholds. No
    lesion is a score of 0, a valid value.

    The maximum and the threshold make it very sensitive to noise, which is why it judges de-noising. Images
    must be in HU: normalised ones have no score.
    """
    images, region = np.asarray(images, float), np.asarray(region)
    if images.ndim != 5 or images.shape[-1] != 1 or region.shape != images.shape:
        raise UserError(
            f"images and region must both be (B, D, H, W, 1), not {images.shape} and {region.shape}"
        )
    if not np.isfinite(images).all():
        raise UserError("the images hold NaN or Inf: an Agatston score needs Hounsfield units everywhere")
    if tube_voltage not in AGATSTON_THRESHOLDS:
        raise UserError(f"tube_voltage must be one of {sorted(AGATSTON_THRESHOLDS)} kV, not {tube_voltage}")
    if connectivity not in (1, 2):
        raise UserError(f"connectivity must be 1 (faces) or 2 (corners too), not {connectivity}")
    if not np.isin(region, (0, 1)).all():
        raise UserError("the region holds values other than 0 and 1: give a mask of the coronaries")
    lengths = np.append(np.asarray(spacing, float).ravel(), slice_increment)
    if np.shape(spacing) != (2,) or not (np.isfinite(lengths) & (lengths > 0)).all():
        raise UserError("spacing must be (dy, dx) in mm and slice_increment a positive distance in mm")
    if not minimum_area >= 0:
        raise UserError(f"minimum_area must be 0 mm^2 or more, not {minimum_area}")
    pixel = float(np.prod(spacing))
    structure = ndimage.generate_binary_structure(2, connectivity)
    thresholds = AGATSTON_THRESHOLDS[tube_voltage]
    scores = []
    for case, inside in zip(images[..., 0], region[..., 0] != 0, strict=True):
        slices = zip(case, inside, strict=True)
        score = sum(_slice_score(hu, mask, thresholds, pixel, minimum_area, structure) for hu, mask in slices)
        scores.append(score * slice_increment / 3.0)
    return np.array(scores)


def _slice_score(hu, inside, thresholds, pixel, minimum_area, structure) -> float:
    labels, count = ndimage.label(inside & (hu >= thresholds[0]), structure)
    if not count:
        return 0.0
    index = np.arange(1, count + 1)
    area = np.bincount(labels.ravel())[1:] * pixel
    weight = np.searchsorted(thresholds, ndimage.maximum(hu, labels, index), side="right")
    return float(np.sum(np.where(area >= minimum_area, area * weight, 0.0)))


def agatston_risk(scores) -> np.ndarray:
    """Risk category of Agatston scores: 0 (score 0), 1 (1-10), 2 (11-100), 3 (101-400), 4 (above 400).

    The upper limit belongs to its class, so 10.5 is in class 2. Compare categories by quadratic-weighted
    kappa.
    """
    scores = np.asarray(scores, float)
    if not (scores >= 0).all():
        raise UserError("an Agatston score is 0 or more: mend NaN and negative scores first")
    return np.searchsorted(RISK_LIMITS, scores, side="left")
