"""Blocks: shapes in two and three dimensions, what they compute, and that rematerialising changes nothing."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.nn.blocks import (
    ConvBlock,
    Dropout,
    PreActivationBlock,
    ResidualBlock,
    leaky_relu,
    minibatch_deviation,
    rematerialised,
    repeat,
)
from medgan_jax.nn.conv import conv


def image(shape=(2, 8, 8, 4), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    "block, size",
    [
        (ConvBlock(6), 8),
        (ConvBlock(6, 4, 2, norm="instance"), 4),
        (ConvBlock(6, 4, 2, transposed=True), 16),
        (ConvBlock(6, norm="none", activation=None), 8),
        (PreActivationBlock(6, strides=2), 4),
    ],
)
def test_sizes_in_two_and_three_dimensions(block, size):
    for rank in (2, 3):
        x = jnp.ones((2, *(8,) * rank, 4))
        y = jax.eval_shape(lambda x: block.init_with_output(jax.random.key(0), x, train=True)[0], x)
        assert y.shape == (2, *(size,) * rank, 6)


def test_no_bias_in_front_of_a_norm_that_removes_it():
    for norm, expected in (("batch", False), ("instance", False), ("layer", True), ("none", True)):
        shapes = jax.eval_shape(
            lambda x: ConvBlock(6, norm=norm).init(jax.random.key(0), x, train=True), image()
        )
        assert ("bias" in shapes["params"]["conv"]) == expected


def instance(x):
    return (x - x.mean((1, 2), keepdims=True)) / jnp.sqrt(x.var((1, 2), keepdims=True) + 1e-5)


def test_residual_block_is_the_one_of_cyclegan():
    x = image()
    y, variables = ResidualBlock().init_with_output(jax.random.key(0), x, train=True)
    kernels = [variables["params"][name]["conv"]["kernel"] for name in ("first", "second")]
    inner = jax.nn.relu(instance(conv(x, kernels[0], padding="REFLECT")))
    np.testing.assert_allclose(y, x + instance(conv(inner, kernels[1], padding="REFLECT")), atol=1e-4)


def test_pre_activation_block_keeps_the_identity_where_shapes_allow():
    x = image()
    variables = PreActivationBlock(4).init(jax.random.key(0), x, train=True)
    assert "shortcut" not in variables["params"]
    zero = jax.tree.map(jnp.zeros_like, variables["params"]["second"])
    variables = {**variables, "params": {**variables["params"], "second": zero}}
    np.testing.assert_allclose(PreActivationBlock(4).apply(variables, x, train=False), x)


def test_rematerialised_block_is_the_same_block():
    x = image()
    results = []
    for enabled in (False, True):
        block = rematerialised(ResidualBlock, enabled)(norm="batch", dropout=0.5)
        variables = block.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, x, train=True)

        def objective(parameters):
            y, state = block.apply(
                {**variables, "params": parameters},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(2)},
            )
            return jnp.sum(jnp.sin(y)), state

        gradient = jax.value_and_grad(objective, has_aux=True)
        results.append((variables, *jax.jit(gradient)(variables["params"])))
        assert enabled == ("remat" in str(jax.make_jaxpr(gradient)(variables["params"])))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *results)


class Repeated(nn.Module):
    """`count` residual blocks with statistics and dropout."""

    count: int
    remat: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train):
        block = ResidualBlock(norm="batch", dropout=self.dropout, name="blocks")
        return repeat(block, self.count, x, train=train, remat=self.remat)


def test_repeated_blocks_are_blocks_in_turn_each_with_its_own_variables():
    x = image()
    variables = Repeated(3).init(jax.random.key(0), x, train=True)
    y, new = Repeated(3).apply(variables, x, train=True, mutable=["batch_stats"])
    kernels = variables["params"]["blocks"]["first"]["conv"]["kernel"]
    assert len({float(kernel[0, 0, 0, 0]) for kernel in kernels}) == len(kernels) == 3
    for number in range(3):
        one = {name: jax.tree.map(lambda leaf: leaf[number], tree["blocks"]) for name, tree in variables.items()}
        x, state = ResidualBlock(norm="batch").apply(one, x, train=True, mutable=["batch_stats"])
        expected = jax.tree.map(lambda leaf: leaf[number], new["batch_stats"]["blocks"])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state["batch_stats"], expected)
    np.testing.assert_allclose(y, x, atol=1e-5)
    assert repeat(ResidualBlock(), 0, x, train=True) is x


def test_repeated_blocks_rematerialised_are_the_same_and_their_number_costs_no_program():
    x, keys = image(), {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    gradients, sizes = [], []
    for count, remat in ((2, False), (2, True), (6, False)):
        module = Repeated(count, remat, dropout=0.5)
        variables = module.init(keys, x, train=True)

        def objective(params, module=module, variables=variables):
            y, _ = module.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"], rngs=keys)
            return jnp.sum(jnp.sin(y))

        lowered = jax.jit(jax.grad(objective)).lower(variables["params"])
        sizes.append(lowered.as_text().count("\n"))
        if count == 2:
            gradients.append(lowered.compile()(variables["params"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *gradients)
    assert sizes[2] == sizes[0]


def test_dropout_off_on_and_always():
    x, key = jnp.ones((4, 64)), {"dropout": jax.random.key(0)}
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, train=False), x)
    for module, train in ((Dropout(0.5), True), (Dropout(0.5, always=True), False)):
        y = module.apply({}, x, train=train, rngs=key)
        assert set(np.unique(y)) == {0.0, 2.0} and 0.3 < float(jnp.mean(y == 0)) < 0.7


def test_leaky_relu():
    np.testing.assert_allclose(leaky_relu(jnp.array([-2.0, 0.0, 3.0])), [-0.4, 0.0, 3.0])


@pytest.mark.parametrize("shape", [(4, 3, 3, 2), (6, 2, 2, 2, 1), (1, 2, 2, 1)])
def test_minibatch_deviation(shape):
    x = image(shape)
    y = minibatch_deviation(x)
    np.testing.assert_array_equal(y[..., :-1], x)
    size = {4: 4, 6: 3, 1: 1}[shape[0]]
    for start in range(shape[0] // size):
        group = np.asarray(x)[start :: shape[0] // size]
        np.testing.assert_allclose(y[start, ..., -1], np.sqrt(group.var(0) + 1e-8).mean(), rtol=1e-5)
