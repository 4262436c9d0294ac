"""Losses that ask a round trip, an identity or a measurement to agree with the data."""

import jax
import jax.numpy as jnp

from medgan_jax.losses import pixel
from medgan_jax.losses.arrays import promoted_pair


def cycle_consistency(reconstruction: jax.Array, original: jax.Array) -> jax.Array:
    """mean |F(G(x)) - x|: one direction of Zhu et al. 2017, eq. 2; both `(B, ..., C)`."""
    return pixel.l1(reconstruction, original)


def identity(translated: jax.Array, original: jax.Array) -> jax.Array:
    """mean |G(y) - y| where y is already in the target domain of G (Zhu et al. 2017, section 5.2)."""
    return pixel.l1(translated, original)


def kspace_magnitude(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """mean (|F prediction| - |F target|)^2, F the *unnormalised* Fourier transform over the spatial axes.

    DAGAN's frequency term (Yang et al. 2018), as its published weight 0.1 expects it: real images
    `(B, ..., C)` in [0, 1], and the mean over all frequencies. With an orthonormal transform the same term is
    smaller by the number of pixels.
    """
    prediction, target = promoted_pair(prediction, target)
    axes = tuple(range(1, target.ndim - 1))
    return pixel.l2(jnp.abs(jnp.fft.fftn(prediction, axes=axes)), jnp.abs(jnp.fft.fftn(target, axes=axes)))
