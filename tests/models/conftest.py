"""What the tests of networks share: counts without memory, and small initialised networks."""

import math

import jax
import jax.numpy as jnp
import pytest


def keys(number: int = 0) -> dict[str, jax.Array]:
    return {"params": jax.random.key(number), "dropout": jax.random.key(number + 1)}


@pytest.fixture
def shapes():
    """(module, input shape, **call options) -> (shape of the output, number of parameters), without memory."""

    def describe(module, shape, **options):
        output, variables = jax.eval_shape(
            lambda: module.init_with_output(keys(), jnp.zeros(shape), train=True, **options))
        return output.shape, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))

    return describe


@pytest.fixture
def start():
    """(module, input) -> variables; compiled, so that a network costs one compilation."""

    def initialise(module, x, **options):
        return jax.jit(lambda x: module.init(keys(), x, train=False, **options))(x)

    return initialise


@pytest.fixture
def train():
    """(module, variables, input, dropout key) -> output in training mode, new state dropped."""

    def run(module, variables, x, key=0, **options):
        return module.apply(variables, x, train=True, rngs={"dropout": jax.random.key(key)},
                            mutable=["batch_stats"], **options)[0]

    return run
