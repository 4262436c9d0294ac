"""Classification metrics against scikit-learn and SciPy, ties and empty classes included."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_jax.metrics import classification as c


def undefined_without(needed, reference):
    """The reference, or NaN where the definition has no value and scikit-learn invents one or raises."""

    def call(scores, labels):
        s, y = np.float64(scores).ravel(), np.asarray(labels).ravel().astype(int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return reference(s, y) if needed(s >= 0.5, y) else np.nan

    return call


def both(called, y):
    return 0 < y.sum() < y.size


def positive(called, y):
    return y.any()


def always(called, y):
    return True


CASES = {
    "accuracy": (c.accuracy, undefined_without(always, lambda s, y: sk.accuracy_score(y, s >= 0.5))),
    "balanced_accuracy": (
        c.balanced_accuracy,
        undefined_without(both, lambda s, y: sk.balanced_accuracy_score(y, s >= 0.5)),
    ),
    "precision": (
        c.precision,
        undefined_without(always, lambda s, y: sk.precision_score(y, s >= 0.5, zero_division=np.nan)),
    ),
    "recall": (c.recall, undefined_without(positive, lambda s, y: sk.recall_score(y, s >= 0.5))),
    "specificity": (
        c.specificity,
        undefined_without(
            lambda p, y: (y == 0).any(), lambda s, y: sk.recall_score(y, s >= 0.5, pos_label=0)
        ),
    ),
    "fbeta": (
        lambda s, y, threshold: c.fbeta(s, y, threshold=threshold, beta=2.0),
        undefined_without(
            lambda p, y: p.any() or y.any(), lambda s, y: sk.fbeta_score(y, s >= 0.5, beta=2.0)
        ),
    ),
    # scikit-learn returns 0 where the denominator vanishes; undefined here.
    "mcc": (
        c.mcc,
        undefined_without(
            lambda p, y: both(p, y) and 0 < p.sum() < p.size, lambda s, y: sk.matthews_corrcoef(y, s >= 0.5)
        ),
    ),
}
RANKED = {
    "roc_auc": (c.roc_auc, undefined_without(both, lambda s, y: sk.roc_auc_score(y, s))),
    "average_precision": (
        c.average_precision,
        undefined_without(positive, lambda s, y: sk.average_precision_score(y, s)),
    ),
    "brier": (c.brier, undefined_without(always, lambda s, y: np.mean((s - y) ** 2))),
}


def youden(s, y):
    fpr, tpr, thresholds = sk.roc_curve(y, s, drop_intermediate=False)
    return thresholds[np.argmax(np.round(tpr - fpr, 6))]


def calibration_error(s, y, bins=5):
    index = np.minimum(np.floor(np.float32(s) * np.float32(bins)).astype(int), bins - 1)
    gaps = [abs(y[index == i].mean() - s[index == i].mean()) * np.mean(index == i) for i in np.unique(index)]
    return sum(gaps)


COUNTED = {
    "prevalence": (lambda s, y: c.prevalence(y), undefined_without(always, lambda s, y: y.mean())),
    "ece": (partial(c.ece, bins=5), undefined_without(always, calibration_error)),
    "youden_threshold": (c.youden_threshold, undefined_without(both, youden)),
    "confusion_counts": (
        lambda s, y: jnp.stack(c.confusion_counts(s, y, threshold=0.5), -1),
        undefined_without(
            always, lambda s, y: sk.confusion_matrix(y, s >= 0.5, labels=[0, 1]).ravel()[[3, 1, 2, 0]]
        ),
    ),
}


def weighted_kappa(weights):
    def call(x, y):
        x, y = (np.float64(z).ravel().astype(int) for z in (x, y))
        if len(np.unique(np.concatenate([x, y]))) < 2:
            return np.nan
        return sk.cohen_kappa_score(x, y, labels=range(3), weights=None if weights == "none" else weights)

    return call


BY_CLASS = {
    "class_accuracy": (partial(c.class_accuracy, classes=3), lambda x, y: np.mean(x == y)),
    **{
        f"cohen_kappa, {w}": (partial(c.cohen_kappa, classes=3, weights=w), weighted_kappa(w))
        for w in ("none", "linear", "quadratic")
    },
}


def test_every_kind_of_input_agrees_with_scikit_learn(mixed_images_and_masks, agree):
    at_half = {
        name: (partial(metric, threshold=0.5), reference) for name, (metric, reference) in CASES.items()
    }
    agree({**at_half, **RANKED, **COUNTED}, mixed_images_and_masks((9, 8)), atol=2e-6, examples=2)


def test_every_kind_of_label_map_agrees_with_scikit_learn(mixed_masks, agree):
    rows = 1 + (np.arange(9) % 2).reshape(-1, 1, 1)
    agree(BY_CLASS, mixed_masks((9, 8), lambda a, b: (a * rows, b * rows)), atol=2e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 5, 100, 10**6]), st.floats(0.02, 0.98))
def test_auc_of_generated_scores_with_ties(seed, levels, prevalence):
    generator = np.random.default_rng(seed)
    labels = generator.random(40) < prevalence
    labels[:2] = 0, 1
    scores = (generator.integers(0, levels, 40) / levels + 0.2 * labels).astype(np.float32)
    expected = sk.roc_auc_score(labels, scores)
    np.testing.assert_allclose(c.roc_auc(scores, labels), expected, rtol=1e-5)
    u = scipy.stats.mannwhitneyu(scores[labels], scores[~labels]).statistic / (labels.sum() * (~labels).sum())
    np.testing.assert_allclose(c.roc_auc(scores, labels), u, rtol=1e-5)
    np.testing.assert_allclose(
        c.average_precision(scores, labels), sk.average_precision_score(labels, scores), rtol=1e-5
    )


def test_auc_of_very_unequal_classes_keeps_its_digits():
    generator = np.random.default_rng(0)
    labels = np.ones(400_000, np.uint8)
    labels[:20] = 0
    scores = generator.normal(size=labels.size).astype(np.float32) + labels
    np.testing.assert_allclose(c.roc_auc(scores, labels), sk.roc_auc_score(labels, scores), rtol=1e-5)


def test_roc_curve_has_the_vertices_of_scikit_learn_and_the_area_of_roc_auc():
    generator = np.random.default_rng(1)
    scores = np.round(generator.random((3, 60)), 1).astype(np.float32)
    labels = generator.random((3, 60)) < scores
    curve = jax.jit(c.roc_curve)(scores, labels)
    for fpr, tpr, thresholds, y, s in zip(*curve, labels, scores, strict=True):
        expected = sk.roc_curve(y, s, drop_intermediate=False)
        np.testing.assert_allclose(
            np.unique(np.stack([fpr, tpr]), axis=1), np.unique(expected[:2], axis=1), atol=1e-6
        )
        assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1) and thresholds[0] == np.inf
        assert float(jnp.trapezoid(tpr, fpr)) == pytest.approx(float(c.roc_auc(s, y)), abs=1e-5)
        best = np.argmax(expected[1] - expected[0])
        assert float(c.youden_threshold(s, y)) == pytest.approx(expected[2][best])


def test_confusion_counts_of_a_known_case_and_a_mask():
    scores = jnp.array([[0.9, 0.5, 0.4, 0.1, 0.8]])
    labels = jnp.array([[1, 0, 1, 0, 1]])
    assert [int(x[0]) for x in c.confusion_counts(scores, labels, threshold=0.5)] == [2, 1, 1, 1]
    mask = jnp.array([[1, 1, 1, 1, 0]])
    assert [int(x[0]) for x in c.confusion_counts(scores, labels, threshold=0.5, mask=mask)] == [1, 1, 1, 1]
    spoilt = scores.at[0, 4].set(jnp.nan)
    assert float(c.roc_auc(spoilt, labels, mask=mask)[0]) == pytest.approx(0.75)
    assert np.isnan(c.roc_auc(spoilt, labels)[0])
    assert float(c.prevalence(labels)[0]) == pytest.approx(0.6)


def test_one_set_of_scores_gives_a_scalar_and_a_batch_one_value_per_case():
    scores, labels = jnp.array([0.1, 0.6, 0.7, 0.2]), jnp.array([0, 1, 1, 0])
    assert c.roc_auc(scores, labels).shape == () and float(c.roc_auc(scores, labels)) == 1.0
    assert c.roc_auc(scores.reshape(2, 2, 1, 1), labels.reshape(2, 2, 1, 1)).shape == (2,)
    assert c.accuracy(scores.reshape(1, 4), labels.reshape(1, 4), threshold=0.5).shape == (1,)


def test_calibration_bins_agree_with_a_direct_count():
    generator = np.random.default_rng(2)
    p = generator.random((2, 300)).astype(np.float32)
    y = generator.random((2, 300)) < p**2
    expected = []
    for q, t in zip(np.float64(p), y, strict=True):
        index = np.minimum((q * 15).astype(int), 14)
        gaps = [
            abs(t[index == b].mean() - q[index == b].mean()) * np.mean(index == b) for b in np.unique(index)
        ]
        expected.append(sum(gaps))
    np.testing.assert_allclose(jax.jit(lambda a, b: c.ece(a, b, bins=15))(p, y), expected, rtol=1e-5)
    np.testing.assert_allclose(
        c.brier(p, y), [sk.brier_score_loss(t, q) for q, t in zip(p, y, strict=True)], rtol=1e-5
    )


def test_calibration_error_agrees_with_torchmetrics():
    torch = pytest.importorskip("torch", reason="torchmetrics needs it")
    generator = np.random.default_rng(2)
    p = generator.random((1, 300)).astype(np.float32)
    y = generator.random((1, 300)) < p**2
    functional = pytest.importorskip("torchmetrics.functional.classification", reason="the second reference")
    other = functional.binary_calibration_error(torch.tensor(p[0]), torch.tensor(y[0].astype(int)), n_bins=15)
    np.testing.assert_allclose(c.ece(p[0], y[0], bins=15), float(other), rtol=1e-4)


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_agrees_with_scikit_learn(weights):
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 4, (3, 80))
    predicted = np.where(generator.random((3, 80)) < 0.6, labels, generator.integers(0, 4, (3, 80)))
    expected = [
        sk.cohen_kappa_score(p, t, labels=range(4), weights=None if weights == "none" else weights)
        for p, t in zip(predicted, labels, strict=True)
    ]
    value = jax.jit(lambda a, b: c.cohen_kappa(a, b, classes=4, weights=weights))(predicted, labels)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    same = np.zeros((1, 10), int)
    assert np.isnan(c.cohen_kappa(same, same, classes=4, weights=weights)[0])


def test_class_accuracy_and_confusion_matrix():
    generator = np.random.default_rng(4)
    labels, predicted = generator.integers(0, 5, (2, 2, 50))
    matrix = c.confusion_matrix(predicted, labels, classes=5)
    for i in range(2):
        np.testing.assert_array_equal(
            matrix[i], sk.confusion_matrix(labels[i], predicted[i], labels=range(5))
        )
    np.testing.assert_allclose(
        c.class_accuracy(predicted, labels, classes=5), np.mean(predicted == labels, 1), rtol=1e-6
    )
    assert np.isnan(c.class_accuracy(predicted, labels, classes=3)).all()


def test_monotone_transforms_and_label_swap():
    generator = np.random.default_rng(5)
    scores = generator.random((1, 200)).astype(np.float32)
    labels = generator.random((1, 200)) < scores
    np.testing.assert_allclose(c.roc_auc(scores, labels), c.roc_auc(np.exp(5 * scores), labels), atol=1e-6)
    np.testing.assert_allclose(c.roc_auc(scores, labels), c.roc_auc(-scores, ~labels), atol=1e-6)
    np.testing.assert_allclose(c.roc_auc(scores, labels), 1 - c.roc_auc(-scores, labels), atol=1e-6)
    np.testing.assert_allclose(
        c.recall(scores, labels, threshold=0.5), c.specificity(1 - scores, ~labels, threshold=0.5), atol=0.02
    )


def test_scores_that_are_no_probabilities_and_bad_shapes():
    scores, labels = jnp.array([[0.2, 0.8, 0.6]]), jnp.array([[0, 1, 2]])
    assert np.isnan(c.brier(scores + 1, labels == 1)[0])
    assert np.isnan(c.ece(scores + 1, labels == 1, bins=15)[0])
    with pytest.raises(ValueError, match="but labels are"):
        c.roc_auc(scores, labels[:, :2])
    with pytest.raises(TypeError):
        c.accuracy(scores, labels)
    with pytest.raises(ValueError, match="weights"):
        c.cohen_kappa(labels, labels, classes=3, weights="cubic")
