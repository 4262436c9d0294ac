"""Gradient reversal: the value passes, the gradient comes back with the other sign."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.nn.reversal import reverse_gradient


def test_value_passes_and_gradient_is_reversed_and_weighted():
    x = jnp.array([1.0, -2.0, 3.0])
    value, gradient = jax.jit(jax.value_and_grad(lambda x: (reverse_gradient(x, 0.3) ** 2).sum()))(x)
    assert float(value) == pytest.approx(14.0)
    np.testing.assert_allclose(gradient, -0.3 * 2 * np.asarray(x), rtol=1e-6)


def test_weight_may_be_traced_and_gets_no_gradient():
    x = jnp.array([1.0, -2.0])
    of_x, of_weight = jax.jit(jax.grad(lambda x, w: reverse_gradient(x, w).sum(), (0, 1)))(x, 0.5)
    np.testing.assert_allclose(of_x, [-0.5, -0.5])
    assert float(of_weight) == 0
