"""Markovian networks: published tables, patches judged alone, a canvas that keeps images apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.models import markovian


def test_generator_has_the_published_layers(shapes):
    shape, count = shapes(markovian.MarkovianGenerator(), (1, 16, 16, 512))
    assert shape == (1, 128, 128, 3)
    convolutions = 9 * 512 * 512 + 16 * (512 * 256 + 256 * 128 + 128 * 3)
    assert count == convolutions + 2 * (512 + 256 + 128) + 3


def test_discriminators_have_the_published_layers(shapes):
    shape, count = shapes(markovian.MarkovianDiscriminator(), (1, 32, 32, 256))
    assert shape == (1, 8, 8, 1)
    assert count == 16 * (256 * 256 + 256 * 512) + 2 * (256 + 512) + 512 + 1
    shape, count = shapes(markovian.NeuralPatchDiscriminator(), (1, 32, 32, 256))
    assert shape == (1, 7, 7, 1)
    assert count == 9 * 256 * 256 + 2 * 256 + 64 * 256 + 1


def test_a_score_sees_its_own_patch_alone(start, compiled):
    network = markovian.NeuralPatchDiscriminator(patch=4, step=4, norm="none")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 2)), jnp.float32)
    variables, judge = start(network, x), compiled(lambda v, x: network.apply(v, x, train=False))
    scores = judge(variables, x)
    # A change in the far corner, beyond the reach of the 3x3 convolution, leaves the first score.
    changed = judge(variables, x.at[0, 7, 7].add(5.0))
    assert scores.shape == (1, 2, 2, 1)
    assert changed[0, 0, 0, 0] == pytest.approx(float(scores[0, 0, 0, 0]))
    assert abs(float(changed[0, 1, 1, 0] - scores[0, 1, 1, 0])) > 1e-4


def test_canvas_begins_as_the_images_and_changes_those_of_its_numbers():
    network, images = markovian.Canvas(3), jnp.full((2, 4, 4, 1), 0.5)
    number = jnp.array([2, 0])
    variables = network.init(jax.random.key(0), images, number, train=False)
    np.testing.assert_array_equal(network.apply(variables, images, number, train=False), images)
    added = {"params": {"added": jnp.zeros((3, 4, 4, 1)).at[2].set(-0.25).at[1].set(9.0)}}
    drawn = network.apply(added, images, number, train=True)
    np.testing.assert_allclose(drawn[:, 0, 0, 0], [0.25, 0.5])
