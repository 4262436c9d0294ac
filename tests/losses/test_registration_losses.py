"""Losses of registration against NumPy: local correlation in volumes, smoothness by axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.losses.registration import local_cross_correlation, smoothness_against_folding


def test_local_correlation_of_volumes_against_windows_by_hand():
    a, b = np.random.default_rng(0).normal(size=(2, 4, 5, 6))
    scores = []
    for place in np.ndindex(a.shape):
        window = tuple(slice(max(index - 1, 0), index + 2) for index in place)
        x, y = a[window] - a[window].mean(), b[window] - b[window].mean()
        scores.append((x * y).mean() ** 2 / ((x**2).mean() * (y**2).mean() + 1e-5))
    a, b = (jnp.asarray(each[None, ..., None], jnp.float32) for each in (a, b))
    assert float(local_cross_correlation(a, b, window=3)) == pytest.approx(-np.mean(scores), rel=1e-4)


def test_local_correlation_of_constant_images_is_none_with_a_finite_gradient():
    flat = jnp.ones((1, 6, 6, 1))
    loss, gradient = jax.value_and_grad(lambda x: local_cross_correlation(x, flat))(flat)
    assert float(loss) == pytest.approx(0, abs=1e-6)
    assert bool(jnp.isfinite(gradient).all())


def test_local_correlation_refuses_images_of_other_shapes():
    with pytest.raises(ValueError, match="same shape"):
        local_cross_correlation(jnp.ones((1, 6, 6, 1)), jnp.ones((1, 6, 5, 1)))


def test_smoothness_of_a_volume_is_the_mean_over_axes():
    u = np.random.default_rng(0).uniform(-0.4, 0.4, (2, 3, 4, 5, 3))
    expected = np.mean([(np.diff(u, axis=axis) ** 2).mean() for axis in (1, 2, 3)])
    assert float(smoothness_against_folding(jnp.asarray(u))) == pytest.approx(expected, rel=1e-5)
