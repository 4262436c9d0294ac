"""Networks in a chain on complex images, after each of which the measured frequencies are put back."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from medgan_jax.physics import fourier

Link = tuple[jax.Array, jax.Array]
Mode = Literal["update", "peek", "eval"]


def link_names(links: int) -> tuple[str, ...]:
    """`G1`, `G2`, ... of a chain of so many networks."""
    return tuple(f"G{number + 1}" for number in range(links))


def consistent(image: jax.Array, zero_filled: jax.Array, mask: jax.Array) -> jax.Array:
    """F^-1[(1 - M) F x + y] of images x (B, H, W, 2) and `zero_filled` F^-1 y, y = M F of the truth."""
    image, measured = (fourier.to_complex(each) for each in (image, zero_filled))
    return fourier.to_channels(fourier.hard_data_consistency(image, fourier.fft2c(measured), mask))


@dataclasses.dataclass(frozen=True, eq=False)
class ConsistentChain:
    """S'_k = S_{k-1} + G_k(S_{k-1}) and S_k, which is consistent; S_0 is the zero-filled image (B, H, W, 2).

    links: number of networks, called as `link_names` says. mask: of measured frequencies (H, W), centred.
    """

    links: int
    mask: jax.Array

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the networks."""
        return link_names(self.links)

    def __call__(self, nets: Any, zero_filled: jax.Array, mode: Mode) -> tuple[list[Link], Any]:
        """[(S'_k, S_k), ...] and the networks.

        mode: how networks are called; their state goes on with 'update' alone.
        """
        links, image = [], zero_filled
        for name in self.names:
            change = getattr(nets[name], mode)(image)
            if mode == "update":
                change, nets = change
            before = image + change
            image = consistent(before, zero_filled, self.mask)
            links.append((before, image))
        return links, nets

    def reconstructions(self, nets: Any, zero_filled: jax.Array) -> dict[str, jax.Array]:
        """Magnitudes (B, H, W, 1) of what the `first` trained link gives and of the last's, the `reconstruction`."""
        links, _ = self(nets, zero_filled, "eval")
        return {"first": fourier.magnitude(links[0][1]), "reconstruction": fourier.magnitude(links[-1][1])}

    def frequency_error(self, image: jax.Array, target: jax.Array) -> jax.Array:
        """Mean |M F image - M F target| over real and imaginary parts of (B, H, W, 2)."""
        missed = self.mask * fourier.fft2c(fourier.to_complex(target - image))
        return jnp.abs(fourier.to_channels(missed)).mean()
