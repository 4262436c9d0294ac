"""Ultrasound pictures of echogenicity: fully developed speckle, its envelope, and compression for display."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from medgan_jax.phantoms import shapes


def envelope(noise: jax.Array, echogenicity: jax.Array, deviations: Sequence[float]) -> jax.Array:
    """Amplitude `(H, W)` that many scatterers of amplitude `echogenicity` `(H, W)` give together.

    noise: `(2, H, W)` white, standard normal: in-phase and quadrature part of the scatterers. deviations: of
    the Gaussian point spread in pixels along the beam and across it. Where the echogenicity is constant the
    amplitude is Rayleigh distributed, with mean over standard deviation 1.91 (Wagner et al., IEEE Trans.
    Sonics Ultrason. 30, 1983), and of root mean square `sqrt(2)` of it.
    """
    quadratures = shapes.blur(noise * echogenicity, (0, *deviations), white=True)
    return shapes.norm(*quadratures)


def compress(amplitude: jax.Array, dynamic_range: float = 50.0) -> jax.Array:
    """Brightness in [0, 1] of an amplitude: 1 shows as 1, `dynamic_range` decibels below it as 0."""
    return jnp.clip(1 + 20 * jnp.log10(jnp.maximum(amplitude, 1e-6)) / dynamic_range, 0, 1)
