"""Winograd's products against the library's convolution, in values, gradients of both orders, and work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.nn import conv_cpu, winograd
from medgan_jax.nn.conv import conv, conv_transpose

NAMES = ("NHWC", "HWIO", "NHWC")


def random(seed, shape, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def library(x, kernel, pads, strides=(1, 1), input_dilation=(1, 1)):
    return jax.lax.conv_general_dilated(x, kernel, strides, pads, input_dilation, dimension_numbers=NAMES)


def error(ours, theirs):
    return float(jnp.max(jnp.abs(ours - theirs)) / jnp.max(jnp.abs(theirs)))


@pytest.mark.parametrize("dtype, bound", [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("taps", [2, 3, 4])
def test_sums_of_products_are_the_convolution_and_its_gradient(taps, dtype, bound):
    with jax.enable_x64(dtype == np.float64):
        x, kernel = random(0, (2, 9, 8, 5), dtype), random(1, (taps, taps, 5, 3), dtype)
        pads = [(1, 2), (2, -1)]
        expected, pull = jax.vjp(lambda k: library(x, k, pads), jnp.asarray(kernel))
        y = random(2, expected.shape, dtype)
        counts = expected.shape[1:-1]
        assert error(jax.jit(lambda: winograd.gather(x, kernel, pads, counts))(), expected) < bound
        assert error(jax.jit(lambda: winograd.correlate(x, y, pads, taps))(), pull(y)[0]) < bound


# Sizes from which `conv` takes these forms; each case: function, shapes of image and kernel, options, and the
# library's call.
CASES = {
    "3 taps": (conv, (2, 17, 16, 64), (3, 3, 64, 64), {}, lambda x, k: library(x, k, [(1, 1)] * 2)),
    "4 taps": (
        conv,
        (1, 25, 24, 64),
        (4, 4, 64, 64),
        {"padding": [(1, 1)] * 2},
        lambda x, k: library(x, k, [(1, 1)] * 2),
    ),
    "4 taps, stride 2": (
        conv,
        (2, 33, 34, 32),
        (4, 4, 32, 64),
        {"strides": 2, "padding": [(1, 1)] * 2},
        lambda x, k: library(x, k, [(1, 1)] * 2, (2, 2)),
    ),
    "transposed": (
        conv_transpose,
        (2, 16, 16, 128),
        (4, 4, 128, 64),
        {"strides": 2},
        lambda x, k: library(x, k, [(2, 2)] * 2, input_dilation=(2, 2)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_convolutions_and_their_gradients_of_both_orders(case):
    function, shape, kernel_shape, options, plain = CASES[case]
    x, kernel = random(0, shape), random(1, kernel_shape)
    direction = random(2, jax.eval_shape(plain, x, kernel).shape)
    direction = direction / np.float32(np.sqrt(direction.size))

    def everything(function):
        value, pull = jax.vjp(function, x, kernel)

        def penalty(x, kernel, direction):
            dx, dkernel = jax.vjp(function, x, kernel)[1](direction)
            return jnp.sum(jnp.sin(dx)) + jnp.sum(jnp.cos(dkernel))

        return value, *pull(direction), *jax.grad(penalty, (0, 1, 2))(x, kernel, direction)

    ours = jax.jit(lambda: everything(lambda x, k: function(x, k, **options)))()
    theirs = jax.jit(lambda: everything(plain))()
    assert max(error(a, b) for a, b in zip(ours, theirs, strict=True)) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_wide_layers_take_fewer_products(case):
    function, shape, kernel_shape, options, plain = CASES[case]
    x, kernel = random(0, shape), random(1, kernel_shape)

    def work(function):
        lowered = jax.jit(function).lower(x, kernel)
        return lowered.compile({"xla_backend_optimization_level": 0}).cost_analysis()["flops"]

    outputs = np.prod(jax.eval_shape(plain, x, kernel).shape)
    direct = 2 * outputs * np.prod(kernel_shape[:-1]) / (4 if function is conv_transpose else 1)
    assert work(lambda x, k: function(x, k, **options)) < 0.8 * direct


def test_narrow_layers_and_few_pixels_keep_the_library():
    def calls(shape, kernel_shape):
        text = jax.jit(lambda x, k: conv(x, k)).lower(random(0, shape), random(1, kernel_shape)).as_text()
        return text.count("stablehlo.convolution")

    assert calls((2, 16, 16, 64), (3, 3, 64, 64)) == calls((2, 16, 16, 64), (3, 3, 64, 48)) - 1
    assert conv_cpu.PIXELS > 256
    assert calls((1, 16, 16, 64), (3, 3, 64, 64)) == calls((2, 16, 16, 64), (3, 3, 64, 48))
