"""Rates that follow the step."""

import jax.numpy as jnp
import pytest

from medgan_jax.schedules import polynomial_descent


def test_polynomial_descent_goes_on_where_another_has_stopped():
    weights, gradient = {"w": jnp.ones(())}, {"w": jnp.full((), 2.0)}
    for done, rate in ((0, 0.5), (6, 0.5 * 0.4**0.9)):
        descent = polynomial_descent(0.5, 10, done=done)
        moved, state = descent.update(gradient, descent.init(weights), weights)
        assert float(moved["w"]) == pytest.approx(-rate * (2 + 1e-4), rel=1e-5)
        again, _ = descent.update(gradient, state, weights)
        later = 0.5 * (1 - (done + 1) / 10) ** 0.9
        assert float(again["w"]) == pytest.approx(-later * 1.9 * (2 + 1e-4), rel=1e-5)
