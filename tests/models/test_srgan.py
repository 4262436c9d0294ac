"""SRGAN: published sizes, every enlargement in both ranks, no checkerboard at the start."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.errors import UserError
from medgan_jax.models import srgan
from medgan_jax.nn.resample import upsample


def test_srresnet_has_the_published_layers(shapes):
    # Without a bias in front of batch norm; PReLU has a slope for each channel.
    convolutions = 81 * 3 * 64 + 9 * 64 * 64 * 33 + 2 * 9 * 64 * 256 + 81 * 64 * 3
    rest = 2 * 64 * 33 + 64 * (1 + 16 + 2) + (64 + 256 + 256 + 3)
    assert shapes(srgan.srgan_generator(), (1, 24, 24, 3)) == ((1, 96, 96, 3), convolutions + rest)


def test_the_discriminator_has_the_published_layers(shapes):
    widths = [3, 64, 64, 128, 128, 256, 256, 512, 512]
    convolutions = 9 * sum(a * b for a, b in itertools.pairwise(widths))
    rest = 64 + 2 * sum(widths[2:]) + (6 * 6 * 512 * 1024 + 1024) + (1024 + 1)
    assert shapes(srgan.srgan_discriminator(), (1, 96, 96, 3)) == ((1, 1), convolutions + rest)


@pytest.mark.parametrize("upsampling", ["subpixel", "subpixel_nearest", "resize"])
@pytest.mark.parametrize("factors, shape, enlarged", [
    ((2, 2), (1, 4, 6, 1), (16, 24)),
    ((2,), (1, 4, 6, 4, 1), (8, 12, 8)),
    (((3, 1, 1),), (1, 2, 4, 4, 1), (6, 4, 4)),
    ((), (1, 4, 4, 2), (4, 4)),
])
def test_factors_in_both_ranks(shapes, upsampling, factors, shape, enlarged):
    network = srgan.SRGANGenerator(1, factors, 4, 1, up_width=2, outer_kernel=3, upsampling=upsampling)
    assert shapes(network, shape)[0] == (1, *enlarged, 1)


@pytest.mark.parametrize("rank", [2, 3])
def test_nearest_subpixels_begin_as_nearest_neighbour_enlargement(start, compiled, rank):
    network = srgan.SRGANGenerator(1, (2,), 2, 1, outer_kernel=1, upsampling="subpixel_nearest")
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, *(4,) * rank, 1)), jnp.float32)
    y = compiled(lambda v, x: network.apply(v, x, train=False))(start(network, x), x)
    blocks = y[(slice(None), *(slice(None, None, 2),) * rank)]
    assert np.ptp(blocks) > 0
    np.testing.assert_allclose(y, upsample(blocks, 2), rtol=1e-5, atol=1e-7)


def test_discriminator_of_volumes_and_its_maps(shapes):
    network = srgan.srgan_discriminator(8, base=2, rank=3, norm="layer")
    assert network.widths == (2, 4)
    (logits, maps), _ = shapes_of_call(network, (2, 8, 8, 8, 1))
    assert logits == (2, 1)
    assert maps == ((2, 8, 8, 8, 2), (2, 4, 4, 4, 2), (2, 4, 4, 4, 4), (2, 2, 2, 2, 4))


def shapes_of_call(network, shape):
    output, variables = jax.eval_shape(
        lambda: network.init_with_output(jax.random.key(0), jnp.zeros(shape), train=True, features=True))
    return jax.tree.map(lambda leaf: leaf.shape, output), variables


def test_sizes_and_factors_that_do_not_fit(shapes):
    with pytest.raises(UserError, match="by powers of 2, not by 3"):
        srgan.srgan_generator(3)
    with pytest.raises(UserError, match="sides of 4 or more; this one is 3x3"):
        srgan.srgan_discriminator(3)
    with pytest.raises(UserError, match="images of exactly 96x96; this one is 32x32"):
        shapes(srgan.srgan_discriminator(96), (1, 32, 32, 3))


def test_remat_keeps_the_parameters(shapes):
    plain, remat = (srgan.SRGANGenerator(1, (2,), 4, 1, remat=remat) for remat in (False, True))
    assert shapes(plain, (1, 4, 4, 1)) == shapes(remat, (1, 4, 4, 1))
