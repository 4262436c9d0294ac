"""Overlap metrics against MONAI, MedPy and scikit-learn on every kind of mask, and what empty masks score."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_jax.metrics import overlap


def by_counting(formula):
    def call(x, y):
        a, b = x.ravel() == 1, y.ravel() == 1
        return formula((a & b).sum(), a.sum(), b.sum()) if a.any() or b.any() else np.nan

    return call


CASES = {
    "dice": (overlap.dice, by_counting(lambda i, a, b: 2 * i / (a + b))),
    "iou": (overlap.iou, by_counting(lambda i, a, b: i / (a + b - i))),
}


def filled(reference):
    return lambda x, y: np.nan_to_num(reference(x, y), nan=1.0)


@pytest.mark.parametrize("shape", [(12, 10), (6, 7, 8)])
def test_every_kind_of_mask(shape, mixed_masks, agree):
    cases = {}
    for name, (metric, reference) in CASES.items():
        cases[name] = partial(metric, empty_policy="nan"), reference
        cases[f"{name}, best or worst"] = partial(metric, empty_policy="best_worst"), filled(reference)
    agree(cases, mixed_masks(shape))


def test_medpy_and_monai(mixed_masks):
    a, b = mixed_masks((12, 10))()
    values = {name: np.asarray(metric(a, b, empty_policy="nan")) for name, (metric, _) in CASES.items()}
    both = (a.sum((1, 2, 3)) > 0) & (b.sum((1, 2, 3)) > 0)
    binary = pytest.importorskip("medpy.metric.binary", reason="MedPy is a reference")
    for i in np.flatnonzero(both):
        assert values["dice"][i] == pytest.approx(binary.dc(a[i], b[i]))
        assert values["iou"][i] == pytest.approx(binary.jc(a[i], b[i]))
    torch = pytest.importorskip("torch", reason="MONAI needs it")
    metrics = pytest.importorskip("monai.metrics", reason="MONAI is a reference")
    x, y = (torch.tensor(np.moveaxis(z, -1, 1)) for z in (a, b))
    other = metrics.compute_dice(x, y, include_background=True, ignore_empty=False).numpy()[:, 0]
    np.testing.assert_allclose(overlap.dice(a, b, empty_policy="best_worst"), other, rtol=1e-6)
    other = metrics.compute_iou(x, y, include_background=True, ignore_empty=True).numpy()[:, 0]
    np.testing.assert_allclose(values["iou"][both], other[both], rtol=1e-6)


def test_monai_calls_an_empty_reference_undefined_although_the_prediction_is_wrong():
    torch = pytest.importorskip("torch", reason="MONAI needs it")
    metrics = pytest.importorskip("monai.metrics", reason="MONAI is the reference in question")
    prediction, reference = np.ones((1, 4, 4, 1)), np.zeros((1, 4, 4, 1))
    x, y = (torch.tensor(np.moveaxis(z, -1, 1)) for z in (prediction, reference))
    assert torch.isnan(metrics.compute_dice(x, y, include_background=True, ignore_empty=True))
    # The formula has a value there, and false alarms on empty cases must not be forgiven.
    assert float(overlap.dice(prediction, reference, empty_policy="nan")[0]) == 0.0


def test_classes_agree_with_scikit_learn_and_absent_classes_follow_the_policy():
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 3, (2, 4, 8, 8, 1))
    dice = jax.jit(lambda x, y: overlap.class_dice(x, y, classes=4, empty_policy="nan"))(a, b)
    iou = overlap.class_iou(a, b, classes=4, empty_policy="best_worst")
    for i in range(4):
        expected = sklearn.metrics.f1_score(b[i].ravel(), a[i].ravel(), average=None, labels=range(3))
        np.testing.assert_allclose(dice[i, :3], expected, rtol=1e-6)
        expected = sklearn.metrics.jaccard_score(b[i].ravel(), a[i].ravel(), average=None, labels=range(3))
        np.testing.assert_allclose(iou[i, :3], expected, rtol=1e-6)
    assert np.isnan(dice[:, 3]).all() and (iou[:, 3] == 1).all()
    assert np.isnan(overlap.class_dice(a, b, classes=2, empty_policy="nan")).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 0.9), st.floats(0.01, 0.9))
def test_properties_of_generated_masks(seed, p, q):
    generator = np.random.default_rng(seed)
    a, b = generator.random((1, 7, 9, 1)) < p, generator.random((1, 7, 9, 1)) < q
    d, j = (float(f(a, b, empty_policy="best_worst")[0]) for f in (overlap.dice, overlap.iou))
    assert j == pytest.approx(d / (2 - d), abs=1e-6) and 0 <= j <= d <= 1
    assert d == pytest.approx(float(overlap.dice(b, a, empty_policy="best_worst")[0]))
    assert d == pytest.approx(float(overlap.dice(a[:, ::-1], b[:, ::-1], empty_policy="best_worst")[0]))
    permuted = overlap.class_dice(1 - a, 1 - b, classes=2, empty_policy="nan")[0, ::-1]
    np.testing.assert_allclose(
        permuted, overlap.class_dice(a, b, classes=2, empty_policy="nan")[0], rtol=1e-6
    )


def test_two_discs():
    y, x = np.mgrid[:200, :200]
    disc = lambda column: ((x - column) ** 2 + (y - 100) ** 2 <= 40**2)[None, ..., None]  # noqa: E731
    distance, radius = 30.0, 40.0
    lens = 2 * radius**2 * np.arccos(distance / 2 / radius) - distance / 2 * np.sqrt(
        4 * radius**2 - distance**2
    )
    value = float(overlap.dice(disc(85), disc(115), empty_policy="nan")[0])
    assert value == pytest.approx(lens / (np.pi * radius**2), abs=0.005)


def test_soft_masks_and_unknown_policies_are_refused():
    a = jnp.full((1, 4, 4, 1), 0.5)
    assert np.isnan(jax.jit(lambda x: overlap.dice(x, x, empty_policy="best_worst"))(a)[0])
    assert np.isnan(overlap.dice(jnp.full_like(a, jnp.nan), a > 0, empty_policy="best_worst")[0])
    with pytest.raises(TypeError):
        overlap.dice(a, a)
    with pytest.raises(ValueError, match="empty_policy"):
        overlap.dice(a, a, empty_policy="strict")
    with pytest.raises(ValueError, match="but reference is"):
        overlap.iou(a, a[:, :2], empty_policy="nan")


def test_centreline_dice_rewards_connected_tubes():
    tube, line = np.zeros((2, 1, 20, 20, 1))
    tube[:, 8:12], line[:, 10] = 1, 1
    broken, broken_line = tube.copy(), line.copy()
    broken[:, :, 5:15], broken_line[:, :, 5:15] = 0, 0
    score = lambda *x: float(overlap.centreline_dice(*x, empty_policy="nan")[0])  # noqa: E731
    assert score(tube, tube, line, line) == 1.0
    assert score(broken, tube, broken_line, line) == pytest.approx(2 * 1 * 0.5 / 1.5)
    empty = np.zeros_like(tube)
    assert score(empty, tube, empty, line) == 0.0
    assert np.isnan(score(empty, empty, empty, empty))
