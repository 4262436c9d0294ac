"""DCGAN and its kin in size, widths and rank; DAGAN's discriminator; dense networks."""

import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.errors import UserError
from medgan_jax.models import dcgan
from medgan_jax.models.dagan import dagan_discriminator
from medgan_jax.models.mlp import MLP


def test_dcgan_has_the_published_size(shapes):
    # Published code has no bias at all; here the layers that no norm follows have one.
    assert shapes(dcgan.dcgan_generator(64), (2, 100)) == ((2, 64, 64, 3), 3_576_704 + 3)
    assert shapes(dcgan.dcgan_discriminator(64), (2, 64, 64, 3)) == ((2, 1), 2_765_568 + 64 + 1)


def test_wgan_gp_networks(shapes):
    convolutions = 25 * (512 * 256 + 256 * 128 + 128 * 3)
    generator = 128 * 4 * 4 * 512 + convolutions + 2 * (512 + 256 + 128) + 3
    assert shapes(dcgan.wgan_gp_generator(), (2, 128)) == ((2, 32, 32, 3), generator)
    critic = 25 * (3 * 128 + 128 * 256 + 256 * 512) + (128 + 256 + 512) + 4 * 4 * 512 + 1
    assert shapes(dcgan.wgan_gp_critic(), (2, 32, 32, 3)) == ((2, 1), critic)


def test_anogan_networks(shapes):
    convolutions = 25 * (512 * 256 + 256 * 128 + 128 * 64 + 64)
    generator = 100 * 4 * 4 * 512 + convolutions + 2 * (512 + 256 + 128 + 64) + 1
    assert shapes(dcgan.anogan_generator(), (2, 100)) == ((2, 64, 64, 1), generator)
    discriminator = convolutions + 64 + 2 * (128 + 256 + 512) + 4 * 4 * 512 + 1
    assert shapes(dcgan.anogan_discriminator(), (2, 64, 64, 1)) == ((2, 1), discriminator)


@pytest.mark.parametrize("size, sides, start_side", [(32, (32, 32), 4), (96, (96, 96), 6), (28, (28, 28), 7)])
def test_any_size_that_can_be_halved(shapes, size, sides, start_side):
    generator = dcgan.dcgan_generator(size, channels=1, base=2)
    assert generator.start == (start_side,) * 2
    assert shapes(generator, (1, 8))[0] == (1, *sides, 1)
    assert shapes(dcgan.dcgan_discriminator(size, base=2), (1, *sides, 1))[0] == (1, 1)


def test_volumes(shapes):
    generator = dcgan.dcgan_generator((8, 16, 16), channels=1, base=2, upsampling="resize")
    assert shapes(generator, (1, 8))[0] == (1, 8, 16, 16, 1)
    cube = dcgan.dcgan_generator(8, channels=1, base=2, rank=3)
    assert shapes(cube, (1, 8))[0] == (1, 8, 8, 8, 1)
    assert shapes(dcgan.dcgan_discriminator(8, base=2, rank=3), (1, 8, 8, 8, 1))[0] == (1, 1)


def test_sizes_that_do_not_fit(shapes):
    with pytest.raises(UserError, match="8 or more that can be halved; this one is 31x31"):
        dcgan.dcgan_generator(31)
    with pytest.raises(UserError, match=r"4 doublings makes .* multiples of 16, not 40x40"):
        shapes(dcgan.DCGANGenerator(40), (1, 8))
    with pytest.raises(UserError, match="images of exactly 64x64; this one is 32x32"):
        shapes(dcgan.dcgan_discriminator(64), (1, 32, 32, 1))
    with pytest.raises(ValueError, match="latent"):
        shapes(dcgan.dcgan_generator(64), (1, 8, 8, 1))


def test_features_come_with_the_same_logits(start, train):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 16, 16, 1)), jnp.float32)
    for network in (dcgan.dcgan_discriminator(16, base=4), dagan_discriminator(16, base=4)):
        variables = start(network, x)
        logits, maps = train(network, variables, x, features=True)
        assert logits.shape == (3, 1)
        assert [m.shape for m in maps[:2]] == [(3, 8, 8, 4), (3, 4, 4, 8)]
        assert jnp.array_equal(logits, train(network, variables, x))


def test_a_critic_without_norm_scores_every_case_by_itself(start, train):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 1)), jnp.float32)
    critic = dcgan.wgan_gp_critic(8, base=4)
    variables = start(critic, x)
    assert set(variables) == {"params"}
    together = train(critic, variables, x)
    alone = train(critic, variables, x[:1])
    np.testing.assert_allclose(together[:1], alone, rtol=1e-5)


def test_dagan_discriminator_has_the_widths_of_the_paper(shapes):
    kernels = 16 * (64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 1024 + 1024 * 2048)
    kernels += 2048 * 1024 + 1024 * 512 + 512 * 128 + 9 * 128 * 128 + 9 * 128 * 512
    norms = 2 * (128 + 256 + 512 + 1024 + 2048 + 1024 + 512 + 128 + 128 + 512)
    dense = 4 * 4 * 512 + 1
    assert shapes(dagan_discriminator(256), (1, 256, 256, 1)) == ((1, 1), kernels + norms + 64 + dense)
    assert shapes(dagan_discriminator((16, 32, 32), base=4), (1, 16, 32, 32, 1))[0] == (1, 1)
    with pytest.raises(UserError, match="exactly 256x256; this one is 128x128"):
        shapes(dagan_discriminator(256), (1, 128, 128, 1))


def test_dense_networks_for_toy_games(start):
    points = jnp.ones((5, 2))
    network = MLP(2, widths=(7, 3), output_activation=jnp.tanh)
    variables = start(network, points)
    outputs, hidden = network.apply(variables, points, train=True, features=True)
    assert outputs.shape == (5, 2) and [h.shape for h in hidden] == [(5, 7), (5, 3)]
    assert float(jnp.abs(outputs).max()) < 1
