"""Host metrics on every kind of input and on generated ones, against scikit-image, SciPy, scikit-learn and
loops; rounded input; and bad input, which raises."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from medgan_jax.errors import UserError
from medgan_jax.evaluation import clinical, detection, observers, reader_study, statistics
from medgan_jax.evaluation import distributions as d
from medgan_jax.evaluation.surfaces import hausdorff, nsd, surface_distances

SEEDS = given(st.integers(0, 2**32 - 1))
FEW = settings(max_examples=5, deadline=None, database=None)


def bfloat16(x):
    return np.asarray(x).astype(jnp.bfloat16)


# Agatston scores

SHAPE = (3, 9, 8)
CALCIUM = {
    "spacing": (0.8, 0.6),
    "slice_increment": 2.5,
    "minimum_area": 0.9,
    "connectivity": 2,
    "tube_voltage": 120,
}


def hearts(seed):
    """CT volumes in HU of every kind, and generated ones: `(K, D, H, W)`."""
    generator = np.random.default_rng(seed)
    soft = np.full(SHAPE, 40.0)
    pixel, border, touching, two = (soft.copy() for _ in range(4))
    pixel[1, 4, 4] = 900
    border[:, 0], border[2, :, -1] = 200, 130
    touching[0, 2:4, 2:4], touching[0, 4:6, 4:6] = 350, 129.9
    two[1, 1:3, 1:4], two[1, 6:8, 5:7] = 199.5, 400
    random = [generator.normal(60, 20, SHAPE) + 300 * (generator.random(SHAPE) < p) for p in (0.05, 0.3, 0.7)]
    return np.stack([soft, pixel, border, touching, two, np.full(SHAPE, 300.0), soft - 1040, *random])


def agatston_by_regions(volume):
    score = 0.0
    for plane in volume:
        for region in regionprops(label(plane >= 130, connectivity=2), intensity_image=plane):
            area = region.num_pixels * 0.48
            if area >= 0.9:
                score += area * sum(region.intensity_max >= limit for limit in (130, 200, 300, 400))
    return score * 2.5 / 3


@FEW
@SEEDS
def test_agatston_agrees_with_the_regions_of_scikit_image(seed):
    for volumes in (hearts(seed), bfloat16(hearts(seed))):
        known = [agatston_by_regions(np.float64(x)) for x in volumes]
        region = np.ones((*volumes.shape, 1))
        np.testing.assert_allclose(clinical.agatston(volumes[..., None], region=region, **CALCIUM), known)


# Sets of features


def feature_sets(seed):
    """Pairs of sets `(12, 4)` of every kind, and a generated one."""
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(2, 12, 4))
    sparse, edge = np.zeros((2, 12, 4))
    sparse[3, 2], edge[:, 0] = 1, 1
    skewed = y @ generator.normal(size=(4, 4)) + 3
    return [(x, y), (x, x), (x, x + 100), (sparse, edge), (sparse, x), (x, 0 * x), (x, x * 1e-3), (x, skewed)]


def frechet(x, y):
    first, second = (np.cov(z, rowvar=False) for z in (x, y))
    # sqrtm fails on singular products; the definition is continuous.
    steady = 1e-10 * np.eye(4)
    root = scipy.linalg.sqrtm((first + steady) @ (second + steady)).real
    return np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(first + second - 2 * root)


def polynomial(x, y):
    kernel = partial(sklearn.metrics.pairwise.polynomial_kernel, degree=3, coef0=1)
    off = [np.mean(kernel(z)[~np.eye(12, dtype=bool)]) for z in (x, y)]
    return sum(off) - 2 * kernel(x, y).mean()


@FEW
@SEEDS
def test_feature_distances_of_every_kind(seed):
    for pair in feature_sets(seed):
        for x, y in (pair, [bfloat16(z) for z in pair]):
            u, v = np.float64(x), np.float64(y)
            scale = max(1, np.abs(u).max(), np.abs(v).max())
            value = d.frechet_from_features(x, y)
            assert value == pytest.approx(frechet(u, v), rel=1e-5, abs=2e-4 * scale**2)
            value, spread = d.kernel_distance(x, y, subsets=3, subset_size=12, seed=0)
            assert spread == 0 and value == pytest.approx(polynomial(u, v), rel=1e-9, abs=1e-9 * scale**6)
            ratio = d.log_determinant_ratio(x, y, eps=0.1)
            logs = [np.log(np.linalg.det(np.cov(z, rowvar=False) + 0.1 * np.eye(4))) for z in (u, v)]
            assert ratio == pytest.approx((logs[1] - logs[0]) / 4, abs=1e-9)
            table = scipy.spatial.distance.cdist(v, v)
            twins = np.argwhere(np.triu(table <= 0.5, 1))
            np.testing.assert_array_equal(d.birthday_test(y, threshold=0.5).pairs, twins)


# Detection


@FEW
@SEEDS
def test_matches_and_curves_agree_with_loops(seed):
    generator = np.random.default_rng(seed)
    spacing, cases, known = np.array([2.0, 0.5]), [], []
    for n, m in ((5, 3), (0, 2), (4, 0), (0, 0), (6, 1)):
        found, true = generator.integers(0, 9, (n, 2)), generator.integers(0, 9, (m, 2))
        scores = np.round(generator.random(n), 1)
        cases.append(detection.match_points(found, scores, true, spacing=spacing, tolerance=2.0))
        hits = []
        for point in found:
            lengths = [np.hypot(*((point - t) * spacing)) for t in true]
            hits.append(int(np.argmin(lengths)) if lengths and min(lengths) <= 2.0 else -1)
        np.testing.assert_array_equal(cases[-1].lesions, hits)
        known.append((scores, hits))
    curve = detection.froc(cases)
    for false, share, t in zip(curve.false_positives, curve.sensitivity, curve.thresholds, strict=True):
        called = [[(s, h) for s, h in zip(*case, strict=True) if s >= t] for case in known]
        assert false == sum(h < 0 for case in called for _, h in case) / 5
        assert share == pytest.approx(sum(len({h for _, h in case if h >= 0}) for case in called) / 6)


# Surface elements: the length of a contour by the segments of marching squares


def contour_length(mask, spacing):
    padded, total = np.pad(mask, 1), 0.0
    diagonal, (dy, dx) = np.hypot(*spacing) / 2, spacing
    for i, j in np.ndindex(padded.shape[0] - 1, padded.shape[1] - 1):
        cell = padded[i : i + 2, j : j + 2].astype(int)
        if cell.sum() in (1, 3):
            total += diagonal
        elif cell.sum() == 2:
            across = cell[0, 0] == cell[1, 1]
            total += 2 * diagonal if across else dx if cell[0, 0] == cell[0, 1] else dy
    return total


@FEW
@SEEDS
def test_surface_elements_are_those_of_marching_squares(seed):
    generator = np.random.default_rng(seed)
    for a in (generator.random((7, 6)) < 0.4, np.ones((7, 6), bool), np.eye(7, 6, dtype=bool)):
        found = surface_distances(a, a, spacing=(2.0, 0.7), boundary="surfel")
        assert found.prediction_weights.sum() == pytest.approx(contour_length(a, (2.0, 0.7)))
    box = np.zeros((1, 12, 12, 12, 1), bool)
    box[:, 3:8, 3:8, 3:8] = True
    options = {"spacing": (3.0, 1.0, 1.0), "boundary": "surfel", "empty_policy": "strict"}
    shifted = np.roll(box, 1, 1)
    whole = hausdorff(box, shifted, percentile=None, definition="pooled", **options)
    assert whole[0] == pytest.approx(3.0)
    shares = [nsd(box, shifted, tolerance=t, **options)[0] for t in (0.0, 2.99, 3.0)]
    assert 0.5 < shares[0] <= shares[1] < shares[2] == 1.0


# Bad input

CT = np.zeros((1, 2, 4, 4, 1))
EDGE = np.tile(np.repeat([0.0, 1.0], 8), (16, 1))
RATINGS = np.array([[1, 2, 3], [2, 2, 3]])
SETS = {"real": np.eye(6), "generated": np.eye(6)}
REFUSED = {
    "agatston, region": partial(clinical.agatston, CT, region=CT + np.nan, **CALCIUM),
    "agatston, rank": partial(clinical.agatston, CT[0], region=CT[0], **CALCIUM),
    "agatston, area": partial(clinical.agatston, CT, region=CT, **{**CALCIUM, "minimum_area": np.nan}),
    "agatston, increment": partial(
        clinical.agatston, CT, region=CT, **{**CALCIUM, "slice_increment": np.inf}
    ),
    "points, rank": partial(detection.match_points, [(0, 0, 0)], [1], [], spacing=(1, 1), tolerance=1),
    "points, score": partial(detection.match_points, [(0, 0)], [np.inf], [], spacing=(1, 1), tolerance=1),
    "points, tolerance": partial(detection.match_points, [], [], [], spacing=(1, 1), tolerance=np.nan),
    "components, labels": partial(detection.match_components, EDGE, EDGE + 0.5, threshold=0.5),
    "components, map": partial(detection.match_components, EDGE * np.nan, EDGE, threshold=0.5),
    "froc, cases": partial(detection.froc, []),
    "froc, rates": partial(
        detection.sensitivity_at, detection.froc([detection.Matches(*np.zeros((2, 1)), 1)]), -1
    ),
    "frechet, width": partial(d.frechet_from_features, np.eye(6), np.eye(5)),
    "frechet, n": partial(d.frechet_from_features, np.eye(6)[:1], np.eye(6)),
    "kernel, subsets": partial(d.kernel_distance, **SETS, subsets=0, subset_size=3, seed=0),
    "bins, number": partial(d.ndb, **SETS, bins=1, significance=0.05, seed=0),
    "bins, significance": partial(d.ndb, **SETS, bins=2, significance=5, seed=0),
    "determinants, eps": partial(d.log_determinant_ratio, **SETS, eps=-1),
    "birthday, threshold": partial(d.birthday_test, np.eye(6), threshold=np.nan),
    "domains, folds": partial(d.proxy_a_distance, np.eye(6), np.eye(6), folds=1, seed=0),
    "edge, spacing": partial(observers.mtf_from_edge, EDGE, spacing=0.0),
    "edge, rank": partial(observers.mtf_from_edge, EDGE[None], spacing=1.0),
    "disc, radius": partial(observers.mtf_from_disc, EDGE, centre=(8, 8), radius=-3.0, spacing=1.0),
    "observer, shapes": partial(
        observers.channelised_hotelling_observer, EDGE[None], EDGE[None, 1:], channels=EDGE[None], train=1
    ),
    "opinion, confidence": partial(
        reader_study.mean_opinion_score, RATINGS, scale=(1, 5), resamples=9, confidence=1.5, seed=0
    ),
    "opinion, ragged": partial(reader_study.compare_ratings, {"a": [1, 2], "b": [1]}),
    "alpha, infinite": partial(reader_study.krippendorff_alpha, RATINGS + np.inf, level="nominal"),
    "detection, truth": partial(reader_study.correct_detection, RATINGS > 1, [0, 1]),
    "turing, confidence": partial(
        reader_study.visual_turing, RATINGS > 1, [0, 1, 1], margin=0.1, confidence=95
    ),
    "ranking, lengths": partial(
        statistics.rank_methods,
        {"a": [1.0, 2.0], "b": [1.0]},
        patients=[0, 1],
        higher_is_better=True,
        resamples=9,
        confidence=0.9,
        seed=0,
    ),
    "delong, nan": partial(statistics.delong_interval, [0.1, np.nan, 0.3, 1], [0, 0, 1, 1], confidence=0.9),
    "mcnemar, nan": partial(statistics.mcnemar, [1, np.nan], [1, 0]),
    "wilson, confidence": partial(statistics.wilson_interval, 1, 2, confidence=95),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_in_one_line(name):
    with pytest.raises(UserError) as caught:
        REFUSED[name]()
    assert "\n" not in str(caught.value)
