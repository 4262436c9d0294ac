"""Whether an image can be trusted: intensities by tissue, small lesions that are kept or lost, spread and error.

Arrays are NumPy's, cases first: images `(N, *S)` of one channel. Sources: matched filter, Barrett & Myers,
"Foundations of image science", 2004, section 13.2; sparsification, Ilg et al., ECCV 2018, section 4.1;
calibration of intervals, Kuleshov et al., ICML 2018, section 3.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

BANDS = 8  # classes of intensity where tissues are not known


@dataclasses.dataclass(frozen=True)
class TissueBias:
    """Mean and SD over pixels of output minus reference in a tissue, in the images' units."""

    name: str
    reference: float
    bias: float
    sd: float
    pixels: int


@dataclasses.dataclass(frozen=True)
class IntensityCalibration:
    """tissues: see `TissueBias`. slope, intercept: of the output's means by tissue over the reference's.

    wasserstein: distance between the two histograms of all pixels, in the images' units.
    """

    tissues: tuple[TissueBias, ...]
    slope: float
    intercept: float
    wasserstein: float


def intensity_bands(reference: np.ndarray, count: int = BANDS) -> tuple[np.ndarray, dict[int, str]]:
    """Classes of equal ranges of intensity, for images whose tissues nobody has labelled, and their names."""
    reference = np.asarray(reference, np.float64)
    edges = np.linspace(reference.min(), reference.max(), count + 1)
    labels = np.clip(np.searchsorted(edges, reference, side="right") - 1, 0, count - 1)
    return labels, {n: f"{edges[n]:.3g} to {edges[n + 1]:.3g}" for n in range(count)}


def intensity_calibration(
    output: np.ndarray, reference: np.ndarray, labels: np.ndarray, names: Mapping[int, str]
) -> IntensityCalibration:
    """Bias by tissue of images (N, *S); labels (N, *S) of whole numbers, names of those that count."""
    output, reference = (np.asarray(each, np.float64) for each in (output, reference))
    if output.shape != reference.shape or output.shape != np.shape(labels):
        raise ValueError(f"shapes differ: {output.shape}, {reference.shape}, {np.shape(labels)}")
    tissues = []
    for label, name in names.items():
        inside = np.asarray(labels) == label
        if inside.any():
            error = output[inside] - reference[inside]
            tissues.append(TissueBias(name, float(reference[inside].mean()), float(error.mean()),
                                      float(error.std()), int(inside.sum())))  # fmt: skip
    means = np.array([(each.reference, each.reference + each.bias) for each in tissues])
    slope, intercept = (float("nan"),) * 2
    if len(means) > 1 and np.ptp(means[:, 0]) > 0:
        slope, intercept = map(float, np.polyfit(means[:, 0], means[:, 1], 1))
    distance = float(np.abs(np.sort(output, axis=None) - np.sort(reference, axis=None)).mean())
    return IntensityCalibration(tuple(tissues), slope, intercept, distance)


# --- small lesions ---


def lesion(shape: tuple[int, ...], centre, radius: float) -> np.ndarray:
    """A disc or ball of height 1 whose edge falls over two pixels: `shape` (*S,); centre and radius in pixels."""
    grids = np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")
    distance = np.sqrt(sum((grid - place) ** 2 for grid, place in zip(grids, centre, strict=True)))
    return np.clip((radius + 1 - distance) / 2, 0, 1)


def noise_deviation(images: np.ndarray) -> float:
    """SD of the finest detail of images (N, *S), robust to edges: from differences of second order along rows."""
    images = np.asarray(images, np.float64)
    detail = images[..., 2:] - 2 * images[..., 1:-1] + images[..., :-2]
    detail = detail[np.abs(detail) > 0]
    # A constant background without noise says nothing of the noise in the object.
    return float(np.median(np.abs(detail)) / 0.6745 / np.sqrt(6)) if detail.size else 0.0


