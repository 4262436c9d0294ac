"""Classifiers: published sizes, and scores that are a linear map of the features."""

import jax.numpy as jnp
import numpy as np

from medgan_jax.models.classifiers import FullyConvolutionalClassifier, PooledFeatures


def test_features_of_dann_on_digits(shapes):
    shape, count = shapes(PooledFeatures(), (2, 28, 28, 3))
    assert shape == (2, 768)
    assert count == 25 * 3 * 32 + 32 + 25 * 32 * 48 + 48
    assert shapes(PooledFeatures(over_space=True), (2, 31, 28, 3))[0] == (2, 48)


def test_scores_are_a_linear_map_of_the_features(start, compiled):
    network = FullyConvolutionalClassifier(3, (4, 6))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 8, 3)), jnp.float32)
    variables = start(network, x)
    scores, features = compiled(lambda v, x: network.apply(v, x, train=False, features=True))(variables, x)
    head = variables["params"]["head"]
    assert features.shape == (2, 6)
    np.testing.assert_allclose(scores, features @ head["kernel"][0, 0] + head["bias"], rtol=1e-5, atol=1e-6)
