"""Distances between features, and the weight that keeps a published ratio."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.losses import perceptual

rng = np.random.default_rng(0)
P = {"relu1_1": rng.normal(size=(2, 4, 4, 3)), "pool2": rng.normal(size=(2, 2, 2, 5))}
T = {"relu1_1": rng.normal(size=(2, 4, 4, 3)), "pool2": rng.normal(size=(2, 2, 2, 5))}


def test_taps_weigh_alike_whatever_their_size():
    expected = np.mean([((P[name] - T[name]) ** 2).mean() for name in P])
    assert perceptual.feature_l2(P, T) == pytest.approx(expected, rel=1e-6)
    expected = np.mean([np.abs(P[name] - T[name]).mean() for name in P])
    assert perceptual.feature_l1(tuple(P.values()), tuple(T.values())) == pytest.approx(expected, rel=1e-6)


def test_one_array_is_one_tap():
    assert perceptual.feature_l2(P["pool2"], T["pool2"]) == pytest.approx(
        ((P["pool2"] - T["pool2"]) ** 2).mean(), rel=1e-6)


def test_no_taps_and_different_shapes_are_refused():
    with pytest.raises(ValueError, match="no features"):
        perceptual.feature_l2({}, {})
    with pytest.raises(ValueError, match="same shape"):
        perceptual.feature_l1(P["pool2"], T["relu1_1"])


def test_feature_means_ignore_the_order_of_cases():
    features = P["pool2"]
    assert perceptual.feature_mean_l2(features, features[::-1]) == pytest.approx(0.0, abs=1e-10)
    expected = ((features.mean(0) - T["pool2"].mean(0)) ** 2).sum()
    assert perceptual.feature_mean_l2(features, T["pool2"]) == pytest.approx(expected, rel=1e-5)


def test_gram_matrix_by_its_definition():
    features = P["relu1_1"]
    flat = features[1].reshape(16, 3)
    np.testing.assert_allclose(perceptual.gram(features)[1], flat.T @ flat / (16 * 3), rtol=1e-5)


def test_style_ignores_where_features_are():
    features = P["relu1_1"]
    turned = np.rot90(features, axes=(1, 2))
    assert perceptual.style_l1(features, turned) == pytest.approx(0.0, abs=1e-6)
    assert perceptual.style_l1(features, T["relu1_1"]) > 0.01


def test_matched_weight_reaches_the_ratio_and_passes_no_gradient():
    weight = perceptual.matched_weight(jnp.float32(40.0), jnp.float32(2.0), ratio=0.5)
    assert float(weight) * 40.0 == pytest.approx(0.5 * 2.0)
    slope = jax.grad(lambda value: perceptual.matched_weight(value, jnp.float32(2.0), 0.5))(jnp.float32(40.0))
    assert slope == 0
    assert perceptual.matched_weight(jnp.float32(0.0), jnp.float32(2.0), 0.5) == 0


def test_means_of_the_chosen_cases_alone():
    f, g = np.array([[1.0, 2.0], [5.0, 5.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [2.0, 1.0]])
    chosen = np.array([True, False, True])
    # The means are (2, 3) and (1, 1).
    value = perceptual.feature_mean_l2(jnp.asarray(g), jnp.asarray(f), chosen=chosen)
    assert float(value) == pytest.approx(1 + 4)
    assert float(perceptual.feature_mean_l2(jnp.asarray(g), jnp.asarray(f), chosen=~chosen)) == pytest.approx(16 + 16)
    nobody = jax.value_and_grad(
        lambda g: perceptual.feature_mean_l2(g, jnp.asarray(f), chosen=np.zeros(3, bool))
    )(jnp.asarray(g))
    assert float(nobody[0]) == 0
    assert np.isfinite(nobody[1]).all()


def test_means_of_classes_are_matched_each_with_its_own():
    made, real = rng.normal(size=(4, 2, 3)), rng.normal(size=(3, 2, 3))
    expected = np.square(made[:2].mean(0) - real[1]).sum() + np.square(made[2:].mean(0) - real[[0, 2]].mean(0)).sum()
    found = perceptual.class_means_l2(jnp.asarray(made), jnp.asarray(real), jnp.array([1, 0, 1]))
    assert float(found) == pytest.approx(expected / 6, rel=1e-5)
