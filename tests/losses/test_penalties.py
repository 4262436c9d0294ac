"""Gradient penalties on critics whose gradients are known, and the projections."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.losses import penalties

rng = np.random.default_rng(0)
REAL, FAKE = (jnp.asarray(images, jnp.float32) for images in rng.normal(size=(2, 5, 4, 3, 2)))
DIRECTION = jnp.asarray(rng.normal(size=(4, 3, 2)), jnp.float32)
UNIT = DIRECTION / jnp.linalg.norm(DIRECTION)
KEY = jax.random.key(0)


def linear(direction):
    return lambda x: jnp.sum(x * direction, axis=(1, 2, 3))[:, None]


def test_penalty_of_a_linear_critic_of_unit_norm_is_zero():
    assert penalties.gradient_penalty(linear(UNIT), REAL, FAKE, KEY) == pytest.approx(0.0, abs=1e-10)


def test_penalty_takes_the_norm_over_all_axes_and_the_mean_over_cases():
    norm = float(jnp.linalg.norm(DIRECTION))
    value = penalties.gradient_penalty(linear(DIRECTION), REAL, FAKE, KEY)
    assert value == pytest.approx((norm - 1) ** 2, rel=1e-5)
    value = penalties.gradient_penalty(linear(DIRECTION), REAL, FAKE, KEY, target=3.0)
    assert value == pytest.approx((norm - 3) ** 2, rel=1e-5)


def test_a_patch_map_is_summed_before_the_gradient():
    patches = lambda x: jnp.stack([linear(UNIT)(x), linear(UNIT)(x)], axis=1)  # noqa: E731
    assert penalties.gradient_penalty(patches, REAL, FAKE, KEY) == pytest.approx(1.0, rel=1e-5)


def test_points_lie_between_real_and_fake_with_one_fraction_for_each_case():
    points = penalties.interpolates(REAL, FAKE, KEY)
    fraction = (points - FAKE) / (REAL - FAKE)
    spread = fraction.max(axis=(1, 2, 3)) - fraction.min(axis=(1, 2, 3))
    assert float(spread.max()) < 1e-3
    means = fraction.mean(axis=(1, 2, 3))
    assert float(means.min()) > 0 and float(means.max()) < 1 and float(means.std()) > 0.05


def test_a_flat_critic_has_a_finite_gradient_of_its_penalty():
    def penalty(weight):
        return penalties.gradient_penalty(lambda x: weight * x.sum(axis=(1, 2, 3)), REAL, FAKE, KEY)

    value, slope = jax.value_and_grad(penalty)(jnp.float32(0.0))
    assert value == pytest.approx(1.0)
    assert bool(jnp.isfinite(slope))


def test_penalty_reaches_the_critics_parameters():
    def penalty(weight):
        return penalties.gradient_penalty(linear(weight * UNIT), REAL, FAKE, KEY)

    assert jax.grad(penalty)(jnp.float32(3.0)) == pytest.approx(4.0, rel=1e-4)


def test_r1_is_the_mean_squared_norm_at_real_data():
    value = penalties.r1(lambda x: jnp.sum(x**2, axis=(1, 2, 3)), REAL)
    assert value == pytest.approx(float(jnp.mean(jnp.sum((2 * REAL) ** 2, axis=(1, 2, 3)))), rel=1e-5)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        penalties.gradient_penalty(linear(UNIT), REAL, FAKE[:1], KEY)


def test_drift_and_clipping():
    assert penalties.drift(jnp.array([3.0, -1.0])) == pytest.approx(5.0)
    clipped = penalties.clip_parameters({"D": {"kernel": jnp.array([-1.0, 0.005, 1.0])}}, 0.01)
    np.testing.assert_allclose(clipped["D"]["kernel"], [-0.01, 0.005, 0.01])
