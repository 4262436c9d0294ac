"""Networks of segmentation at other sizes and ranks, what they see, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.errors import UserError
from medgan_jax.models.dcan import dan_segmentation_network
from medgan_jax.models.pooling_discriminator import (
    PoolingDiscriminator,
    dan_evaluation_network,
    va_gan_critic,
    vgan_discriminator,
)
from medgan_jax.models.pooling_unet import va_gan_unet, vgan_unet
from medgan_jax.models.scan import ScanCritic, ScanSegmentor, bilinear_init
from medgan_jax.models.segan import SegANCritic, SegANSegmentor
from medgan_jax.nn.conv import conv_transpose


@pytest.mark.parametrize(
    "network, shape, output",
    [
        (SegANSegmentor((2, 4), structures=2), (1, 8, 12, 3), (1, 8, 12, 2)),
        (SegANSegmentor((2, 4), structures=2), (1, 8, 8, 12, 3), (1, 8, 8, 12, 2)),
        (ScanSegmentor((2, 2), blocks=1, classes=3), (1, 8, 12, 1), (1, 8, 12, 3)),
        (ScanCritic((2, 2), blocks=1), (2, 8, 12, 3), (2, 1)),
        (vgan_unet(base=2, pools=2), (1, 8, 12, 3), (1, 8, 12, 1)),
        (va_gan_unet(base=2, pools=2), (1, 8, 8, 12, 1), (1, 8, 8, 12, 1)),
        (va_gan_critic(base=2, pools=2), (3, 9, 14, 1), (3, 1)),
        (vgan_discriminator("patch1", base=2), (1, 24, 36, 4), (1, 3, 4, 1)),
        (dan_evaluation_network(base=2), (2, 32, 64, 4), (2, 1)),
    ],
)
def test_sizes_and_ranks(shapes, network, shape, output):
    assert shapes(network, shape)[0] == output


def test_features_of_the_critic_begin_with_the_masked_image(shapes):
    output, _ = jax.eval_shape(
        lambda: SegANCritic((2, 4)).init_with_output(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=True)
    )
    assert [each.shape for each in output] == [(1, 8, 8, 3), (1, 4, 4, 2), (1, 2, 2, 4)]


def test_branches_come_at_full_size(shapes):
    network = dan_segmentation_network(base=2, levels=4, joined=4)
    (logits, branches), _ = jax.eval_shape(
        lambda: network.init_with_output(jax.random.key(0), jnp.zeros((1, 16, 24, 3)), train=True)
    )
    assert [each.shape for each in (logits, *branches)] == 4 * [(1, 16, 24, 2)]


@pytest.mark.parametrize(
    "network, shape, words",
    [
        (SegANSegmentor((2, 4)), (1, 6, 8, 3), "multiples of 4"),
        (ScanSegmentor((2, 2)), (1, 8, 10, 1), "multiples of 4"),
        (vgan_unet(base=2, pools=2), (1, 8, 10, 3), "multiples of 4"),
        (dan_segmentation_network(base=2, levels=3), (1, 8, 10, 3), "multiples of 4"),
        (vgan_discriminator("image", base=2), (1, 32, 32, 4), "at least 64"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_a_line(shapes, network, shape, words):
    with pytest.raises(UserError, match=words):
        shapes(network, shape)


def test_bilinear_kernels_enlarge_linearly():
    kernel = bilinear_init(jax.random.key(0), (8, 8, 2, 2))
    ramp = jnp.broadcast_to(jnp.arange(6.0)[:, None, None], (6, 6, 2))[None]
    large = np.asarray(conv_transpose(ramp, kernel, strides=4))[0, :, 12, 1]
    # Away from the border a ramp stays a ramp, of a quarter of the slope.
    assert np.allclose(np.diff(large[4:-4]), 0.25, atol=1e-5)


def test_a_logit_of_the_patch_map_sees_the_stated_field(start, compiled):
    network = PoolingDiscriminator(
        ((1, 1), (1,)), strided=1, norm="none", kernel_init=lambda k, s, d: jnp.ones(s, d)
    )
    assert network.receptive_field == 3 + 2 * 2 + 2 * (2 - 1) + 4 * 2
    x = jnp.ones((1, 40, 40, 1)) + 0.01 * jax.random.uniform(jax.random.key(0), (1, 40, 40, 1))
    variables = start(network, x)
    middle = lambda x: network.apply(variables, x, train=False)[0, 5, 5, 0]  # noqa: E731
    seen = np.argwhere(np.asarray(compiled(jax.grad(middle))(x)[0, ..., 0]) != 0)
    extent = seen.max(0) - seen.min(0) + 1
    # A maximum passes on one of four; the field is what may be seen.
    assert (extent <= network.receptive_field).all() and (extent >= network.receptive_field - 4).all()
