"""Networks of progressive growing: published sizes, equalised layers, growth without a jump; LAPGAN's."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.errors import UserError
from medgan_jax.game import carry_matching
from medgan_jax.models.classifier import PooledClassifier
from medgan_jax.models.lapgan import lapgan_networks
from medgan_jax.models.progressive import (
    ProgressiveDiscriminator,
    ProgressiveGenerator,
    sides_up_to,
    with_group_deviation,
)
from medgan_jax.nn.equalised import EqualisedConv, EqualisedDense
from medgan_jax.nn.resample import average_pool, upsample

SMALL = dict(base=32, widest=8)


def convolution(kernel, inputs, outputs):
    return kernel**2 * inputs * outputs + outputs


def test_published_sizes(shapes):
    # 23.1 million each at 1024 (Karras et al. 2018, table 2).
    widths = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}
    sides = list(widths)
    generator = 512 * 512 * 16 + 512 + convolution(3, 512, 512)
    generator += sum(
        convolution(3, widths[a], widths[b]) + convolution(3, widths[b], widths[b])
        for a, b in itertools.pairwise(sides)
    )
    heads = convolution(1, 16, 3) + convolution(1, 32, 3)
    assert shapes(ProgressiveGenerator(1024), (1, 512)) == ((1, 1024, 1024, 3), generator + heads)
    assert generator == pytest.approx(23.1e6, rel=2e-3)
    critic = convolution(3, 513, 512) + 512 * 16 * 512 + 512 + 513
    critic += sum(
        convolution(3, widths[b], widths[b]) + convolution(3, widths[b], widths[a])
        for a, b in itertools.pairwise(sides)
    )
    heads = convolution(1, 3, 16) + convolution(1, 3, 32)
    assert shapes(ProgressiveDiscriminator(1024), (4, 1024, 1024, 3)) == ((4, 1), critic + heads)
    assert critic == pytest.approx(23.1e6, rel=2e-3)


@pytest.fixture
def at(compiled):
    """(module, variables, input, alpha) -> output."""

    def run(module, variables, x, alpha=1.0):
        return compiled(lambda v, x, a: module.apply(v, x, a, train=False))(variables, x, alpha)

    return run


def test_a_new_resolution_starts_as_the_enlarged_one_before(start, at):
    z = jax.random.normal(jax.random.key(0), (3, 5))
    small, large = ProgressiveGenerator(8, 1, **SMALL), ProgressiveGenerator(16, 1, **SMALL)
    before = start(small, z)
    fresh = start(large, z)
    after = carry_matching(before, fresh)
    known = {path for path, _ in jax.tree_util.tree_leaves_with_path(before)}
    shared = {path for path, _ in jax.tree_util.tree_leaves_with_path(fresh)} & known
    # Only the way of the smallest images to colours is left behind.
    assert {str(path[1].key) for path in known - shared} == {"to_image_4"}
    image = upsample(at(small, before, z))
    first, half, last = (at(large, after, z, alpha) for alpha in (0.0, 0.5, 1.0))
    assert np.allclose(first, image, atol=1e-5)
    assert not np.allclose(last, image, atol=1e-2)
    assert np.allclose(half, (first + last) / 2, atol=1e-5)


def test_a_new_critic_starts_as_the_one_before_of_halved_images(start, at):
    x = jax.random.normal(jax.random.key(0), (4, 16, 16, 1))
    small, large = ProgressiveDiscriminator(8, **SMALL), ProgressiveDiscriminator(16, **SMALL)
    before = start(small, average_pool(x))
    after = carry_matching(before, start(large, x))
    score = at(small, before, average_pool(x))
    assert np.allclose(at(large, after, x, 0.0), score, atol=1e-5)
    assert not np.allclose(at(large, after, x, 1.0), score, atol=1e-3)


def test_latent_vectors_count_by_their_direction_alone(start, at):
    z = jax.random.normal(jax.random.key(0), (2, 5))
    module = ProgressiveGenerator(8, 1, **SMALL)
    variables = start(module, z)
    assert np.allclose(at(module, variables, z), at(module, variables, 7 * z), atol=1e-4)


def test_group_deviation_by_hand():
    x = np.random.default_rng(0).normal(size=(6, 2, 3, 4)).astype(np.float32)
    shown = np.asarray(with_group_deviation(jnp.asarray(x), 2))
    assert np.allclose(shown[..., :4], x)
    for first in range(3):
        # Image i and image i + 3 are a group.
        deviation = np.std(x[[first, first + 3]], axis=0).mean()
        assert np.allclose(shown[[first, first + 3], ..., 4], deviation, atol=1e-4)
    # Groups are of three where four do not divide six.
    assert np.allclose(
        with_group_deviation(jnp.asarray(x), 4)[0, 0, 0, 4], np.std(x[::2], 0).mean(), atol=1e-4
    )


def test_group_deviation_of_equal_images_has_a_slope():
    slope = jax.grad(lambda x: with_group_deviation(x, 4)[..., -1].sum())(jnp.ones((4, 2, 2, 1)))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    "layer, shape", [(EqualisedConv(64, 3), (8, 6, 6, 32)), (EqualisedDense(64), (256, 96))]
)
def test_equalised_layers_keep_the_size_of_signals(layer, shape):
    x = jax.random.normal(jax.random.key(0), shape)
    y, variables = layer.init_with_output(jax.random.key(1), x)
    # Weights are standard normal, whatever the fan in; the output is as large as He's gain says.
    assert float(variables["params"]["kernel"].std()) == pytest.approx(1, rel=0.05)
    inside = y[:, 1:-1, 1:-1] if y.ndim == 4 else y
    assert float(inside.std()) == pytest.approx(2**0.5, rel=0.1)


def test_sizes_that_cannot_be_reached():
    assert sides_up_to(32) == (4, 8, 16, 32)
    assert sides_up_to(64, 16) == (16, 32, 64)
    for size, smallest in ((48, 4), (24, 6), (4, 8), (8, 2)):
        with pytest.raises(UserError, match="does not lead to"):
            sides_up_to(size, smallest)


def test_lapgan_networks(shapes):
    networks = lapgan_networks((8, 16, 32))
    dense = lambda a, b: a * b + b  # noqa: E731
    coarse = dense(100, 1200) + dense(1200, 1200) + dense(1200, 192)
    assert shapes(networks["G_8"], (2, 100)) == ((2, 8, 8, 3), coarse)
    assert shapes(networks["D_8"], (2, 8, 8, 3)) == ((2, 1), dense(192, 600) + dense(600, 600) + 601)
    fine = convolution(5, 3, 64) + convolution(5, 64, 64) + 12 * 12 * 64 + 1
    assert shapes(networks["D_32"], (2, 32, 32, 3)) == ((2, 1), fine)
    z, l = jnp.zeros((2, 32, 32, 1)), jnp.zeros((2, 32, 32, 3))
    details, variables = jax.eval_shape(
        lambda: networks["G_32"].init_with_output(jax.random.key(0), z, l, train=False)
    )
    assert details.shape == (2, 32, 32, 3)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert count == convolution(7, 4, 64) + convolution(7, 64, 64) + convolution(5, 64, 3)


def test_pooled_classifier(shapes):
    network = PooledClassifier(3, (4, 8), (16,))
    count = convolution(3, 1, 4) + convolution(3, 4, 8) + (4 * 4 * 8 + 1) * 16 + 17 * 3
    assert shapes(network, (2, 16, 16, 1)) == ((2, 3), count)
