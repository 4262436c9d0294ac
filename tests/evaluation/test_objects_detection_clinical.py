"""GlaS object scores by the definition, FROC by hand, Agatston scores of phantoms, agreement against
SciPy."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import directed_hausdorff

from medgan_jax.errors import UserError
from medgan_jax.evaluation import clinical, detection, objects
from medgan_jax.evaluation.agreement import agreement_report


def labels(seed, shape=(30, 32), count=6):
    generator, result = np.random.default_rng(seed), np.zeros(shape, int)
    for number in range(1, count + 1):
        y, x, h, w = *generator.integers(0, 24, 2), *generator.integers(3, 8, 2)
        result[y : y + h, x : x + w] = number * 37
    return result


def definition(prediction, reference, spacing):
    """Object F1, Dice and Hausdorff of one image with loops, straight from the challenge's page."""
    s = {i: prediction == i for i in np.unique(prediction) if i}
    g = {j: reference == j for j in np.unique(reference) if j}
    points = lambda m: np.argwhere(m) * spacing  # noqa: E731
    distance = lambda a, b: max(  # noqa: E731
        directed_hausdorff(points(a), points(b))[0], directed_hausdorff(points(b), points(a))[0]
    )

    def mate(a, others):
        best = max(others, key=lambda k: (a & others[k]).sum())
        return best if (a & others[best]).any() else None

    true = {i for i, a in s.items() if (m := mate(a, g)) is not None and (a & g[m]).sum() >= 0.5 * g[m].sum()}
    found = {mate(s[i], g) for i in true}
    precision, recall = len(true) / len(s), len(true) / max(len(true) + len(g) - len(found), 1)
    f1 = 2 * precision * recall / (precision + recall) if true else 0.0
    dice = hausdorff = 0.0
    for own, others in ((s, g), (g, s)):
        total = sum(a.sum() for a in own.values())
        for a in own.values():
            m = mate(a, others)
            dice += (
                0.5
                * a.sum()
                / total
                * (0 if m is None else 2 * (a & others[m]).sum() / (a.sum() + others[m].sum()))
            )
            d = distance(a, others[m]) if m is not None else min(distance(a, b) for b in others.values())
            hausdorff += 0.5 * a.sum() / total * d
    return f1, dice, hausdorff


def test_object_scores_agree_with_the_definition():
    a, b = (
        np.stack([labels(seed) for seed in seeds])[..., None] for seeds in ((0, 1, 2, 3), (0, 11, 12, 13))
    )
    spacing = (0.5, 2.0)
    expected = np.array([definition(x[..., 0], y[..., 0], spacing) for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(objects.object_f1(a, b, empty_policy="strict"), expected[:, 0])
    np.testing.assert_allclose(objects.object_dice(a, b, empty_policy="strict"), expected[:, 1])
    np.testing.assert_allclose(
        objects.object_hausdorff(a, b, spacing=spacing, empty_policy="strict"), expected[:, 2]
    )
    permuted = np.where(a > 0, 1000 - a, 0)
    np.testing.assert_allclose(objects.object_dice(permuted, b, empty_policy="strict"), expected[:, 1])
    np.testing.assert_allclose(objects.object_dice(b, a, empty_policy="strict"), expected[:, 1])


def object_kinds():
    """Label maps of every kind with objects on both sides, `(K, 30, 32, 1)` twice."""
    blank, random = np.zeros((30, 32), int), labels(3)
    pixel, other, border, whole = (blank.copy() for _ in range(4))
    pixel[4, 5], other[20, 9] = 3, 8
    border[:2], border[-3:, -4:] = 5, 2
    whole[:] = 7
    block = np.roll(border, (9, 4), (0, 1))
    pairs = [
        (random, labels(8)),
        (random, random),
        (pixel, border),
        (pixel, other),
        (border, np.roll(border, 1, 0)),
        (whole, random),
        (block, np.roll(block, 3, 1)),
    ]
    return tuple(np.stack(x)[..., None] for x in zip(*pairs, strict=True))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.4, 2.5)])
