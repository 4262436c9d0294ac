"""Losses between images against NumPy, and the gradients where a root or a corner sits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.losses import pixel

rng = np.random.default_rng(0)
PREDICTION, TARGET = rng.normal(size=(2, 3, 6, 5, 2))
VOLUMES = rng.normal(size=(2, 2, 4, 3, 5, 1))


def test_absolute_and_squared_error():
    assert pixel.l1(PREDICTION, TARGET) == pytest.approx(np.abs(PREDICTION - TARGET).mean(), rel=1e-6)
    assert pixel.l2(PREDICTION, TARGET) == pytest.approx(((PREDICTION - TARGET) ** 2).mean(), rel=1e-6)


def test_norm_is_the_mean_of_the_norms_of_cases():
    a, b = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 1)).astype(np.float32)
    expected = np.mean([np.linalg.norm(a[i] - b[i]) for i in range(3)])
    assert float(pixel.norm(jnp.asarray(a), jnp.asarray(b))) == pytest.approx(expected, rel=1e-5)


def test_charbonnier_is_smooth_at_zero_and_absolute_far_away():
    assert pixel.charbonnier(jnp.zeros(3), jnp.zeros(3), epsilon=0.5) == pytest.approx(0.5)
    assert pixel.charbonnier(jnp.full(3, 9.0), jnp.zeros(3)) == pytest.approx(9.0, rel=1e-6)
    assert jax.grad(pixel.charbonnier)(jnp.zeros(3), jnp.zeros(3)).tolist() == [0, 0, 0]


def test_relative_error_is_a_mean_over_cases_of_norm_ratios():
    ratios = [np.linalg.norm(p - t) / np.linalg.norm(t) for p, t in zip(PREDICTION, TARGET, strict=True)]
    assert pixel.relative_l2(PREDICTION, TARGET) == pytest.approx(np.mean(ratios), rel=1e-6)


def test_relative_error_has_a_finite_gradient_at_a_perfect_prediction():
    target = jnp.asarray(TARGET)
    assert bool(jnp.isfinite(jax.grad(pixel.relative_l2)(target, target)).all())


@pytest.mark.parametrize("images", [(PREDICTION, TARGET), VOLUMES])
@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_gradient_difference_compares_magnitudes_of_slopes(images, exponent):
    prediction, target = images
    expected = 0
    for axis in range(1, target.ndim - 1):
        slopes = np.abs(np.abs(np.diff(target, axis=axis)) - np.abs(np.diff(prediction, axis=axis)))
        expected += (slopes**exponent).mean()
    value = pixel.gradient_difference(prediction, target, exponent=exponent)
    assert value == pytest.approx(expected, rel=1e-5)


def test_gradient_difference_ignores_offset_and_sign():
    assert pixel.gradient_difference(3.0 - TARGET, TARGET) == pytest.approx(0.0, abs=1e-10)


def test_total_variation_of_a_step():
    image = np.zeros((1, 4, 4, 1))
    image[:, :, 2:] = 6.0
    # One of three neighbouring pairs along the rows differs, by 6; along the columns none does.
    assert pixel.total_variation(image) == pytest.approx(2.0)


@pytest.mark.parametrize("loss", [pixel.l1, pixel.l2, pixel.charbonnier, pixel.relative_l2,
                                  pixel.gradient_difference])
def test_shapes_that_would_broadcast_are_refused(loss):
    with pytest.raises(ValueError, match="same shape"):
        loss(jnp.zeros((2, 4, 4, 1)), jnp.zeros((2, 4, 4, 3)))


def test_low_precision_images_give_a_float32_loss():
    images = jnp.ones((1, 4, 4, 1), jnp.bfloat16)
    assert pixel.l1(images, images).dtype == jnp.float32
