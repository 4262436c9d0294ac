"""What every metric shares: float32 input, equal shapes, means per case, and NaN for input that has no
answer.

A metric is a pure function that may be traced, so it cannot raise on values: a case whose images hold NaN or
Inf, or whose convention is senseless (a data range of zero), scores NaN. Shapes are known while tracing, so
they raise.
"""

import math

import jax
import jax.numpy as jnp


def as_float(x: jax.Array) -> jax.Array:
    """`x` in float32, or in float64 where it already is: bfloat16, integers and booleans lose nothing
    here."""
    x = jnp.asarray(x)
    if jnp.iscomplexobj(x):
        raise TypeError("metrics take real arrays; give complex images as two real channels or as magnitude")
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def image_pair(prediction: jax.Array, reference: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both image batches in float32, checked to be `(B, H, W, C)` or `(B, D, H, W, C)` of equal shape."""
    prediction, reference = as_float(prediction), as_float(reference)
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction is {prediction.shape} but reference is {reference.shape}")
    if prediction.ndim not in (4, 5):
        raise ValueError(f"images must be (B, H, W, C) or (B, D, H, W, C), not {prediction.shape}")
    return prediction, reference


def case_axes(x: jax.Array) -> tuple[int, ...]:
    """Every axis but the first."""
    return tuple(range(1, x.ndim))


def per_case(value: jax.Array | float, like: jax.Array) -> jax.Array:
    """A scalar or `(B,)` convention in the shape `(B, 1, ...)` that broadcasts against `like`."""
    value = jnp.asarray(value, like.dtype)
    if value.ndim > 1 or (value.ndim == 1 and value.shape[0] != like.shape[0]):
        raise ValueError(f"a convention must be a scalar or one value per case, not {value.shape}")
    return jnp.broadcast_to(value, like.shape[:1]).reshape((-1,) + (1,) * (like.ndim - 1))


def case_sum(x: jax.Array) -> jax.Array:
    """Sum over all but the first axis, `(B, ...) -> (B,)`, first over blocks and then over their sums.

    Products with ones are several times faster than XLA's reduction on a CPU, and with blocks the sum of a
    large volume does not stall in float32.
    """
    if x.ndim == 1:
        return x
    size = x.size // x.shape[0]
    block = math.gcd(size, 4096)
    if block < 64:
        block = math.prod(x.shape[max(1, x.ndim - 2) :])  # sides that are not even: rows
    sums = jnp.matmul(x.reshape(x.shape[0], -1, block), jnp.ones(block, x.dtype), precision="highest")
    return jnp.matmul(sums, jnp.ones(size // block, x.dtype), precision="highest")


def case_mean(x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Mean over all but the first axis, `(B, ...) -> (B,)`, inside `mask` (non-zero is inside) where one is
    given.

    A mask broadcasts against `x`, so `(B, H, W, 1)` serves any number of channels. An empty mask gives NaN,
    and so does one that holds NaN or Inf itself.
    """
    if mask is None:
        return case_sum(x) / (x.size // x.shape[0])
    mask = jnp.broadcast_to(jnp.asarray(mask), x.shape)
    inside = mask != 0
    mean = divide(case_sum(jnp.where(inside, x, 0)), case_sum(inside.astype(x.dtype)))
    return undefined_unless(all_finite(mask), mean)


def divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Quotient that is NaN, with zero gradient, where the denominator is zero."""
    zero = denominator == 0
    return jnp.where(zero, jnp.nan, numerator / jnp.where(zero, 1, denominator))


def square_root(x: jax.Array) -> jax.Array:
    """Square root whose gradient at zero is zero and not infinite; NaN for negative values."""
    safe = jnp.sqrt(jnp.where(x == 0, 1, x))
    return jnp.where(x == 0, 0, safe)


def all_finite(*arrays: jax.Array) -> jax.Array:
    """Whether each case holds only finite values in every array, `(B,)`."""
    finite = [jnp.all(jnp.isfinite(x), case_axes(x)) for x in arrays]
    result = finite[0]
    for other in finite[1:]:
        result = result & other
    return result


def finite_or_nan(value: jax.Array) -> jax.Array:
    """`value`, with infinities turned into NaN: what a sum over an image that holds Inf or NaN has to
    score."""
    return jnp.where(jnp.isfinite(value), value, jnp.nan)


def undefined_unless(valid: jax.Array, value: jax.Array) -> jax.Array:
    """`value` where `valid`, else NaN."""
    return jnp.where(valid, value, jnp.nan)
