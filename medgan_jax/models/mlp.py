"""Dense networks for points in the plane and other small vectors: toy games, codes, latent vectors."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from medgan_jax.nn.blocks import Dropout


def uniform_init(limit: float) -> Callable:
    """Initialiser of numbers uniform in [-limit, limit)."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


class Hidden(nn.Module):
    """A dense layer and its activation (B, Z) -> (B, width), with dropout on what goes in.

    With `pieces` above 1 it is a maxout layer (Goodfellow et al. 2013): the largest of so many linear
    functions for each unit, in the place of an activation.
    """

    width: int
    pieces: int = 1
    activation: Callable = nn.relu
    dropout: float = 0.0
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if self.dropout:
            x = Dropout(self.dropout, name="dropout")(x, train=train)
        x = nn.Dense(self.width * self.pieces, kernel_init=self.kernel_init, name="dense")(x)
        if self.pieces == 1:
            return self.activation(x)
        return x.reshape(*x.shape[:-1], self.width, self.pieces).max(-1)


class MLP(nn.Module):
    """Vectors (B, ...) flattened -> (B, outputs) through hidden layers of `widths`.

    outputs: a number, or the shape of one output. activation: after each hidden layer, unless `pieces` above
    1 make them maxout layers. output_activation: None for logits and points. dropout: shares of the values
    that are dropped on the way into the first layer, and into all others.
    features: a call with `features=True` returns (outputs, hidden activations).
    """

    outputs: int | tuple[int, ...] = 1
    widths: tuple[int, ...] = (128, 128)
    activation: Callable = nn.relu
    output_activation: Callable | None = None
    kernel_init: Callable = nn.initializers.lecun_normal()
    pieces: int = 1
    dropout: tuple[float, float] = (0.0, 0.0)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, features: bool = False):
        x = x.reshape(x.shape[0], -1)
        hidden = []
        for number, width in enumerate(self.widths):
            x = Hidden(width, self.pieces, self.activation, self.dropout[bool(number)], self.kernel_init,
                       name=f"layer_{number}")(x, train=train)
            hidden.append(x)
        y = head(self, x, train)
        return (y, tuple(hidden)) if features else y


class ConditionalMLP(nn.Module):
    """Vectors x (B, ...) and their conditions c (B, K) -> (B, outputs) (Mirza and Osindero 2014).

    Each goes through a layer of its own, of `width` and `condition_width`; those are joined and go through
    layers of `widths`. `pieces` are of the maxout layers, of these three kinds in turn. dropout: share of the
    hidden values that is dropped. The other fields are `MLP`'s.
    """

    outputs: int | tuple[int, ...] = 1
    width: int = 128
    condition_width: int = 128
    widths: tuple[int, ...] = (128,)
    activation: Callable = nn.relu
    output_activation: Callable | None = None
    kernel_init: Callable = nn.initializers.lecun_normal()
    pieces: tuple[int, int, int] = (1, 1, 1)
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, c: jax.Array, *, train: bool) -> jax.Array:
        x_pieces, c_pieces, pieces = self.pieces
        settings = dict(activation=self.activation, kernel_init=self.kernel_init)
        x = x.reshape(x.shape[0], -1)
        of_x = Hidden(self.width, x_pieces, name="layer_x", **settings)(x, train=train)
        of_c = Hidden(self.condition_width, c_pieces, name="layer_c", **settings)(c, train=train)
        x = jnp.concatenate([of_x, of_c], axis=-1)
        for number, width in enumerate(self.widths):
            layer = Hidden(width, pieces, dropout=self.dropout, name=f"layer_{number}", **settings)
            x = layer(x, train=train)
        return head(self, x, train)


def head(network: MLP | ConditionalMLP, x: jax.Array, train: bool) -> jax.Array:
    """The last layer of a network, within its call: (B, Z) -> (B, outputs)."""
    rate = network.dropout[1] if isinstance(network.dropout, tuple) else network.dropout
    if rate:
        x = Dropout(rate, name="head_dropout")(x, train=train)
    shape = (network.outputs,) if isinstance(network.outputs, int) else network.outputs
    y = nn.Dense(math.prod(shape), kernel_init=network.kernel_init, name="head")(x).reshape(-1, *shape)
    return y if network.output_activation is None else network.output_activation(y)
