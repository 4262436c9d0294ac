"""Networks that are plain functions and note what they are called with, to check losses by hand."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.game import Context, Networks


class Function(nn.Module):
    """A network without parameters: `function(x)`, or `function(x, *conditions, **options)`."""

    function: Callable

    def __call__(self, x, *conditions, train, **options):
        return self.function(x, train, *conditions, **options)


class Table:
    """A game's networks as functions: `seen` has the arrays they were given, `modes` whether to train."""

    def __init__(self, **functions):
        self.seen = {name: [] for name in functions}
        self.modes = {name: [] for name in functions}
        modules = {name: Function(self._noting(name, function)) for name, function in functions.items()}
        self._modules, self._empty = modules, {name: {} for name in functions}

    @property
    def nets(self):
        """A fresh view of the networks, for one loss."""
        return Networks(self._modules, self._empty, self._empty, jax.random.key(0))

    def _noting(self, name, function):
        def noting(x, train, *conditions, **options):
            self.seen[name].append((x, *conditions) if conditions else x)
            self.modes[name].append(train)
            return function(x, *conditions, **options)

        return noting


@pytest.fixture
def table():
    """`table(G=function, ...)`: networks that are these functions."""
    return Table


@pytest.fixture
def context():
    """`context(memory)`: what a loss may know at step 0."""
    zero = jnp.zeros((), jnp.int32)
    return lambda memory=(): Context(zero, zero, jax.random.key(1), memory)


@pytest.fixture
def rates():
    """`rates(phase, steps)`: the learning rate of each step, by which Adam follows a constant gradient."""

    def measure(phase, steps):
        optimizer = phase.optimizer

        def one_step(state, _):
            update, state = optimizer.update({"w": jnp.ones(())}, state, {"w": jnp.zeros(())})
            return state, -update["w"]

        state = optimizer.init({"w": jnp.zeros(())})
        return np.asarray(jax.lax.scan(one_step, state, None, length=steps)[1])

    return measure


@pytest.fixture
def parameters():
    """`parameters(module, shape)`: number of parameters of a network on an input of this shape."""

    def count(module, shape):
        variables = jax.eval_shape(
            lambda x: module.init(
                {"params": jax.random.key(0), "dropout": jax.random.key(0)}, x, train=False
            ),
            jax.ShapeDtypeStruct(shape, jnp.float32),
        )
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables["params"]))

    return count


def conv(kernel, inputs, outputs, *, bias=False, norm=True):
    """Parameters of a convolution with a bias or a batch normalisation's scale and offset."""
    return kernel**2 * inputs * outputs + outputs * bias + 2 * outputs * norm


@pytest.fixture
def layer():
    """`layer(kernel, inputs, outputs, bias=, norm=)`: its number of parameters."""
    return conv


def softplus(x):
    return np.logaddexp(0, x)


@pytest.fixture
def cross_entropy():
    """`cross_entropy(scores, label)` in NumPy."""
    return lambda scores, label: np.mean(
        softplus(np.asarray(scores, np.float64)) - label * np.asarray(scores)
    )


@pytest.fixture
def folder(tmp_path):
    """`folder(train=images, ...)`: a data folder of archives with images `(N, H, W)`."""

    def write(**parts):
        for part, arrays in parts.items():
            arrays = arrays if isinstance(arrays, dict) else {"images": arrays}
            ids = np.array([f"{part}{n}" for n in range(len(arrays["images"]))])
            np.savez(tmp_path / f"{part}.npz", ids=ids, **arrays)
        return str(tmp_path)

    return write
