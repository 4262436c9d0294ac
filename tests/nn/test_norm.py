"""Normalisation layers against the moments they are defined by, and against flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from medgan_jax import axes
from medgan_jax.nn.conv import Conv
from medgan_jax.nn.norm import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    PixelNorm,
    SpectralConv,
    SpectralDense,
    get_norm,
    removes_bias,
    spectral_normalise,
)


def image(seed=0, shape=(4, 6, 5, 8), dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(2.0, 3.0, shape), dtype)


def apply(module, x, **options):
    return jax.jit(lambda x: module.init_with_output(jax.random.key(0), x, **options)[0])(x)


@pytest.mark.parametrize(
    "module, over",
    [
        (BatchNorm(), (0, 1, 2)),
        (InstanceNorm(), (1, 2)),
        (LayerNorm(), (1, 2, 3)),
        (LayerNorm(over_space=False), (3,)),
        (InstanceNorm(affine=True), (1, 2)),
    ],
)
def test_moments_are_taken_away(module, over):
    x = np.asarray(image(), np.float64)
    expected = (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + 1e-5)
    np.testing.assert_allclose(apply(module, image(), train=True), expected, atol=2e-5)


def test_group_norm_equals_flax():
    x = image()
    np.testing.assert_allclose(
        apply(GroupNorm(groups=4), x), apply(nn.GroupNorm(4, epsilon=1e-5), x), atol=2e-5
    )
    with pytest.raises(ValueError, match="3 groups"):
        apply(GroupNorm(groups=3), x)


def test_pixel_norm_gives_unit_mean_square():
    y = apply(PixelNorm(), image())
    np.testing.assert_allclose(jnp.mean(y**2, -1), 1.0, atol=1e-4)


def test_batch_norm_carries_running_moments_as_flax_does():
    ours, theirs = BatchNorm(momentum=0.8), nn.BatchNorm(momentum=0.8)
    variables = ours.init(jax.random.key(0), image(), train=True)
    other = theirs.init(jax.random.key(0), image(), use_running_average=False)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, variables, other))
    for seed in range(2):
        _, state = ours.apply(variables, image(seed), train=True, mutable=["batch_stats"])
        _, expected = theirs.apply(other, image(seed), use_running_average=False, mutable=["batch_stats"])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state, expected)
        variables, other = {**variables, **state}, {**other, **expected}
    np.testing.assert_allclose(
        ours.apply(variables, image(9), train=False),
        theirs.apply(other, image(9), use_running_average=True),
        atol=1e-5,
    )


def objective(x, scale):
    variables = {
        "params": {"scale": scale, "bias": scale},
        "batch_stats": {"mean": 0 * scale, "var": 0 * scale + 1},
    }
    y, state = BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])
    return jnp.mean(jnp.sin(y)), state["batch_stats"]


def test_batch_norm_is_global_over_a_mesh_and_over_pmap():
    x, scale = image(shape=(8, 4, 2, 3)), jnp.asarray([0.5, 1.0, 2.0])
    gradient = jax.value_and_grad(objective, (0, 1), has_aux=True)
    (value, state), (dx, dscale) = jax.jit(gradient)(x, scale)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.jit(gradient)(jax.device_put(x, NamedSharding(mesh, P("data"))), scale)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), sharded, ((value, state), (dx, dscale))
    )
    rows = x.reshape(8, 1, 4, 2, 3)
    (values, states), (dxs, dscales) = jax.pmap(gradient, axis_name=axes.DEVICES, in_axes=(0, None))(
        rows, scale
    )
    np.testing.assert_allclose(jnp.mean(values), value, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[3], b, atol=1e-6), states, state)
    # Each device's gradient is that of the sum over devices, of which the program takes the mean.
    np.testing.assert_allclose(dxs.reshape(x.shape) / 8, dx, atol=1e-7)
    np.testing.assert_allclose(jnp.mean(dscales, 0), dscale, atol=1e-6)


def test_statistics_of_bfloat16_images_are_float32():
    x = (image(shape=(2, 32, 32, 4)) + 100.0).astype(jnp.bfloat16)
    y, variables = BatchNorm().init_with_output(jax.random.key(0), x, train=True)
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert abs(float(jnp.std(y.astype(jnp.float32))) - 1.0) < 0.02


def test_forgetting_to_carry_statistics_is_an_error():
    module = BatchNorm()
    variables = module.init(jax.random.key(0), image(), train=True)
    with pytest.raises(Exception, match="batch_stats"):
        module.apply(variables, image(), train=True)


@pytest.mark.parametrize("name", ["batch", "instance", "layer", "group", "pixel", "none"])
def test_every_name_is_called_alike(name):
    module = get_norm(name, **({"groups": 4} if name == "group" else {}))()
    assert apply(module, image(), train=True).shape == image().shape


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"bach.*batch"):
        get_norm("bach")


@pytest.mark.parametrize("name", ["batch", "instance"])
def test_what_removes_a_bias_removes_it(name):
    assert removes_bias(name) and not removes_bias("layer")
    x = image()
    np.testing.assert_allclose(
        apply(get_norm(name)(), x + jnp.arange(8.0), train=True),
        apply(get_norm(name)(), x, train=True),
        atol=1e-4,
    )


# ------------------------------------------------------------------------------------------ spectral norm


def test_power_iteration_finds_the_largest_singular_value():
    kernel = image(shape=(3, 3, 4, 6))
    vector = jnp.ones(6)
    for _ in range(60):
        normalised, vector = jax.jit(spectral_normalise)(kernel, vector)
    assert np.linalg.norm(np.asarray(normalised).reshape(-1, 6), 2) == pytest.approx(1.0, abs=1e-4)


def test_gradient_passes_through_the_kernel_alone():
    kernel, vector = image(shape=(5, 4)), jnp.ones(4)
    matrix = np.asarray(kernel, np.float64)
    for _ in range(100):
        _, vector = spectral_normalise(kernel, vector)
    weights = image(3, (5, 4))
    gradient = jax.grad(lambda k: jnp.sum(weights * spectral_normalise(k, vector, 0)[0]))(kernel)
    left, values, right = np.linalg.svd(matrix)
    expected = (
        np.asarray(weights)
        - np.sum(np.asarray(weights) * matrix) / values[0] * np.outer(left[:, 0], right[0])
    ) / values[0]
    np.testing.assert_allclose(gradient, expected, atol=1e-4)


@pytest.mark.parametrize("module", [SpectralConv(6, 3, strides=2), SpectralDense(6)])
def test_spectral_layers_carry_their_vector(module):
    x = image()
    variables = module.init(jax.random.key(0), x, train=True)
    step = jax.jit(lambda v, x: module.apply(v, x, train=True, mutable=["batch_stats"]))
    for _ in range(40):
        y, state = step(variables, x)
        variables = {**variables, **state}
    kernel = variables["params"]["kernel"]
    sigma = np.linalg.norm(np.asarray(kernel).reshape(-1, 6), 2)
    plain = Conv(6, 3, strides=2) if isinstance(module, SpectralConv) else nn.Dense(6)
    expected = plain.apply({"params": {**variables["params"], "kernel": kernel / sigma}}, x)
    np.testing.assert_allclose(y, expected, atol=1e-3)
    np.testing.assert_allclose(module.apply(variables, x, train=False), y, atol=1e-3)
