"""What losses do to their arguments first: float32, equal shapes; and norms with a finite gradient."""

import jax
import jax.numpy as jnp


def promoted(x: jax.Array) -> jax.Array:
    """`x` in float32 where it is narrower (bfloat16, integers), else unchanged."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def promoted_pair(prediction: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both arrays by `promoted`; ValueError where their shapes differ, instead of a silent broadcast."""
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {prediction.shape} and target {target.shape} must have the same shape")
    return promoted(prediction), promoted(target)


def safe_root(x: jax.Array) -> jax.Array:
    """Square root of `x >= 0` whose gradient at 0 is 0 instead of infinity."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def case_norm(x: jax.Array) -> jax.Array:
    """Euclidean norm of every case: `(B, ...)` to `(B,)`, over all axes but the first."""
    return safe_root(jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim))))
