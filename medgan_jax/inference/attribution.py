"""What a change that would heal an image shows of its disease."""

import jax
import jax.numpy as jnp


def attributed(x: jax.Array, change: jax.Array) -> dict[str, jax.Array]:
    """Of images and what is to be added to them, both (B, *S, C): `healed`, the `map`, and its size."""
    return {"healed": x + change, "map": change, "attribution": jnp.abs(change)}
