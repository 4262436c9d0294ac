"""Round trips and measurements against NumPy's transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.losses import consistency

rng = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(2, 6, 5, 1), (2, 4, 6, 5, 2)])
def test_kspace_term_compares_unnormalised_magnitudes(shape):
    prediction, target = rng.uniform(size=(2, *shape))
    axes = tuple(range(1, len(shape) - 1))
    difference = np.abs(np.fft.fftn(prediction, axes=axes)) - np.abs(np.fft.fftn(target, axes=axes))
    value = consistency.kspace_magnitude(prediction, target)
    assert value == pytest.approx((difference**2).mean(), rel=1e-4)


def test_kspace_magnitudes_do_not_see_a_shift_but_see_a_change_of_contrast():
    image = rng.uniform(size=(1, 8, 8, 1))
    assert consistency.kspace_magnitude(np.roll(image, 3, axis=2), image) == pytest.approx(0.0, abs=1e-6)
    assert consistency.kspace_magnitude(0.5 * image, image) > 0.1


def test_kspace_term_has_a_finite_gradient_where_a_frequency_is_empty():
    # A constant image has a zero at every frequency but the first.
    flat, target = jnp.full((1, 8, 8, 1), 0.5), jnp.asarray(rng.uniform(size=(1, 8, 8, 1)))
    assert bool(jnp.isfinite(jax.grad(consistency.kspace_magnitude)(flat, target)).all())


def test_cycle_and_identity_are_mean_absolute_errors():
    x, y = rng.normal(size=(2, 2, 4, 4, 1))
    assert consistency.cycle_consistency(x, y) == pytest.approx(np.abs(x - y).mean(), rel=1e-6)
    assert consistency.identity(x, y) == pytest.approx(np.abs(x - y).mean(), rel=1e-6)
