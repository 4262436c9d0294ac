"""Forward models as a stage's `prepare`: what a scanner would have measured of a batch of images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from medgan_jax.physics import fourier


def undersampled_magnitudes(mask: jax.Array, noise: float = 0.0) -> Callable[[dict, jax.Array], dict]:
    """`image` (B, H, W, 1), magnitudes of any positive range -> `target` x and `zero_filled` |F^-1 M F x|.

    Each image is divided by its maximum and then mapped from [0, 1] to [-1, 1]. mask: (H, W), centred. noise:
    standard deviation of complex noise in k-space, as a part of that maximum.
    """

    def prepare(batch, key):
        x = batch["image"] / jnp.maximum(batch["image"].max((1, 2, 3), keepdims=True), 1e-6)
        x_zf = fourier.zero_filled(x[..., 0], mask, noise=noise, key=key if noise else None)
        return {"target": 2 * x - 1, "zero_filled": 2 * jnp.abs(x_zf)[..., None] - 1}

    return prepare
