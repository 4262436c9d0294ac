"""What the tests of networks share: counts without memory, and small initialised networks."""

import functools
import math

import jax
import jax.numpy as jnp
import pytest


def keys(number: int = 0) -> dict[str, jax.Array]:
    return {"params": jax.random.key(number), "dropout": jax.random.key(number + 1)}


@pytest.fixture
def shapes():
    """(module, input shape, **call options) -> (shape of the output, number of parameters)."""

    def describe(module, shape, **options):
        output, variables = jax.eval_shape(
            lambda: module.init_with_output(keys(), jnp.zeros(shape), train=True, **options))
        return output.shape, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))

    return describe


# Small networks run once: compiling them quickly matters more than running them quickly.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture
def compiled():
    """`jax.jit` without optimisation."""
    return quick


@pytest.fixture
def start():
    """(module, input) -> variables, in one compilation."""

    def initialise(module, x, **options):
        return quick(lambda x: module.init(keys(), x, train=False, **options))(x)

    return initialise


def forward(module, variables, x, key, **options):
    """Output in training mode, new state dropped."""
    rngs = {"dropout": key}
    return module.apply(variables, x, train=True, rngs=rngs, mutable=["batch_stats"], **options)[0]


@pytest.fixture
def train():
    """(module, variables, input, dropout key) -> output in training mode; compiled."""

    def run(module, variables, x, key=0, **options):
        return quick(functools.partial(forward, module, **options))(variables, x, jax.random.key(key))

    return run


@pytest.fixture
def slope():
    """(module, variables, input) -> gradient of the squared output in training mode."""

    def gradient(module, variables, x):
        square = lambda v: jnp.sum(forward(module, v, x, jax.random.key(0)) ** 2)  # noqa: E731
        return jax.grad(square)(variables)["params"]

    return gradient