def matched_filter(images: np.ndarray, templates: np.ndarray) -> np.ndarray:
    """Response `(N,)` of images (N, *S) to their templates (N, *S) of height 1, in the images' units.

    The template has its mean within its neighbourhood taken off, so that a constant does not count; the answer
    is the height of the lesion in least squares.
    """
    images, templates = (np.asarray(each, np.float64) for each in (images, templates))
    responses = []
    for image, template in zip(images, templates, strict=True):
        around = _neighbourhood(template > 0)
        centred = np.where(around, template - template[around].mean(), 0.0)
        responses.append((image * centred).sum() / (centred**2).sum())
    return np.array(responses)


def _neighbourhood(inside: np.ndarray) -> np.ndarray:
    """The box of twice a lesion's size around it."""
    box = []
    for axis in range(inside.ndim):
        places = np.flatnonzero(inside.any(tuple(other for other in range(inside.ndim) if other != axis)))
        reach = max(1, (places[-1] - places[0] + 1) // 2)
        box.append(slice(max(0, places[0] - reach), places[-1] + reach + 1))
    around = np.zeros_like(inside)
    around[tuple(box)] = True
    return around


@dataclasses.dataclass(frozen=True)
class LesionPreservation:
    """What became of lesions of one contrast. cnr: contrast over noise that was inserted.

    recovery, recovery_sd: height in the output over the height that was inserted, mean and SD over cases. auc: of
    the matched filter telling outputs with the lesion from those of the same cases without. local: share of the
    output's squared change that lies in the lesion's neighbourhood.
    """

    cnr: float
    recovery: float
    recovery_sd: float
    auc: float
    local: float


def lesion_preservation(
    present: np.ndarray, absent: np.ndarray, templates: np.ndarray, *, height: np.ndarray, cnr: float
) -> LesionPreservation:
    """Outputs (N, *S) of the same cases with and without a lesion of `height` (N,) at `templates` (N, *S)."""
    with_lesion, without = matched_filter(present, templates), matched_filter(absent, templates)
    recovered = (with_lesion - without) / height
    change = (np.asarray(present, np.float64) - absent) ** 2
    near = np.stack([_neighbourhood(template > 0) for template in np.asarray(templates)])
    total = change.sum()
    wins = (with_lesion[:, None] > without).mean() + 0.5 * (with_lesion[:, None] == without).mean()
    return LesionPreservation(
        cnr=float(cnr),
        recovery=float(recovered.mean()),
        recovery_sd=float(recovered.std(ddof=1)) if len(recovered) > 1 else float("nan"),
        auc=float(wins),
        local=float(change[near].sum() / total) if total > 0 else float("nan"),
    )


# --- spread and error ---


@dataclasses.dataclass(frozen=True)
class UncertaintyCalibration:
    """spearman: rank correlation of spread and absolute error over pixels. coverage: share of pixels whose
    reference lies within mean +- 1.645 SD, which should be 0.9. ausce: mean distance between nominal and actual
    coverage from 10 to 90 %. ause: area between the error that is left after taking off the most uncertain pixels
    and that after taking off the worst, over the mean error."""

    spearman: float
    coverage: float
    ausce: float
    ause: float


def uncertainty_calibration(samples: np.ndarray, reference: np.ndarray) -> UncertaintyCalibration:
    """Of an ensemble's images (M, N, *S), M of at least 2, against the reference (N, *S)."""
    from scipy import stats

    samples = np.asarray(samples, np.float64)
    if len(samples) < 2:
        raise ValueError("a spread needs two samples or more")
    mean, spread = samples.mean(0).ravel(), samples.std(0, ddof=1).ravel()
    error = np.abs(mean - np.asarray(reference, np.float64).ravel())
    levels = np.arange(0.1, 0.95, 0.1)
    inside = [float((error <= stats.norm.ppf(0.5 + level / 2) * spread).mean()) for level in levels]
    kept = [np.cumsum(error[order][::-1])[::-1] / np.arange(len(error), 0, -1)
            for order in (np.argsort(-spread, kind="stable"), np.argsort(-error, kind="stable"))]  # fmt: skip
    average = error.mean()
    return UncertaintyCalibration(
        spearman=float(stats.spearmanr(spread, error).statistic) if np.ptp(spread) > 0 else float("nan"),
        coverage=float((error <= 1.645 * spread).mean()),
        ausce=float(np.abs(np.array(inside) - levels).mean()),
        ause=float((kept[0] - kept[1]).mean() / average) if average > 0 else 0.0,
    )
