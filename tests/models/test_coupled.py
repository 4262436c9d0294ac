"""Coupled generators: published size, what is shared and what is not."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.models.coupled import SemiCoupledGenerators, joined, kept, pictures, two_headed_discriminator
from medgan_jax.models.dcgan import dcgan_generator


@pytest.mark.parametrize("shared", [0, 2, 4])
def test_two_generators_less_what_they_share(shapes, shared):
    _, one = shapes(dcgan_generator(64, channels=1), (1, 100))
    widths = [512, 256, 128, 64]
    layers = [100 * 16 * 512 + 2 * 512] + [16 * a * b + 2 * b for a, b in itertools.pairwise(widths)]
    network = SemiCoupledGenerators(shared=shared)
    images, variables = jax.eval_shape(
        lambda z: network.init_with_output(jax.random.key(0), z, train=False),
        jax.ShapeDtypeStruct((3, 2, 100), jnp.float32),
    )
    assert [image.shape for image in images] == [(3, 64, 64, 1)] * 2
    both = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    assert both == 2 * one - sum(layers[:shared])


def test_each_latent_vector_makes_its_own_generators_image(start, compiled):
    network = SemiCoupledGenerators(size=16, base=4, shared=1)
    z = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 5)), jnp.float32)
    variables, draw = start(network, z), compiled(lambda v, z: network.apply(v, z, train=False))
    first, second = draw(variables, z)
    moved = draw(variables, z.at[:, 1].add(1.0))
    np.testing.assert_allclose(moved[0], first, atol=1e-6)
    assert float(jnp.abs(moved[1] - second).max()) > 1e-4
    # The same vector gives two images: the last layers are not shared.
    same = draw(variables, jnp.stack([z[:, 0], z[:, 0]], axis=1))
    assert float(jnp.abs(same[0] - same[1]).max()) > 1e-4


def test_images_of_all_generators_are_one_batch():
    images, whose = joined((jnp.zeros((3, 2, 2, 1)), jnp.ones((3, 2, 2, 1))))
    assert images[:, 0, 0, 0].tolist() == whose.tolist() == [0, 0, 0, 1, 1, 1]


def test_pictures_are_of_the_generators_that_are_there():
    class Networks(dict):
        modules = ("G_a",)

    class Doubling:
        def eval(self, z):
            return z[:, 0], 2 * z[:, 1]

    made = pictures(Networks(G_a=Doubling()), {"a": jnp.ones((3, 2)), "b": jnp.ones((3, 2))})
    assert {name: image.tolist() for name, image in made.items()} == {"a_G_0": [1] * 3, "a_G_1": [2] * 3}


def test_memory_calls_the_generators_of_each_end_and_keeps_nothing():
    class Generator:
        seen = ()

        def eval(self, z):
            self.seen += (z.tolist(),)
            return z[:, 0], z[:, 1]

    class Networks(dict):
        modules = ("G_a", "G_b")

    nets = Networks(G_a=Generator(), G_b=Generator())
    assert kept(("a", "b"))(nets, {"a": {"z": jnp.zeros((1, 2))}, "b": {"z": jnp.ones((1, 2))}}, None) == ()
    assert (nets["G_a"].seen, nets["G_b"].seen) == (([[0, 0]],), ([[1, 1]],))


def test_two_heads_are_the_outputs_of_one_dense_layer():
    network = two_headed_discriminator(16, base=4, classes=3)
    (real, classes), f = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=False, features=True)[0],
        jax.ShapeDtypeStruct((5, 16, 16, 1), jnp.float32),
    )
    assert (real.shape, classes.shape, f.shape) == ((5,), (5, 3), (5, 4, 4, 8))
