"""V-Net: the paper's layers, shapes in both ranks, residual stages, options."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.errors import UserError
from medgan_jax.models.vnet import VNet


def test_the_layers_of_the_paper(shapes):
    encoder = [(1, 16)] + [(32, 32)] * 2 + [(64, 64)] * 3 + [(128, 128)] * 3 + [(256, 256)] * 3
    decoder = [(256, 256)] * 3 + [(128, 128)] * 3 + [(64, 64)] * 2 + [(32, 32)]
    down = [(16, 32), (32, 64), (64, 128), (128, 256)]
    up = [(256, 128), (256, 64), (128, 32), (64, 16)]
    kernels = 125 * sum(a * b for a, b in encoder + decoder) + 8 * sum(a * b for a, b in down + up)
    # Every convolution has a bias and a PReLU, the output only the bias; the first shortcut is a projection.
    vectors = 2 * sum(b for _, b in encoder + decoder + down + up)
    output, count = shapes(VNet(2), (1, 64, 64, 64, 1))
    assert output == (1, 64, 64, 64, 2)
    assert count == kernels + vectors + 16 + (32 * 2 + 2)


@pytest.mark.parametrize("shape", [(2, 8, 12, 3), (1, 4, 8, 8, 1)])
@pytest.mark.parametrize("options", [{}, {"upsampling": "resize", "norm": "batch"}, {"inner": nn.relu}])
def test_shapes_stay_in_both_ranks(shapes, shape, options):
    network = VNet(1, widths=(2, 4, 4), convolutions=(1, 2, 2), kernel=3, **options)
    assert shapes(network, shape)[0] == (*shape[:-1], 1)


def test_sizes_and_fields_that_do_not_fit(shapes):
    with pytest.raises(UserError, match="a V-Net of 3 stages takes images whose sides are multiples of 4; "
                                        "this one is 8x6x8"):
        shapes(VNet(1, widths=(2, 4, 8), convolutions=(1, 1, 1)), (1, 8, 6, 8, 1))
    with pytest.raises(ValueError, match="as many numbers of convolutions"):
        shapes(VNet(1, widths=(2, 4)), (1, 8, 8, 1))


def test_stages_without_weights_pass_their_input_on(start, compiled):
    # With no convolution acting, the head sees the projected input beside the (empty) enlarged maps.
    network = VNet(1, widths=(2, 4), convolutions=(1, 1), kernel=3, inner=lambda x: x)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 1)), jnp.float32)
    params = start(network, x)["params"]
    blank = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if {"head", "shortcut"} & {key.key for key in path} else 0 * leaf, params)
    y = compiled(lambda v, x: network.apply(v, x, train=False))({"params": blank}, x)
    projected = x @ params["encoder_0"]["shortcut"]["kernel"][0, 0]
    expected = projected @ params["head"]["kernel"][0, 0, 2:]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-8)


def test_remat_keeps_the_parameters(shapes):
    settings = dict(out_channels=1, widths=(2, 4), convolutions=(1, 1), kernel=3)
    assert shapes(VNet(**settings), (1, 4, 4, 1)) == shapes(VNet(**settings, remat=True), (1, 4, 4, 1))
