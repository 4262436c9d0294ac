"""Networks in a chain on complex images, after each of which the measured frequencies are put back."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from medgan_jax.physics import fourier

Link = tuple[jax.Array, jax.Array]
Mode = Literal["update", "peek", "eval"]


def consistent(image: jax.Array, zero_filled: jax.Array, mask: jax.Array) -> jax.Array:
    """F^-1[(1 - M) F x + y] of images x (B, H, W, 2) and `zero_filled` F^-1 y, y = M F of the truth."""
    image, measured = (fourier.to_complex(each) for each in (image, zero_filled))
    return fourier.to_channels(fourier.hard_data_consistency(image, fourier.fft2c(measured), mask))


def consistent_chain(
    nets: Any, names: Sequence[str], zero_filled: jax.Array, mask: jax.Array, mode: Mode
) -> tuple[list[Link], Any]:
    """[(S'_k, S_k), ...] and the networks: S'_k = S_{k-1} + G_k(S_{k-1}), and S_k, which is consistent.

    S_0 is `zero_filled` (B, H, W, 2), G_k the network called `names[k]`, the same one twice if it is named
    twice. mode: how networks are called; their state goes on with 'update' alone.
    """
    links, image = [], zero_filled
    for name in names:
        change = getattr(nets[name], mode)(image)
        if mode == "update":
            change, nets = change
        before = image + change
        image = consistent(before, zero_filled, mask)
        links.append((before, image))
    return links, nets


def frequency_error(image: jax.Array, target: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean |M F image - M F target| over real and imaginary parts of (B, H, W, 2); mask: (H, W), centred."""
    missed = mask * fourier.fft2c(fourier.to_complex(target - image))
    return jnp.abs(fourier.to_channels(missed)).mean()
