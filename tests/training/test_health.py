"""Names of values that are not finite, and the diversity of images."""

import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.training.health import diversity, first_non_finite, non_finite_network

NAN, INF = np.float32(np.nan), np.float32(np.inf)


@pytest.mark.parametrize(
    ("terms", "found"),
    [
        ({"G/loss": 1.0, "D/loss": 2.0}, None),
        ({"G/loss": NAN, "D/loss": 2.0}, ("G", "loss")),
        ({"G/loss": NAN, "D/loss": NAN}, ("D", "loss")),
        ({"D/loss": NAN, "D/real": INF, "D/gradient_norm": NAN}, ("D", "real")),
        ({"D/update_ratio": INF, "D/gradient_norm": NAN, "D/loss": 0.0}, ("D", "gradient_norm")),
        ({"D/loss": np.array([0.0, 1.0, NAN])}, ("D", "loss")),
        ({"G/a/b": NAN, "G/loss": NAN}, ("G", "a/b")),
    ],
)
def test_the_first_telling_term_is_named(terms, found):
    assert first_non_finite(terms, ["D", "G"]) == found


def test_networks_with_values_that_are_not_finite_are_named():
    good = {"w": jnp.ones(3), "n": jnp.int32(1)}
    trees = {"params": {"G": good, "D": good, "empty": {}}, "variables": {"G": {}, "D": good}}
    assert non_finite_network(trees) is None
    trees["variables"]["D"] = {"w": jnp.array([1.0, jnp.inf])}
    assert non_finite_network(trees) == "D"


def test_diversity_is_the_mean_difference_of_pairs():
    images = np.random.default_rng(0).standard_normal((5, 3, 3, 1)).astype(np.float32)
    pairs = [np.abs(a - b).mean() for i, a in enumerate(images) for j, b in enumerate(images) if i != j]
    assert float(diversity(jnp.asarray(images))) == pytest.approx(np.mean(pairs), rel=1e-5)
    assert float(diversity(jnp.ones((4, 3, 3, 1)))) == 0
    assert np.isnan(float(diversity(jnp.ones((1, 3, 3, 1)))))
