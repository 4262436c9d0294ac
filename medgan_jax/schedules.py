"""Learning rates that follow the step or the loss, as several methods share them."""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import optax


def constant_then_linear(rate: float, steps: int, constant: float) -> optax.Schedule:
    """`rate` for the fraction `constant` of the `steps`, then linearly to 0 at their end; 1 is constant."""
    turn = round(steps * constant)
    if turn >= steps:
        return optax.constant_schedule(rate)
    return optax.linear_schedule(rate, 0.0, transition_steps=steps - turn, transition_begin=turn)


def scale_by_loss(factors: Mapping[float, float]) -> optax.GradientTransformationExtraArgs:
    """Updates times the factor of the largest of the levels `{level: factor}` that the loss exceeds, else 0.

    It holds back a discriminator that is ahead: `chain(adam(rate), scale_by_loss({0.6: 1, 0.4: 0.1}))` moves
    in full while its loss is above 0.6, by a tenth above 0.4 and not at all below.
    """

    def update(updates, state, params=None, *, value, **_):
        factor = jnp.float32(0)
        for level, wanted in sorted(factors.items()):
            factor = jnp.where(value > level, jnp.float32(wanted), factor)
        return jax.tree.map(lambda leaf: factor.astype(leaf.dtype) * leaf, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def inverse_power(rate: float, steps: int, *, alpha: float = 10.0, beta: float = 0.75) -> optax.Schedule:
    """`rate / (1 + alpha p)^beta`, p the share of `steps` that is done (Ganin et al. 2016, section 5.2.2)."""
    return lambda step: rate / (1 + alpha * step / steps) ** beta


def sigmoid_ramp(steps: int, *, gamma: float = 10.0) -> optax.Schedule:
    """`2 / (1 + exp(-gamma p)) - 1`, from 0 to nearly 1, p the share of `steps` that is done (same place)."""
    return lambda step: 2 / (1 + jnp.exp(-gamma * jnp.asarray(step) / steps)) - 1


def piecewise_linear(points: Sequence[tuple[float, float]]) -> optax.Schedule:
    """Rates that go in straight lines through `points` (step, rate), constant before and after them."""
    steps, rates = zip(*points, strict=True)
    return lambda step: jnp.interp(step, jnp.array(steps, jnp.float32), jnp.array(rates, jnp.float32))


def sgd_of_2014(
    rate: float, decay: float, least: float, momentum: tuple[float, float], rising: int
) -> optax.GradientTransformation:
    """Gradient descent whose rate falls by 1 / `decay` in every step, to `least`, while its momentum rises.

    momentum: at first, and after the `rising` steps in which it grows linearly. With these Goodfellow et al.
    2014 and Mirza and Osindero 2014 trained.
    """
    # A factor so near to one is none in single precision; its logarithm is.
    fall = math.log(decay)
    return optax.inject_hyperparams(optax.sgd)(
        learning_rate=lambda step: jnp.maximum(rate * jnp.exp(-fall * step), least),
        momentum=optax.linear_schedule(*momentum, rising),
    )


def with_weight_decay(optimizer: optax.GradientTransformation, weight: float) -> optax.GradientTransformation:
    """`optimizer` on gradients to which `weight` times the kernels is added: weight / 2 of their squared norm."""

    def kernels(params):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return optax.chain(optax.add_decayed_weights(weight, mask=kernels), optimizer)


def squared_ramp(step, steps: int):
    """`exp(-5 (1 - p)^2)`, from 0.007 to 1, p the share of the `steps` that is done (Laine and Aila 2017)."""
    return jnp.exp(-5 * jnp.square(1 - jnp.minimum(step / steps, 1.0)))


def polynomial_descent(rate: float, steps: int, *, done: int = 0) -> optax.GradientTransformation:
    """Descent with momentum 0.9 and weight decay 1e-4, at a rate of `polynomial_decay` (SSL4MIS)."""
    descent = optax.sgd(polynomial_decay(rate, steps, done=done), momentum=0.9)
    return optax.chain(optax.add_decayed_weights(1e-4), descent)


def polynomial_decay(rate: float, steps: int, *, power: float = 0.9, done: int = 0) -> optax.Schedule:
    """`rate (1 - p)^power`, p the share of the `steps` that is done, of which `done` before this schedule."""
    return lambda step: rate * jnp.maximum(1 - (step + done) / steps, 0.0) ** power
