"""Terms and projections that keep a critic smooth: gradient penalties, drift, weight clipping.

A `critic` is a function from data `(B, ...)` to scores of any shape with leading axis B, for example
`nets.D.peek`. The score of a case must not depend on other cases: no batch normalisation in the critic.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from medgan_jax.losses.arrays import case_norm, promoted

Critic = Callable[[jax.Array], jax.Array]


def input_gradient(critic: Critic, x: jax.Array) -> jax.Array:
    """Gradient of every case's summed score with respect to that case: the shape of `x`, float32 at least."""
    return promoted(jax.grad(lambda x: jnp.sum(promoted(critic(x))))(x))


def interpolates(real: jax.Array, fake: jax.Array, key: jax.Array) -> jax.Array:
    """epsilon * real + (1 - epsilon) * fake with one epsilon ~ U(0, 1) for each case; arrays `(B, ...)`."""
    if real.shape != fake.shape:
        raise ValueError(f"real {real.shape} and fake {fake.shape} must have the same shape")
    real, fake = promoted(real), promoted(fake)
    epsilon = jax.random.uniform(key, (real.shape[0],) + (1,) * (real.ndim - 1), real.dtype)
    return epsilon * real + (1 - epsilon) * fake


def gradient_penalty(
    critic: Critic, real: jax.Array, fake: jax.Array, key: jax.Array, *, target: float = 1.0
) -> jax.Array:
    """E (||grad f(x)||_2 - target)^2 at random points x between real and fake: Gulrajani et al. 2017, eq. 3.

    The norm is over *all* non-batch axes; the paper's weight is 10. `real` and `fake` are `(B, ...)` of one
    shape, else ValueError. `key` draws the points.
    """
    norms = case_norm(input_gradient(critic, interpolates(real, fake, key)))
    return jnp.mean(jnp.square(norms - target))


def r1(critic: Critic, real: jax.Array) -> jax.Array:
    """E ||grad f(x)||_2^2 at real data `(B, ...)`: Mescheder et al. 2018, eq. 9, there times gamma/2."""
    return jnp.sum(jnp.square(input_gradient(critic, real))) / real.shape[0]


def drift(real: jax.Array) -> jax.Array:
    """E f(x)^2 of the scores of real data: keeps a critic near zero (Karras et al. 2018, weight 0.001)."""
    return jnp.mean(jnp.square(promoted(real)))


def clip_parameters(parameters, limit: float):
    """Every parameter clipped to [-limit, limit]: WGAN's projection (Arjovsky et al. 2017, limit 0.01)."""
    return jax.tree.map(lambda weight: jnp.clip(weight, -limit, limit), parameters)


def kernel_l1(parameters) -> jax.Array:
    """Sum of the absolute values of all kernels in a tree of parameters; biases and scales do not count."""
    leaves = jax.tree_util.tree_leaves_with_path(parameters)
    return sum(jnp.sum(jnp.abs(leaf)) for path, leaf in leaves if path[-1].key == "kernel")
