"""Every family of metrics on every kind of input, eager, jitted and vmapped, float32 and bfloat16, against
float64 references that share no code with them: NumPy, SciPy, scikit-image and scikit-learn."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import skimage.metrics
import sklearn.metrics
from scipy.spatial.distance import cdist
from skimage.morphology import skeletonize

from medgan_jax.metrics import (
    classification,
    clinical,
    generative,
    image,
    overlap,
    perceptual,
    registration,
    texture,
)


def divided(a, b):
    return a / b if b else np.nan


def float64(reference):
    return lambda x, y: reference(np.float64(x), np.float64(y))


def without_channel(a, b):
    return a[..., 0], b[..., 0]


# Images


SMALL = image.Window("uniform", 3, None, "sample")
DISPLAYED = {"data_range": 1.0, "scales": 2}


def multi_scale_similarity(x, y, scales=2, size=None):
    """Of scikit-image's SSIM alone: a huge K1 turns its luminance term into one."""
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    if size is not None:
        options = {"data_range": 1.0, "win_size": size}
    weights, result = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]), 1.0
    for scale in range(scales):
        factor = skimage.metrics.structural_similarity(
            y[..., 0], x[..., 0], **options, **({} if scale == scales - 1 else {"K1": 1e6})
        )
        result *= max(factor, 0.0) ** (weights[scale] * weights.sum() / weights[:scales].sum())
        x, y = (skimage.measure.block_reduce(z, (2, 2, 1), np.mean) for z in (x, y))
    return result


def cosine(x, y):
    return divided(np.sum(x * y), np.linalg.norm(x) * np.linalg.norm(y))


def steadied_correlation(x, y, eps=1e-3):
    covariance = np.mean(x * y) - x.mean() * y.mean()
    return covariance / np.sqrt((x.var() + eps) * (y.var() + eps))


