"""PatchGAN: published size, map and receptive field, the last measured by gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.errors import UserError
from medgan_jax.models.layers import receptive_field
from medgan_jax.models.patchgan import PatchGAN


def test_the_70_pixel_patchgan_has_the_published_size(shapes):
    output, count = shapes(PatchGAN(), (1, 256, 256, 6))
    assert output == (1, 30, 30, 1)
    assert count == 2_768_705


@pytest.mark.parametrize("layers, field", [(0, 1), (1, 16), (2, 34), (3, 70), (5, 286)])
def test_published_receptive_fields(layers, field):
    assert PatchGAN(layers).receptive_field == field


def test_receptive_field_of_one_layer_and_of_none():
    assert receptive_field([(5, 3)]) == 5
    assert receptive_field([]) == 1


@pytest.mark.parametrize("layers, shape", [(0, (1, 9, 9, 1)), (1, (1, 40, 41, 1)), (1, (1, 24, 24, 24, 1))])
def test_one_logit_sees_as_many_pixels_as_stated(start, compiled, layers, shape):
    positive = lambda key, shape, dtype=jnp.float32: jnp.ones(shape, dtype)  # noqa: E731
    network = PatchGAN(layers, base=1, norm="none", kernel_init=positive)
    x = jnp.ones(shape)
    variables = start(network, x)

    def middle(x):
        scores = network.apply(variables, x, train=False)
        return scores[(0, *(side // 2 for side in scores.shape[1:-1]), 0)]

    seen = np.argwhere(np.asarray(compiled(jax.grad(middle))(x)[0, ..., 0]) != 0)
    extents = seen.max(axis=0) - seen.min(axis=0) + 1
    assert extents.tolist() == [network.receptive_field] * (len(shape) - 2)


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_the_smallest_size_gives_one_logit_and_smaller_ones_an_error(shapes, layers):
    network = PatchGAN(layers, base=2)
    smallest = network.sizes.minimum
    assert shapes(network, (1, smallest, smallest, 1))[0] == (1, 1, 1, 1)
    if layers:
        with pytest.raises(UserError, match=f"at least {smallest}; this one is {smallest - 1}x64"):
            shapes(network, (1, smallest - 1, 64, 1))


def test_features_are_the_maps_of_all_layers_but_the_head(start, train):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 2)), jnp.float32)
    network = PatchGAN(2, base=4)
    variables = start(network, x)
    logits, maps = train(network, variables, x, features=True)
    assert [m.shape for m in maps] == [(2, 16, 16, 4), (2, 8, 8, 8), (2, 7, 7, 16)]
    assert jnp.array_equal(logits, train(network, variables, x))


def test_without_batch_norm_it_keeps_no_state(start):
    x = jnp.zeros((1, 32, 32, 1))
    assert set(start(PatchGAN(2, base=2, norm="instance"), x)) == {"params"}
    assert set(start(PatchGAN(2, base=2), x)) == {"params", "batch_stats"}
