"""Gradient reversal: the layer by which one backward pass plays a game against what it feeds."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def reverse_gradient(x: jax.Array, weight: jax.Array | float) -> jax.Array:
    """`x` itself, whose gradient comes back times `-weight` (Ganin et al. 2016, section 4.2).

    `weight` may be traced, such as one that rises during training; no gradient reaches it.
    """
    return x


def _forward(x, weight):
    return x, jnp.asarray(weight)


def _backward(weight, gradient):
    return (-weight.astype(gradient.dtype) * gradient, jnp.zeros_like(weight))


reverse_gradient.defvjp(_forward, _backward)