def windowed_correlation(x, y, window=5, eps=1e-3):
    inner = slice(window // 2, -(window // 2))
    mean = lambda z: scipy.ndimage.uniform_filter(z[..., 0], window)[inner, inner]  # noqa: E731
    covariance = mean(x * y) - mean(x) * mean(y)
    variances = (mean(x * x) - mean(x) ** 2) * (mean(y * y) - mean(y) ** 2)
    return np.mean(covariance**2 / (variances + eps))


IMAGE_CASES = {
    "ms_ssim": (
        partial(image.ms_ssim, data_range=1.0, window=image.WANG_2004, scales=2),
        float64(multi_scale_similarity),
    ),
    "ms_ssim_diversity": (
        lambda x, y: generative.ms_ssim_diversity(
            jnp.concatenate([x, y]), jnp.arange(2 * len(x)).reshape(2, -1).T, window=SMALL, **DISPLAYED
        ),
        float64(lambda x, y: multi_scale_similarity(x, y, size=3)),
    ),
    "ncc without mean": (partial(image.ncc, remove_mean=False), float64(cosine)),
    "ncc with eps": (partial(image.ncc, eps=1e-3), float64(steadied_correlation)),
    "local_ncc": (partial(registration.local_ncc, window=5, eps=1e-3), float64(windowed_correlation)),
}


def test_similarity_of_images(mixed_images, agree):
    agree(IMAGE_CASES, mixed_images((24, 22)), rtol=1e-4, atol=1e-5)


def deviation(x, inside):
    values = x[inside]
    return values.std() if np.ptp(values) else 0.0


def region_snr(x, y):
    if not (y.any() and (y == 0).any()):
        return np.nan
    return 0.655 * divided(x[y == 1].mean(), deviation(x, y == 0))


def contrast_to_noise(x, y):
    if not (y.any() and (y == 0).any()):
        return np.nan
    return divided(abs(x[y == 1].mean() - x[y == 0].mean()), deviation(x, y == 0))


def test_ratios_of_regions(mixed_images_and_masks, agree):
    cases = {
        "roi_snr": (
            lambda x, y: image.roi_snr(x, signal=y, background=1 - y, rayleigh_correction=True),
            float64(region_snr),
        ),
        "cnr": (
            lambda x, y: image.cnr(x, first=y, second=1 - y, background=1 - y),
            float64(contrast_to_noise),
        ),
    }
    agree(cases, mixed_images_and_masks((12, 10)), rtol=1e-4, atol=1e-5)


# Masks


def ratios_of_classes(formula, empty):
    def call(x, y):
        result = []
        for label in range(3):
            a, b = x.ravel() == label, y.ravel() == label
            result.append(formula(b, a) if a.any() or b.any() else empty)
        return np.array(result)

    return call


def skeletons_agree(x, y):
    (a, skeleton_a), (b, skeleton_b) = ((z[..., 0], z[..., 1]) for z in (x, y))
    if not (skeleton_a.any() or skeleton_b.any()):
        return np.nan
    shares = [
        (skeleton * mask).sum() / max(skeleton.sum(), 1)
        for skeleton, mask in ((skeleton_a, b), (skeleton_b, a))
    ]
    return 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0


def test_classes_of_label_maps(mixed_masks, agree):
    rows = 1 + (np.arange(12) % 2).reshape(-1, 1, 1)
    cases = {
        "class_dice": (
            partial(overlap.class_dice, classes=3, empty_policy="nan"),
            ratios_of_classes(sklearn.metrics.f1_score, np.nan),
        ),
        "class_iou": (
            partial(overlap.class_iou, classes=3, empty_policy="best_worst"),
            ratios_of_classes(sklearn.metrics.jaccard_score, 1.0),
        ),
    }
    agree(cases, mixed_masks((12, 10), lambda a, b: (a * rows, b * rows)))


def test_centrelines_of_masks(mixed_masks, agree):
    def with_skeletons(*pair):
        return [np.stack([z[..., 0], np.stack([skeletonize(m[..., 0] > 0) for m in z])], -1) for z in pair]

    metric = lambda x, y: overlap.centreline_dice(  # noqa: E731
        x[..., 0], y[..., 0], x[..., 1], y[..., 1], empty_policy="nan"
    )
    cases = {"centreline_dice": (metric, float64(skeletons_agree))}
    agree(cases, mixed_masks((12, 10), with_skeletons))


PIXEL = (1.5, 0.5)
VOXEL, GAP = (4.0, 1.5, 0.5), 2.0


def height(mask):
    rows = np.flatnonzero(mask.any((1, 2)))
    return rows[-1] - rows[0] + 1 if rows.size else 0


MASK_CASES = {
    "area": (lambda x, y: clinical.area(x, spacing=PIXEL), float64(lambda x, y: x.sum() * 0.75)),
    "area_error": (
        partial(clinical.area_error, spacing=PIXEL),
        float64(lambda x, y: abs(x.sum() - y.sum()) * 0.75),
    ),
    "area_mae": (
        lambda x, y: clinical.area_mae(
            x, y, spacing=PIXEL, patients=jnp.arange(x.shape[0]), n_patients=x.shape[0]
        ),
        float64(lambda x, y: abs(x.sum() - y.sum()) * 0.75),
    ),
    "infarct_share": (
        clinical.infarct_share,
        float64(lambda x, y: 100 * divided(np.sum(x * y), y.sum())),
    ),
    "cup_to_disc_ratio": (clinical.cup_to_disc_ratio, float64(lambda x, y: divided(height(x), height(y)))),
    "centroids": (
        lambda x, y: registration.centroids(x)[:, 0],
        lambda x, y: scipy.ndimage.center_of_mass(x[..., 0]) if x.any() else (np.nan, np.nan),
    ),
}


def test_clinical_quantities_of_masks(mixed_masks, agree):
    agree(MASK_CASES, mixed_masks((12, 10)))


def test_volumes_and_ejection_fractions(mixed_masks, agree):
    volume = partial(clinical.volume, spacing=VOXEL, slice_gap=GAP)
    cases = {
        "volume": (lambda x, y: volume(x), float64(lambda x, y: x.sum() * 0.75 * 6 / 1000)),
        "ejection_fraction": (
            lambda x, y: clinical.ejection_fraction(volume(x), volume(y)),
            float64(lambda x, y: 100 * divided(x.sum() - y.sum(), x.sum())),
        ),
    }
    agree(cases, mixed_masks((5, 7, 6)), atol=1e-4)


# Points: rows of the arrays are landmarks, or vertices of a line, in voxels


def distances(x, y):
    return np.linalg.norm((x - y) * PIXEL, axis=-1)


def to_line(points, line):
    """Mean distance of points to the segments of a line, one at a time."""
    best = []
    for point in points:
        lengths = []
        for start, end in pairwise(line):
            step = end - start
            share = np.clip(divided((point - start) @ step, step @ step), 0, 1) if step.any() else 0.0
            lengths.append(np.linalg.norm(point - start - share * step))
        best.append(min(lengths))
    return np.array(best)


def both_ways(x, y):
    x, y = x * PIXEL, y * PIXEL
    return to_line(x, y), to_line(y, x)


def identified(x, y):
    table = cdist(x * PIXEL, y * PIXEL)
    return np.mean((np.diag(table) <= 0.6) & (np.diag(table) <= table.min(1)))


POINT_CASES = {
    f"tre, {name}": (
        partial(registration.tre, spacing=PIXEL, reduction=name),
        float64(lambda x, y, reduce=reduce: reduce(distances(x, y))),
    )
    for name, reduce in {
        "mean": np.mean,
        "rms": lambda d: np.sqrt(np.mean(d**2)),
        "median": np.median,
        "max": np.max,
    }.items()
} | {
    "p2p_error": (
        partial(registration.p2p_error, spacing=PIXEL, reduction="mean"),
        float64(lambda x, y: distances(x, y).mean()),
    ),
    "identification_rate": (
        partial(clinical.identification_rate, spacing=PIXEL, tolerance=0.6),
        float64(identified),
    ),
    "centreline_error": (
        partial(clinical.centreline_error, spacing=PIXEL),
        float64(lambda x, y: np.mean([d.mean() for d in both_ways(x, y)])),
    ),
    "centreline_overlap": (
        partial(clinical.centreline_overlap, spacing=PIXEL, radius=0.3),
        float64(lambda x, y: np.mean(np.concatenate(both_ways(x, y)) <= 0.3)),
    ),
}


def test_landmarks_and_centrelines(mixed_images, agree):
    agree(POINT_CASES, mixed_images((6, 2), without_channel), rtol=1e-4)


# Deformations: the two images of a pair are the two components of a field


def determinant(x, y):
    field = 3 * np.concatenate([x, y], -1)
    gradient = np.stack([np.stack(np.gradient(field[..., i]), -1) for i in range(2)], -2)
    return np.linalg.det(gradient + np.eye(2))[1:-1, 1:-1]


def test_jacobians_of_deformations(mixed_images, agree):
    join = lambda x, y: 3 * jnp.concatenate([x, y], -1).astype(jnp.float32)  # noqa: E731
    cases = {
        "jacobian_determinant": (
            lambda x, y: registration.jacobian_determinant(join(x, y)),
            float64(determinant),
        ),
        "fold_fraction": (
            lambda x, y: registration.fold_fraction(join(x, y)),
            float64(lambda x, y: np.mean(np.round(determinant(x, y), 6) <= 0)),
        ),
        "sd_log_jacobian": (
            lambda x, y: registration.sd_log_jacobian(join(x, y), floor=0.1),
            float64(lambda x, y: np.log(np.maximum(determinant(x, y), 0.1)).std()),
        ),
    }
    agree(cases, mixed_images((9, 8)), rtol=1e-4, atol=1e-5)


# Texture: two regions for each case

GRID = (0.7, 0.5)


def power(x):
    y_axis, x_axis = np.mgrid[-1 : 1 : x.shape[1] * 1j, -1 : 1 : x.shape[2] * 1j]
    basis = np.stack([np.ones(y_axis.size), y_axis.ravel(), x_axis.ravel()], 1)
    spectra = []
    for region in x[..., 0]:
        fit = basis @ np.linalg.lstsq(basis, region.ravel(), rcond=None)[0]
        spectra.append(abs(np.fft.fft2(region - fit.reshape(region.shape))) ** 2)
    value = np.mean(spectra, 0) * GRID[0] * GRID[1] / y_axis.size
    return np.where(value < 1e-20, 0, value)


def rings(spectrum, bins=3):
    radius = np.hypot(
        np.fft.fftfreq(spectrum.shape[0], GRID[0])[:, None], np.fft.fftfreq(spectrum.shape[1], GRID[1])
    )
    edges = np.linspace(0, 0.5 / max(GRID), bins + 1)
    pairs = pairwise(edges)
    return np.array([spectrum[(radius > low + 1e-9) & (radius <= high + 1e-9)].mean() for low, high in pairs])


def profile_distance(x, y):
    p, q = rings(power(x)), rings(power(y))
    return divided(abs(p - q).sum(), q.sum())


def test_noise_power(mixed_images, agree):
    options = {"spacing": GRID, "detrend": 1}
    cases = {
        "noise_power_spectrum": (
            lambda x, y: texture.noise_power_spectrum(x[..., 0], **options),
            float64(lambda x, y: power(x)),
        ),
        "nps_distance": (
            lambda x, y: texture.nps_distance(x[..., 0], y[..., 0], bins=3, **options),
            float64(profile_distance),
        ),
        "nps_peak_frequency": (
            lambda x, y: texture.nps_peak_frequency(x[..., 0], bins=3, **options),
            float64(
                lambda x, y: (np.argmax(rings(power(x))) + 0.5) / 3 * 0.5 / 0.7 if power(x).any() else np.nan
            ),
        ),
    }
    agree(cases, mixed_images((2, 12, 10)), rtol=1e-3, atol=1e-5)


# Sets: the rows of the arrays are samples, so each case is a pair of sets


def neighbour_balls(x, y, k=3):
    xx, yy, xy = cdist(x, x), cdist(y, y), cdist(x, y)
    real, fake = np.sort(xx)[:, k], np.sort(yy)[:, k]
    inside = xy < real[:, None]
    return np.array(
        [
            inside.any(0).mean(),
            (xy < fake[None]).any(1).mean(),
            inside.sum(0).mean() / k,
            inside.any(1).mean(),
        ]
    )


def kernel_distance(x, y):
    kernel = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3  # noqa: E731
    n = len(x)
    within = sum((kernel(z, z).sum() - np.trace(kernel(z, z))) / (n * (n - 1)) for z in (x, y))
    return within - 2 * kernel(x, y).mean()


def distinct(x):
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    if not norms.all():
        return np.nan
    values = np.linalg.eigvalsh((x / norms) @ (x / norms).T / len(x))
    values = values[values > 1e-12]
    return np.exp(-np.sum(values * np.log(values)))


def class_score(x):
    p = np.exp(5 * x) / np.exp(5 * x).sum(1, keepdims=True)
    return np.exp(np.mean([scipy.stats.entropy(row, p.mean(0)) for row in p]))


DIRECTIONS = np.array([[1, 0, 0, 0, 0], [0.6, 0.8, 0, 0, 0], [0.5, -0.5, 0.5, -0.5, 0]], np.float32)


def projected(x, y):
    values = [scipy.stats.wasserstein_distance(x @ theta, y @ theta) for theta in np.float64(DIRECTIONS)]
    return np.mean(values)


def projected_squares(x, y):
    gaps = [np.mean((np.sort(x @ t) - np.sort(y @ t)) ** 2) for t in np.float64(DIRECTIONS)]
    return np.sqrt(np.mean(gaps))


def each_case(metric):
    """A metric of two sets, for a batch of pairs of sets."""
    return lambda x, y: jax.lax.map(lambda pair: jnp.asarray(metric(*pair)), (x, y))


SET_CASES = {
    "prdc": (
        each_case(lambda x, y: jnp.stack(generative.prdc(x, y, k=3))),
        float64(neighbour_balls),
    ),
    "kid": (
        each_case(lambda x, y: generative.kid(x, y, subsets=1, subset_size=10, key=jax.random.key(0))[0]),
        float64(kernel_distance),
    ),
    "sliced_wasserstein, p = 1": (
        each_case(lambda x, y: generative.sliced_wasserstein(x, y, directions=DIRECTIONS, p=1)),
        float64(projected),
    ),
    "sliced_wasserstein, p = 2": (
        each_case(lambda x, y: generative.sliced_wasserstein(x, y, directions=DIRECTIONS, p=2)),
        float64(projected_squares),
    ),
    "nearest_distances": (
        each_case(generative.nearest_distances),
        float64(lambda x, y: cdist(x, y).min(1)),
    ),
    "vendi": (each_case(lambda x, y: generative.vendi(x)), float64(lambda x, y: distinct(x))),
    "inception_score": (
        each_case(lambda x, y: generative.inception_score(5 * x, splits=1, key=None)[0]),
        float64(lambda x, y: class_score(x)),
    ),
}


def test_sets_of_features(mixed_images, agree):
    agree(SET_CASES, mixed_images((10, 5), without_channel), rtol=2e-4, atol=1e-5)


# Gradients


def gradients_of(cases):
    def total(name, x, y):
        # A value that is undefined on such input must not spoil the gradient of the others.
        return jnp.nansum(cases[name](x, y))

    return jax.jit(lambda x, y: {name: jax.grad(partial(total, name))(x, y) for name in cases})


IMAGES, POINTS, SETS, PICTURES = (1, 24, 22, 1), (1, 6, 2), (1, 10, 5), (3, 8, 8, 1)
UPPER_HALF = np.arange(24).reshape(1, 24, 1, 1) < 12
DIFFERENTIABLE = {
    IMAGES: {
        **{name: IMAGE_CASES[name][0] for name in ("ms_ssim_diversity", "ncc with eps", "local_ncc")},
        "global_contrast_factor": lambda x, y: perceptual.global_contrast_factor(x, display_range=(0.5, 1.0)),
        "cnr": lambda x, y: image.cnr(x, first=UPPER_HALF, second=~UPPER_HALF, background=UPPER_HALF),
        "brier": lambda x, y: classification.brier(x, y > 0.5),
        "fsim": partial(perceptual.fsim, data_range=1.0),
        "roi_snr": lambda x, y: image.roi_snr(
            x, signal=UPPER_HALF, background=~UPPER_HALF, rayleigh_correction=False
        ),
        "nps_distance": lambda x, y: texture.nps_distance(
            x[..., 0][None], y[..., 0][None], bins=3, spacing=GRID, detrend=1
        ),
        "sd_log_jacobian": lambda x, y: registration.sd_log_jacobian(jnp.concatenate([x, y], -1), floor=0.1),
    },
    POINTS: {name: POINT_CASES[name][0] for name in POINT_CASES if name.startswith(("tre", "p2p"))}
    | {"centreline_error": POINT_CASES["centreline_error"][0]},
    SETS: {
        name: SET_CASES[name][0]
        for name in (
            "kid",
            "sliced_wasserstein, p = 1",
            "sliced_wasserstein, p = 2",
            "nearest_distances",
            "vendi",
            "inception_score",
        )
    },
    PICTURES: {
        "swd_pgan": lambda x, y: generative.swd_pgan(
            x, y, key=jax.random.key(0), smallest=4, size=3, neighbourhoods=4, directions=8
        )
    },
}


@pytest.mark.parametrize("shape", DIFFERENTIABLE)
def test_gradients_are_finite_at_equality_and_on_constants(shape):
    ramp = jnp.linspace(0.1, 0.9, int(np.prod(shape))).reshape(shape)
    constant = jnp.full_like(ramp, 0.5)
    gradients = gradients_of(DIFFERENTIABLE[shape])
    for x, y in ((ramp, ramp), (constant, constant), (ramp, constant), (constant, ramp)):
        for name, gradient in gradients(x, y).items():
            assert bool(jnp.all(jnp.isfinite(gradient))), name