def test_every_kind_of_objects_agrees_with_the_definition(spacing):
    a, b = object_kinds()
    known = np.array([definition(x[..., 0], y[..., 0], spacing) for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(objects.object_f1(a, b, empty_policy="nan"), known[:, 0])
    np.testing.assert_allclose(objects.object_dice(a, b, empty_policy="nan"), known[:, 1])
    value = objects.object_hausdorff(a, b, spacing=spacing, empty_policy="nan")
    np.testing.assert_allclose(value, known[:, 2])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.floats(0.2, 5.0))
def test_generated_objects_agree_with_the_definition(seed, count, scale):
    a, b = labels(seed, count=count), labels(seed + 1, count=max(1, count - 2))
    spacing = np.array([1.0, 0.5]) * scale
    f1, dice, hausdorff = definition(a, b, spacing)
    a, b = a[None, ..., None], b[None, ..., None]
    assert objects.object_f1(a, b, empty_policy="strict")[0] == pytest.approx(f1)
    assert objects.object_dice(a, b, empty_policy="strict")[0] == pytest.approx(dice)
    value = objects.object_hausdorff(a, b, spacing=spacing, empty_policy="strict")
    assert value[0] == pytest.approx(hausdorff)


def test_pooled_scores_weigh_over_all_objects_of_the_set():
    a, b = (np.stack([labels(seed) for seed in seeds]) for seeds in ((4, 5), (14, 15)))
    wide = [
        np.concatenate([x[0], 0 * x[0], np.where(x[1] > 0, x[1] + 5000, 0)], axis=1)[None, ..., None]
        for x in (a, b)
    ]
    for metric in (objects.object_f1, objects.object_dice):
        pooled = metric(a[..., None], b[..., None], empty_policy="nan", pooled=True)
        assert pooled == pytest.approx(metric(*wide, empty_policy="nan")[0])


def test_more_than_255_objects_background_mates_and_the_half_rule():
    grid = np.zeros((1, 80, 80, 1), int)
    grid[0, ::4, ::4, 0] = np.arange(1, 401).reshape(20, 20)
    assert objects.object_f1(grid, grid, empty_policy="nan")[0] == 1.0
    assert objects.object_hausdorff(grid, grid, spacing=(1, 1), empty_policy="nan")[0] == 0.0
    reference, half = np.zeros((2, 1, 10, 40, 1), int)
    reference[:, :4, :4], half[:, :4, :2] = 1, 1
    # Exactly half covered counts; the background around a small object is never its mate.
    assert objects.object_f1(half, reference, empty_policy="nan")[0] == 1.0
    half[:, 3, 1] = 0
    assert objects.object_f1(half, reference, empty_policy="nan")[0] == 0.0
    tiny = np.zeros_like(reference)
    tiny[:, 3:6, 3:6] = 9
    assert objects.object_dice(tiny, reference, empty_policy="nan")[0] == pytest.approx(2 * 1 / (9 + 16))


def test_images_without_objects_follow_the_policy():
    one, none = np.zeros((2, 1, 4, 5, 1), int)
    one[:, 1, 1] = 1
    a, b = np.concatenate([none, none, one]), np.concatenate([none, one, none])
    np.testing.assert_allclose(objects.object_f1(a, b, empty_policy="best_worst"), [1, 0, 0])
    np.testing.assert_allclose(objects.object_dice(a, b, empty_policy="nan"), [np.nan, 0, 0])
    options = {"spacing": (1.0, 1.0)}
    np.testing.assert_allclose(
        objects.object_hausdorff(a, b, empty_policy="best_worst", **options), [0, 5, 5]
    )
    assert np.isnan(objects.object_hausdorff(a, b, empty_policy="nan", **options)).all()
    with pytest.raises(UserError, match="no objects"):
        objects.object_f1(a, b, empty_policy="strict")
    for bad in (a - 1, a + 0.5, a * np.nan):
        with pytest.raises(UserError, match="object numbers"):
            objects.object_f1(bad, b, empty_policy="nan")
    with pytest.raises(UserError, match="equal shapes"):
        objects.object_f1(a[:, :2], b, empty_policy="nan")


def test_froc_of_a_known_reading():
    options = {"spacing": (1.0, 2.0), "tolerance": 3.0}
    first = detection.match_points([(0, 0), (0, 1), (9, 9)], [0.9, 0.8, 0.7], [(1, 0), (20, 20)], **options)
    np.testing.assert_array_equal(first.lesions, [0, 0, -1])
    second = detection.match_points([(5, 5)], [0.95], [], **options)
    curve = detection.froc([first, second])
    assert (curve.n_images, curve.n_lesions) == (2, 2)
    np.testing.assert_allclose(curve.thresholds, [np.inf, 0.95, 0.9, 0.7])
    np.testing.assert_allclose(curve.false_positives, [0, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(curve.sensitivity, [0, 0, 0.5, 0.5])
    assert detection.froc_score(curve, rates=(0.25, 0.5, 1.0)) == pytest.approx(1 / 3)
    with pytest.raises(UserError, match="as many"):
        detection.match_points([(0, 0)], [], [], **options)


def test_froc_with_one_candidate_per_image_is_the_roc_curve():
    generator = np.random.default_rng(0)
    lesion = generator.random(60) < 0.5
    scores = np.round(generator.random(60) + 0.4 * lesion, 2)
    cases = [
        detection.match_points([(0, 0)], [s], [(0, 0)] if has else [], spacing=(1, 1), tolerance=1.0)
        for s, has in zip(scores, lesion, strict=True)
    ]
    curve = detection.froc(cases)
    fpr, tpr, _ = sklearn.metrics.roc_curve(lesion, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.sensitivity, tpr)
    np.testing.assert_allclose(curve.false_positives * 60 / (~lesion).sum(), fpr)


def test_components_become_candidates():
    score, lesion = np.zeros((12, 12)), np.zeros((12, 12), int)
    score[1:4, 1:4], score[2, 2], score[8:10, 8:10] = 0.6, 0.9, 0.7
    lesion[3:6, 3:6], lesion[10:, :2] = 4, 8
    match = detection.match_components(score, lesion, threshold=0.5)
    np.testing.assert_allclose(match.scores, [0.9, 0.7])
    np.testing.assert_array_equal(match.lesions, [0, -1])
    assert match.n_lesions == 2


def agatston(images, **changes):
    options = {
        "region": np.ones_like(images),
        "spacing": (0.5, 0.5),
        "slice_increment": 3.0,
        "minimum_area": 1.0,
        "connectivity": 2,
        "tube_voltage": 120,
    }
    return clinical.agatston(images, **{**options, **changes})


def test_agatston_of_phantoms():
    heart = np.full((5, 2, 20, 20, 1), 40.0)
    heart[1, 0, 2:6, 2:6] = 150  # 4 mm^2 of weight 1
    heart[2, :, 2:6, 2:6] = 150
    heart[2, 0, 3, 3] = 400  # weight 4 in this slice only
    heart[3, 0, 2, 2:5] = 300  # 0.75 mm^2: too small
    heart[4, 0, 2:4, 2:4], heart[4, 0, 4:6, 4:6] = 250, 130  # touch at a corner
    np.testing.assert_allclose(agatston(heart), [0, 4, 16 + 4, 0, 4])
    np.testing.assert_allclose(agatston(heart, connectivity=1)[4], 2 + 1)
    np.testing.assert_allclose(agatston(heart, slice_increment=1.5), np.array([0, 4, 20, 0, 4]) / 2)
    np.testing.assert_allclose(agatston(heart, minimum_area=0.0)[3], 0.75 * 3)
    np.testing.assert_allclose(agatston(heart, tube_voltage=100)[1], 4)
    np.testing.assert_allclose(agatston(heart, region=np.zeros_like(heart)), 0)
    np.testing.assert_array_equal(
        clinical.agatston_risk([0, 1, 10, 11, 100, 400, 401]), [0, 1, 1, 2, 2, 3, 4]
    )
    with pytest.raises(UserError, match="tube_voltage"):
        agatston(heart, tube_voltage=90)
    with pytest.raises(UserError, match="Hounsfield"):
        agatston(heart * np.nan)
    with pytest.raises(UserError, match="region"):
        agatston(heart, region=np.ones((1, 2)))


def test_agreement_shows_the_bias_that_correlation_hides():
    generator = np.random.default_rng(1)
    reference = generator.uniform(20, 70, 40)
    prediction = 0.5 * reference
    report = agreement_report(prediction, reference, minimum_n=10)
    assert report.pearson_r == pytest.approx(1.0) and report.concordance < 0.5
    noisy = reference + generator.normal(2, 5, 40)
    report = agreement_report(np.append(noisy, np.nan), np.append(reference, 50), minimum_n=10)
    assert report.pearson_r == pytest.approx(stats.pearsonr(noisy, reference).statistic)
    difference = noisy - reference
    assert report.bias == pytest.approx(difference.mean()) and report.mae == pytest.approx(
        abs(difference).mean()
    )
    assert report.upper_limit - report.bias == pytest.approx(1.96 * difference.std(ddof=1))
    assert (report.n, report.n_undefined) == (40, 1)
    assert np.isnan(agreement_report(np.ones(5), np.arange(5), minimum_n=3).pearson_r)
    with pytest.raises(UserError, match="at least 10"):
        agreement_report(reference[:5], reference[:5], minimum_n=10)
    with pytest.raises(UserError, match="infinite"):
        agreement_report([np.inf, 1.0, 2.0], [1.0, 2.0, 3.0], minimum_n=2)
