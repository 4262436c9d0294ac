"""Latent vectors from the priors that generators are trained with."""

from typing import Literal, get_args

import jax

Prior = Literal["normal", "uniform"]


def draw_latents(prior: Prior, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Latent vectors of `shape` (..., Z): standard normal numbers, or numbers uniform in [-1, 1)."""
    if prior not in get_args(Prior):
        raise ValueError(f"unknown prior {prior!r}; there are {', '.join(get_args(Prior))}")
    return jax.random.normal(key, shape) if prior == "normal" else jax.random.uniform(key, shape, minval=-1.0)
