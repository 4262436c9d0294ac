"""U-Nets: the published parameter counts, shapes in both ranks, and what each option does."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.errors import UserError
from medgan_jax.models.unet import UNet, dagan_unet, pix2pix_unet

SMALL = UNet(1, (4, 8, 8), (8, 8, 4))


def images(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, shape), jnp.float32)


def test_pix2pix_generator_has_the_published_size(shapes):
    inwards = [(3, 64), (64, 128), (128, 256), (256, 512)] + [(512, 512)] * 4
    outwards = [(512, 512)] + [(1024, 512)] * 3 + [(1024, 256), (512, 128), (256, 64), (128, 3)]
    kernels = 16 * sum(a * b for a, b in inwards + outwards)
    norms = 2 * sum(b for _, b in inwards[1:-1] + outwards[:-1])
    # The PyTorch port has a bias in the last convolution only; here also in the two that no norm follows.
    assert kernels + norms + 3 == pytest.approx(54.414e6, rel=1e-5)
    output, count = shapes(pix2pix_unet(256, out_channels=3), (1, 256, 256, 3))
    assert count == kernels + norms + 3 + 64 + 512
    assert output == (1, 256, 256, 3)


def test_dagan_generator_has_the_widths_of_the_paper(shapes):
    inwards = [(1, 64), (64, 128), (128, 256), (256, 512)] + [(512, 512)] * 4
    outwards = [(512, 512), (1024, 1024), (1536, 1024), (1536, 1024)]
    outwards += [(1536, 256), (512, 128), (256, 64), (128, 64)]
    kernels = 16 * sum(a * b for a, b in inwards + outwards)
    norms = 2 * sum(b for _, b in inwards[1:-1] + outwards)
    output, count = shapes(dagan_unet(256), (1, 256, 256, 1))
    assert count == kernels + norms + 64 + 512 + (64 + 1)
    assert output == (1, 256, 256, 1)


@pytest.mark.parametrize("network, shape", [
    (pix2pix_unet((32, 64), base=4, out_channels=2), (2, 32, 64, 3)),
    (dagan_unet(64, base=4, levels=5), (1, 64, 64, 1)),
    (dagan_unet((8, 16, 16), base=2), (1, 8, 16, 16, 1)),
    (pix2pix_unet(16, base=2, upsampling="resize", out_channels=1), (1, 16, 16, 16, 1)),
    (UNet(1, (4, 8), (8,), skips=False), (1, 8, 12, 1)),
])
def test_shapes_stay_in_both_ranks(shapes, network, shape):
    assert shapes(network, shape)[0] == (*shape[:-1], network.out_channels)


def test_a_size_that_does_not_fit_is_one_clear_line(shapes):
    assert SMALL.size_multiple == 8
    with pytest.raises(UserError, match="a U-Net of depth 3 takes images whose sides are multiples of 8; "
                                        "this one is 255x255"):
        shapes(SMALL, (1, 255, 255, 1))
    with pytest.raises(UserError, match="depth 5 takes images whose sides are multiples of 32"):
        pix2pix_unet(48, levels=5)
    with pytest.raises(UserError, match="255x255"):
        dagan_unet(255)


def test_widths_that_do_not_fit_the_depth_are_refused(shapes):
    with pytest.raises(ValueError, match="needs 2 decoder widths"):
        shapes(UNet(1, (4, 8, 8), (8, 8, 8)), (1, 8, 8, 1))
    with pytest.raises(ValueError, match="refinement adds 3 input and 1 output"):
        shapes(dagan_unet(16, base=4), (1, 16, 16, 3))


def test_refinement_adds_the_input_and_clips(start, train):
    x = images(2, 8, 8, 1)
    refine, plain = dagan_unet(8, base=4), dagan_unet(8, base=4, refine=False)
    variables = start(refine, x)
    head = variables["params"]["head"]
    head["kernel"] = head["kernel"] + 1.0
    correction = train(plain, variables, x)
    np.testing.assert_allclose(train(refine, variables, x), np.clip(x + correction, -1, 1), atol=1e-6)
    assert float(jnp.abs(correction).max()) > 0.5


def test_rematerialised_levels_have_the_same_parameters_and_gradients(start, slope, compiled):
    x = images(2, 4, 4, 1)
    plain, remat = (UNet(1, (2, 2), (2, 2), head_kernel=1, remat=remat) for remat in (False, True))
    variables = start(plain, x)
    assert jax.tree.structure(variables) == jax.tree.structure(start(remat, x))

    both = compiled(lambda variables: [slope(module, variables, x) for module in (plain, remat)])
    gradients = both(variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *gradients)


def test_dropout_is_the_noise_of_pix2pix(start, train):
    x = images(1, 8, 8, 1)
    network = pix2pix_unet(8, base=4)
    variables = start(network, x)
    first, again, other = (train(network, variables, x, key) for key in (0, 0, 1))
    assert jnp.array_equal(first, again)
    assert not jnp.array_equal(first, other)


@pytest.mark.parametrize("levels, stages", [(8, (0, 1, 2)), (6, (0, 1)), (4, (0,)), (2, (0,))])
def test_dropout_sits_in_the_innermost_wide_stages(levels, stages):
    assert pix2pix_unet(256, levels=levels).dropout_stages == stages


def test_without_skips_the_decoder_sees_the_bottleneck_only(shapes):
    with_skips, without = (UNet(1, (4, 8), (8,), skips=skips) for skips in (True, False))
    assert shapes(with_skips, (1, 8, 8, 1))[1] - shapes(without, (1, 8, 8, 1))[1] == 16 * 4


@pytest.mark.parametrize("rectify", [True, False])
def test_rectified_skips_are_not_negative_and_plain_ones_are(compiled, rectify):
    network = UNet(1, (4, 4), (4,), norm="none", rectify_skips=rectify)

    def entering_the_head(x):
        taken = []

        def record(next_function, args, kwargs, context):
            if context.module.name == "head":
                taken.append(args[0])
            return next_function(*args, **kwargs)

        with nn.intercept_methods(record):
            network.init({"params": jax.random.key(0)}, x, train=False)
        return taken[0]

    skip = compiled(entering_the_head)(images(1, 8, 8, 1))[..., :4]
    assert (float(skip.min()) == 0) == rectify
