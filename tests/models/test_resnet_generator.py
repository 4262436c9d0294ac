"""CycleGAN's generator: published size, shapes, mirrored borders, memory option."""

import jax
import jax.numpy as jnp
import pytest

from medgan_jax.errors import UserError
from medgan_jax.models.resnet import ResNetGenerator


@pytest.mark.parametrize("blocks, published", [(9, 11_378_179), (6, 7_837_699)])
def test_parameter_counts_of_the_paper(shapes, blocks, published):
    # The PyTorch port keeps a bias before every instance norm, where it has no effect.
    biases = 64 + 128 + 256 + 2 * blocks * 256 + 128 + 64
    output, count = shapes(ResNetGenerator(blocks=blocks), (1, 128, 128, 3))
    assert count == published - biases
    assert output == (1, 128, 128, 3)


@pytest.mark.parametrize("shape", [(1, 12, 16, 1), (1, 8, 12, 8, 1)])
@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_shapes_stay_in_both_ranks(shapes, shape, upsampling):
    network = ResNetGenerator(2, base=2, blocks=1, upsampling=upsampling)
    assert shapes(network, shape)[0] == (*shape[:-1], 2)


def test_sizes_that_do_not_fit(shapes):
    network = ResNetGenerator(1, base=2, blocks=1)
    with pytest.raises(UserError, match="multiples of 4 of at least 8; this one is 30x32"):
        shapes(network, (1, 30, 32, 1))
    with pytest.raises(UserError, match="this one is 4x4"):
        shapes(network, (1, 4, 4, 1))


def test_remat_recomputes_the_blocks_and_keeps_the_parameters(slope):
    x = jnp.zeros((1, 8, 8, 1))
    plain, remat = (ResNetGenerator(1, base=2, blocks=2, remat=remat) for remat in (False, True))

    def variables(module):
        return jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))

    assert variables(plain) == variables(remat)
    def recomputes(module):
        program = str(jax.make_jaxpr(lambda v: slope(module, v, x))(variables(module)))
        return "checkpoint" in program or "remat" in program

    assert recomputes(remat) and not recomputes(plain)
