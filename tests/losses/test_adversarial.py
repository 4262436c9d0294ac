"""Adversarial losses against values computed from the papers' equations in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.losses import adversarial

REAL = np.array([[0.3], [-1.2], [2.0]])
FAKE = np.array([[-0.7], [0.4], [1.5]])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_cross_entropy_game_follows_the_equations():
    d_real, d_fake = sigmoid(REAL), sigmoid(FAKE)
    expected = -np.log(d_real).mean() - np.log(1 - d_fake).mean()
    assert adversarial.discriminator_cross_entropy(REAL, FAKE) == pytest.approx(expected, rel=1e-6)
    assert adversarial.generator_non_saturating(FAKE) == pytest.approx(-np.log(d_fake).mean(), rel=1e-6)
    assert adversarial.generator_saturating(FAKE) == pytest.approx(np.log(1 - d_fake).mean(), rel=1e-6)


def test_one_sided_label_smoothing():
    d_real, d_fake = sigmoid(REAL), sigmoid(FAKE)
    expected = -(0.9 * np.log(d_real) + 0.1 * np.log(1 - d_real)).mean() - np.log(1 - d_fake).mean()
    value = adversarial.discriminator_cross_entropy(REAL, FAKE, real_label=0.9)
    assert value == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_stays_finite_for_extreme_logits():
    value, slope = jax.value_and_grad(adversarial.generator_non_saturating)(jnp.array([-1e4, 1e4]))
    assert value == pytest.approx(5000)
    np.testing.assert_allclose(slope, [-0.5, 0.0])


@pytest.mark.parametrize("a, b, c", [(0.0, 1.0, 1.0), (-1.0, 1.0, 0.0)])
def test_least_squares_game(a, b, c):
    expected = ((REAL - b) ** 2).mean() + ((FAKE - a) ** 2).mean()
    assert adversarial.discriminator_least_squares(REAL, FAKE, a=a, b=b) == pytest.approx(expected, rel=1e-6)
    expected = ((FAKE - c) ** 2).mean()
    assert adversarial.generator_least_squares(FAKE, c=c) == pytest.approx(expected, rel=1e-6)


def test_wasserstein_game():
    value = adversarial.discriminator_wasserstein(REAL, FAKE)
    assert value == pytest.approx(FAKE.mean() - REAL.mean(), rel=1e-5)
    assert adversarial.generator_wasserstein(FAKE) == pytest.approx(-FAKE.mean(), rel=1e-5)


def test_hinge_game():
    expected = np.maximum(0, 1 - REAL).mean() + np.maximum(0, 1 + FAKE).mean()
    assert adversarial.discriminator_hinge(REAL, FAKE) == pytest.approx(expected, rel=1e-6)
    assert adversarial.generator_hinge(FAKE) == pytest.approx(-FAKE.mean(), rel=1e-6)


def test_patch_maps_weigh_every_position_alike():
    scores = np.random.default_rng(0).normal(size=(2, 3, 5, 1))
    whole = adversarial.generator_non_saturating(scores)
    parts = [float(adversarial.generator_non_saturating(s)) for s in scores.reshape(-1, 1)]
    assert whole == pytest.approx(np.mean(parts), rel=1e-5)


def test_bfloat16_scores_are_averaged_in_float32():
    scores = jnp.full((1000, 1), 0.1, jnp.bfloat16)
    value = adversarial.generator_wasserstein(scores)
    assert value.dtype == jnp.float32
    assert value == pytest.approx(-float(scores[0, 0]), rel=1e-6)
