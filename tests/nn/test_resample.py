"""Changes of resolution against their definitions and against other libraries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medgan_jax.nn import resample
from medgan_jax.nn.conv import conv


def image(shape=(2, 6, 8, 3), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 4, 6, 3), (1, 2, 4, 2, 3)])
def test_pools_and_nearest_upsampling(shape):
    x = image(shape)
    large = resample.upsample(x, 2)
    assert large.shape == (shape[0], *(2 * n for n in shape[1:-1]), shape[-1])
    np.testing.assert_allclose(resample.average_pool(large), x, atol=1e-6)
    np.testing.assert_allclose(resample.max_pool(large), x)
    np.testing.assert_allclose(large, resample.resize(x, large.shape[1:-1], "nearest"))


def test_average_pool_by_hand():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_allclose(resample.average_pool(x)[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_allclose(resample.max_pool(x, (4, 2))[0, :, :, 0], [[13, 15]])


def test_linear_upsampling_equals_interpolation_between_pixel_centres():
    x = image((1, 5, 4, 1))
    rows, columns = np.meshgrid(
        (np.arange(10) + 0.5) / 2 - 0.5, (np.arange(8) + 0.5) / 2 - 0.5, indexing="ij"
    )
    expected = ndimage.map_coordinates(np.asarray(x[0, :, :, 0]), [rows, columns], order=1, mode="nearest")
    np.testing.assert_allclose(resample.upsample(x, 2, "linear")[0, :, :, 0], expected, atol=1e-5)


@pytest.mark.parametrize("factor, shape", [(2, (2, 3, 4, 8)), ((2, 3), (2, 3, 4, 12)), (2, (1, 2, 3, 2, 16))])
def test_pixel_shuffle_and_its_inverse(factor, shape):
    x = image(shape)
    y = resample.pixel_shuffle(x, factor)
    np.testing.assert_array_equal(resample.pixel_unshuffle(y, factor), x)
    f = (factor,) * (len(shape) - 2) if isinstance(factor, int) else factor
    channels = y.shape[-1]
    offset = np.ravel_multi_index(tuple(n - 1 for n in f), f) * channels
    np.testing.assert_array_equal(
        y[(0, *(n - 1 for n in f))], x[(0, *(0,) * len(f))][offset : offset + channels]
    )


def test_blur_pool_equals_scipy():
    x = image((1, 8, 10, 1))
    weights = np.array([1, 3, 3, 1]) / 8
    expected = np.asarray(x[0, :, :, 0])
    for axis in (0, 1):
        # An even kernel has no middle: scipy's origin puts pixel i under the second of the four weights.
        expected = ndimage.correlate1d(expected, weights, axis, mode="mirror", origin=-1)
    np.testing.assert_allclose(resample.blur_pool(x)[0, :, :, 0], expected[::2, ::2], atol=1e-5)
    np.testing.assert_allclose(resample.blur_pool(jnp.ones((1, 7, 5, 2))), jnp.ones((1, 4, 3, 2)), atol=1e-6)


@pytest.mark.parametrize("kernel, factor", [(3, 2), (5, 2), (4, 2), (3, 3), (1, 2), (2, (2, 1))])
def test_convolution_of_a_nearest_enlargement(kernel, factor):
    x = image((2, 5, 6, 3))
    module = resample.ResizeConv(4, kernel, factor)
    y, variables = module.init_with_output(jax.random.key(0), x)
    weights = variables["params"]["conv"]
    expected = conv(resample.upsample(x, factor), weights["kernel"]) + weights["bias"]
    np.testing.assert_allclose(y, expected, atol=1e-5)

    def gradient(function):
        return jax.jit(jax.grad(lambda x, k: jnp.sum(jnp.sin(function(x, k))), (0, 1)))(x, weights["kernel"])

    ours = gradient(lambda x, k: module.apply({"params": {"conv": {**weights, "kernel": k}}}, x))
    theirs = gradient(lambda x, k: conv(resample.upsample(x, factor), k) + weights["bias"])
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(
    "module",
    [
        resample.ResizeConv(4, method="linear"),
        resample.ResizeConv(4, padding="REFLECT"),
        resample.SubPixelConv(4),
    ],
)
def test_enlarging_layers_in_two_and_three_dimensions(module):
    for shape in ((1, 4, 5, 3), (1, 2, 3, 4, 3)):
        y = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x)[0], jnp.ones(shape))
        assert y.shape == (1, *(2 * n for n in shape[1:-1]), 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: resample.average_pool(x, 4),
        lambda x: resample.pixel_shuffle(x),
        lambda x: resample.upsample(x, (2, 2, 2)),
    ],
)
def test_sizes_that_do_not_fit_are_refused(call):
    with pytest.raises(ValueError, match=r"factor|multiples"):
        call(image((1, 6, 8, 3)))


def test_the_gradient_of_a_maximum_goes_to_one_pixel_of_each_block():
    x = jnp.zeros((1, 4, 6, 2)).at[0, 1, 1, 0].set(1.0)
    slope = np.asarray(jax.grad(lambda x: resample.max_pool(x).sum())(x))
    assert slope[0, 1, 1, 0] == 1
    blocks = slope.reshape(1, 2, 2, 3, 2, 2).sum((2, 4))
    assert (blocks == 1).all() and set(np.unique(slope)) == {0, 1}
    assert np.isnan(resample.max_pool(x.at[0, 3, 5, 1].set(jnp.nan))[0, 1, 2, 1])
