"""Convolutions against the library's: values, gradients of both orders, transformations, program text."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from medgan_jax.nn import conv as layers
from medgan_jax.nn.conv import Conv, ConvTranspose, conv, conv_transpose

# Numbers, not speed, are looked at in most tests: compile little.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SIZES = {1: (9,), 2: (8, 7), 3: (5, 4, 6)}


def names(rank):
    axes = "DHW"[-rank:]
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def library(x, kernel, strides=1, padding="SAME", dilation=1, groups=1, input_dilation=1):
    rank = x.ndim - 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (strides,) * rank,
        padding,
        (input_dilation,) * rank,
        (dilation,) * rank,
        names(rank),
        groups,
    )


def library_transpose(x, kernel, strides=1, padding="SAME", dilation=1, groups=1):
    rank = x.ndim - 2
    if groups > 1:
        return library(x, kernel, 1, padding, dilation, groups, strides)
    return jax.lax.conv_transpose(x, kernel, (strides,) * rank, padding, (dilation,) * rank, names(rank))


def everything(function, x, kernel, direction):
    """Value, both gradients, and the gradients of a penalty on those gradients."""
    value, pull = jax.vjp(function, x, kernel)

    def penalty(x, kernel, direction):
        dx, dkernel = jax.vjp(function, x, kernel)[1](direction)
        return jnp.sum(jnp.sin(dx)) + jnp.sum(jnp.cos(dkernel))

    return value, *pull(direction), *jax.grad(penalty, (0, 1, 2))(x, kernel, direction)


def relative(ours, theirs):
    return max(
        float(jnp.max(jnp.abs(a - b)) / (jnp.max(jnp.abs(b)) + 1e-30))
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    )


def random(seed, shape, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def compare(ours, theirs, x, kernel):
    shape = jax.eval_shape(theirs, x, kernel)
    assert jax.eval_shape(ours, x, kernel).shape == shape.shape
    direction = random(2, shape.shape, shape.dtype) / np.sqrt(np.prod(shape.shape[:-1])).astype(shape.dtype)

    def difference(x, kernel, direction):
        results = [everything(f, x, kernel, direction) for f in (ours, theirs)]
        return [
            jnp.max(jnp.abs(a - b)) / (jnp.max(jnp.abs(b)) + 1e-30) for a, b in zip(*results, strict=True)
        ]

    run = jax.jit(difference).lower(x, kernel, direction).compile(QUICK)
    return max(map(float, run(x, kernel, direction)))


# rank, batch, taps, strides, dilation, groups, channels in and out, padding
GRID = [
    (1, 2, 4, 2, 1, 1, 2, 5, "SAME"),
    (1, 1, 3, 2, 2, 1, 2, 3, [(1, 2)]),
    (1, 2, 15, 2, 1, 1, 2, 2, "SAME"),
    (2, 2, 3, 1, 1, 1, 3, 4, "SAME"),
    (2, 1, 4, 2, 1, 1, 2, 36, [(1, 1), (1, 2)]),
    (2, 3, 3, 3, 1, 1, 2, 2, "SAME"),
    (2, 1, 3, 2, 1, 1, 4, 3, "VALID"),
    (2, 1, 3, 2, 2, 1, 2, 3, [(2, 1), (0, 3)]),
    (2, 2, 3, 1, 1, 4, 4, 4, [(1, 1), (1, 1)]),
    (2, 1, 4, 2, 1, 2, 4, 6, [(1, 2), (2, 1)]),
    (2, 1, 7, 1, 1, 1, 30, 1, "SAME"),
    (2, 2, 5, 1, 1, 1, 1, 1, [(-1, 3), (4, -2)]),
    (2, 1, 1, 2, 1, 1, 2, 3, "SAME"),
    (2, 1, 11, 1, 1, 1, 2, 2, "SAME"),
    (3, 1, 3, 1, 1, 1, 2, 3, "SAME"),
    (3, 1, 4, 2, 1, 1, 2, 2, "SAME"),
    (3, 1, 3, 2, 1, 1, 2, 2, [(0, 1), (1, 1), (1, 2)]),
    (3, 2, 3, 1, 1, 2, 2, 4, [(1, 0), (1, 1), (0, 1)]),
]


def cases(rank, batch, taps, strides, dilation, groups, inputs, outputs, padding):
    kernel = (*(taps,) * rank, inputs // groups, outputs)
    pads = padding if groups == 1 or not isinstance(padding, str) else [(1, 1)] * rank
    options = {"strides": strides, "dilation": dilation, "groups": groups}
    ours = [
        lambda x, k: conv(x, k, padding=pads, **options),
        lambda x, k: conv_transpose(x, k, padding=pads, **options),
    ]
    theirs = [
        lambda x, k: library(x, k, padding=pads, **options),
        lambda x, k: library_transpose(x, k, padding=pads, **options),
    ]
    x = (batch, *SIZES[rank], inputs)
    return zip(ours, theirs, [x, x], [kernel, kernel], strict=True)


@pytest.mark.parametrize("case", GRID, ids=str)
def test_values_and_gradients_of_both_orders_in_float64(case):
    with jax.enable_x64():
        for ours, theirs, x, kernel in cases(*case):
            assert compare(ours, theirs, random(0, x, np.float64), random(1, kernel, np.float64)) < 1e-12


# Sizes at which the other forms are chosen: many pixels, few channels, big kernels.
@pytest.mark.parametrize(
    "case",
    [
        ((1, 24, 22, 3), (4, 4, 3, 33), 2),
        ((1, 16, 14, 20), (3, 3, 20, 6), 1),
        ((1, 24, 22, 20), (4, 4, 20, 1), 1),
        ((2, 4, 4, 40), (4, 4, 40, 36), 2),
        ((1, 8, 10, 8, 3), (3, 3, 3, 3, 4), 1),
        ((1, 12, 12, 12, 2), (4, 4, 4, 2, 3), 2),
    ],
    ids=str,
)
def test_values_and_gradients_of_both_orders_in_float32(case):
    x, kernel, strides = case
    for ours, theirs in ((conv, library), (conv_transpose, library_transpose)):
        assert (
            compare(
                lambda x, k: ours(x, k, strides=strides),
                lambda x, k: theirs(x, k, strides),
                random(0, x),
                random(1, kernel) / np.sqrt(np.prod(kernel[:-1])),
            )
            < 1e-5
        )


def test_reflection_is_mirroring_then_valid():
    x, kernel = random(0, (2, 7, 9, 3)), random(1, (3, 5, 3, 4))
    mirrored = np.pad(x, ((0, 0), (1, 1), (2, 2), (0, 0)), mode="reflect")
    np.testing.assert_allclose(
        conv(x, kernel, padding="REFLECT"), library(mirrored, kernel, 1, "VALID"), atol=1e-5
    )


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_modules_equal_flax(padding):
    x = random(0, (2, 6, 5, 3))
    for ours, theirs in (
        (Conv(4, 3, strides=2, padding=padding, dilation=1), nn.Conv(4, (3, 3), 2, padding=padding)),
        (
            ConvTranspose(4, (4, 3), strides=2, padding=padding),
            nn.ConvTranspose(4, (4, 3), (2, 2), padding=padding),
        ),
    ):
        parameters = ours.init(jax.random.key(0), x)
        expected = theirs.init(jax.random.key(0), x)
        assert jax.tree.map(jnp.shape, parameters) == jax.tree.map(jnp.shape, expected)
        np.testing.assert_allclose(ours.apply(expected, x), theirs.apply(expected, x), atol=1e-5)


def test_transposed_padding_in_the_words_of_pytorch():
    # Output sizes of torch.nn.ConvTranspose2d: (n - 1) * s - 2 p + d (k - 1) + q + 1.
    for k, s, p, q, d in ((4, 2, 1, 0, 1), (3, 2, 1, 1, 1), (5, 3, 2, 2, 1), (3, 2, 0, 0, 2)):
        reach = d * (k - 1)
        y = conv_transpose(
            jnp.ones((1, 6, 6, 1)),
            jnp.ones((k, k, 1, 1)),
            strides=s,
            dilation=d,
            padding=[(reach - p, reach - p + q)] * 2,
        )
        assert y.shape[1] == 5 * s - 2 * p + reach + q + 1
    x, kernel = random(0, (1, 6, 6, 2)), random(1, (4, 4, 2, 3))
    np.testing.assert_array_equal(
        conv_transpose(x, kernel, strides=2), conv_transpose(x, kernel, strides=2, padding=[(2, 2), (2, 2)])
    )


def loss(function):
    return lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel)))


def down(x, kernel):
    return conv(x, kernel, strides=2)


def up(x, kernel):
    return conv_transpose(x, kernel, strides=2)


@pytest.mark.parametrize("function", [down, up])
def test_vmap_scan_remat_cond_and_map_change_nothing(function):
    xs, kernel = random(0, (3, 2, 8, 8, 3)), random(1, (4, 4, 3, 5))
    gradient = jax.grad(loss(function), (0, 1))
    each = [gradient(x, kernel) for x in xs]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    def run(xs, kernel):
        scanned = jax.lax.scan(lambda carry, x: (carry, gradient(x, kernel)), 0, xs)[1]
        mapped = jax.lax.map(lambda x: gradient(x, kernel), xs)
        batched = jax.vmap(gradient, (0, None))(xs, kernel)
        kernels = jax.vmap(gradient)(xs, jnp.stack([kernel] * 3))
        again = jax.vmap(jax.grad(loss(jax.checkpoint(function)), (0, 1)), (0, None))(xs, kernel)
        chosen = jax.lax.cond(
            xs[0, 0, 0, 0, 0] > 1e9,
            lambda: jax.tree.map(jnp.zeros_like, each[0]),
            lambda: gradient(xs[0], kernel),
        )
        return (scanned, mapped, batched, kernels, again), chosen

    results, chosen = jax.jit(run).lower(xs, kernel).compile(QUICK)(xs, kernel)
    for result in results:
        assert relative(result, expected) < 1e-5
    assert relative(chosen, each[0]) < 1e-5


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_types_stay_and_are_near(dtype):
    x, kernel = random(0, (2, 8, 8, 3)), random(1, (4, 4, 3, 5)) / 7
    for function in (down, up):
        value, pull = jax.vjp(function, x.astype(dtype), kernel.astype(dtype))
        wide, wide_pull = jax.vjp(function, x, kernel)
        narrow = (value, *pull(jnp.ones_like(value)))
        assert all(leaf.dtype == dtype for leaf in narrow)
        wide = (wide, *wide_pull(jnp.ones_like(wide)))
        assert relative([leaf.astype(jnp.float32) for leaf in narrow], wide) < 0.03


def test_module_computes_in_its_dtype_and_keeps_float32_parameters():
    module, x = Conv(4, 3, dtype=jnp.bfloat16), jnp.ones((1, 5, 5, 2))
    y, variables = module.init_with_output(jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16 and variables["params"]["kernel"].dtype == jnp.float32


def test_forward_mode_says_why_it_does_not_work():
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: conv(x, kernel), (x,), (x,))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x: conv(x, jnp.ones((3, 3, 2, 1))), "does not fit"),
        (lambda x: conv(x, jnp.ones((3, 3, 3, 1)), padding="CIRCULAR"), "CIRCULAR"),
        (lambda x: conv_transpose(x, jnp.ones((3, 3, 3, 1)), padding="REFLECT"), "REFLECT"),
        (lambda x: conv(x, jnp.ones((3, 3, 3, 1)), strides=(2,)), "strides"),
        (lambda x: Conv(4, (3, 3, 3)).init(jax.random.key(0), x), "kernel_size"),
    ],
)
def test_wrong_shapes_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(jnp.ones((1, 8, 8, 3)))


def test_no_output_is_an_empty_array():
    assert conv(jnp.ones((1, 2, 2, 3)), jnp.ones((3, 3, 3, 4)), padding="VALID").shape == (1, 0, 0, 4)


# ------------------------------------------------------------------------------------------- many devices


@pytest.mark.parametrize(
    "function, x, kernel",
    [
        (down, (4, 16, 8, 3), (4, 4, 3, 8)),
        (up, (4, 16, 8, 3), (4, 4, 3, 8)),
        (lambda x, k: conv(x, k, padding="REFLECT"), (4, 16, 8, 3), (3, 3, 3, 8)),
        (conv, (2, 8, 8, 8, 2), (3, 3, 3, 2, 4)),
    ],
    ids=["down", "up", "reflect", "volume"],
)
def test_batch_and_space_over_devices_change_nothing(function, x, kernel):
    x, kernel = random(0, x), random(1, kernel)
    mesh = jax.make_mesh((2, 4), ("data", "space"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    run = jax.jit(jax.value_and_grad(lambda x, k: (y := function(x, k), jnp.mean(y**2))[1], (0, 1)))
    expected = run(x, kernel)
    result = run(
        jax.device_put(x, NamedSharding(mesh, P("data", "space"))),
        jax.device_put(kernel, NamedSharding(mesh, P())),
    )
    assert relative(result, expected) < 1e-5


def test_manual_axes_sum_the_kernels_gradient():
    x, kernel = random(0, (8, 8, 8, 3)), random(1, (4, 4, 3, 5))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    for function in (down, up):

        def total(x, kernel):
            inner = jax.shard_map(
                lambda x, k: jax.lax.psum(loss(function)(x, k), "data"),
                mesh=mesh,
                in_specs=(P("data"), P()),
                out_specs=P(),
            )
            return inner(x, kernel)

        assert (
            relative(jax.jit(jax.grad(total, (0, 1)))(x, kernel), jax.grad(loss(function), (0, 1))(x, kernel))
            < 1e-5
        )


# --------------------------------------------------------------------------------------------- the program


def slow_convolutions(function, *operands):
    """Convolutions in the optimised program that are not two-dimensional ones of plain layout."""
    text = jax.jit(function).lower(*operands).compile().as_text()
    lines = [line for line in text.splitlines() if re.search(r" convolution\(", line)]
    return [line for line in lines if "dim_labels=b01f_01io->b01f" not in line or "rhs_reversal" in line]


def repeated(gradient):
    def run(x, kernel):
        step = lambda k, x: (k - 0.1 * gradient(x, k), None)  # noqa: E731
        return jax.lax.scan(step, kernel, x)[0]

    return run


def penalty(function):
    return lambda x, k: jnp.sum(jnp.square(jax.grad(lambda x: jnp.sum(nn.leaky_relu(function(x, k))))(x)))


@pytest.mark.parametrize("function", [down, up, conv], ids=["down", "up", "plain"])
@pytest.mark.parametrize("objective", [loss, penalty])
def test_no_slow_convolution_inside_a_loop(function, objective):
    xs, kernel = jnp.ones((3, 1, 32, 32, 32)), jnp.ones((4, 4, 32, 32))
    assert not slow_convolutions(repeated(jax.grad(objective(function), 1)), xs, kernel)


def test_no_slow_convolution_in_volumes_and_thin_layers():
    def both(xs, kernels):
        return [
            repeated(jax.grad(loss(function), 1))(x, k)
            for function in (down, conv)
            for x, k in zip(xs, kernels, strict=True)
        ]

    xs = jnp.ones((2, 1, 8, 8, 8, 16)), jnp.ones((2, 1, 24, 24, 16))
    assert not slow_convolutions(both, xs, (jnp.ones((4, 4, 4, 16, 32)), jnp.ones((4, 4, 16, 1))))


def test_the_library_is_slow_there():
    xs, kernel = jnp.ones((3, 1, 32, 32, 32)), jnp.ones((4, 4, 32, 32))
    assert slow_convolutions(repeated(jax.grad(loss(lambda x, k: library(x, k, 2)), 1)), xs, kernel)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_get_the_librarys_convolutions(platform):
    x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((4, 4, 3, 5))

    def convolutions(function):
        text = jax.export.export(jax.jit(jax.grad(loss(function), (0, 1))), platforms=[platform])(
            x, kernel
        ).mlir_module()
        return sorted(
            re.findall(r"stablehlo\.convolution\([^)]*\)(.*)loc", text)
            or re.findall(r"stablehlo\.convolution.*", text)
        )

    strip = lambda lines: sorted(re.sub(r"%\w+", "", line) for line in lines)  # noqa: E731
    assert strip(convolutions(down)) == strip(convolutions(lambda x, k: library(x, k, 2)))
    assert len(convolutions(down)) == 3


def test_geometry_knows_the_offset_of_the_transposed_form():
    geometry = layers.Geometry((2,), (1,), ((2, 2),), (12,), (6,), (4,), transposed=True)
    assert geometry.low == (1,)
