"""LAPGAN's networks, dense for the coarsest level and convolutions for the others' details; its pyramid.

Denton et al. 2015 and its public code (facebook/eyescream).
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.blocks import Dropout
from medgan_jax.nn.conv import Conv
from medgan_jax.nn.resample import average_pool, upsample


class CoarseGenerator(nn.Module):
    """Noise (B, Z) -> images (B, size, size, channels), linear, through a ReLU and a sigmoid layer."""

    size: int = 8
    channels: int = 3
    width: int = 1200

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
        x = nn.relu(nn.Dense(self.width, name="layer_0")(z))
        x = nn.sigmoid(nn.Dense(self.width, name="layer_1")(x))
        x = nn.Dense(self.size**2 * self.channels, name="head")(x)
        return x.reshape(-1, self.size, self.size, self.channels)


class CoarseDiscriminator(nn.Module):
    """Images (B, *S, C) -> logits (B, 1) through two ReLU layers with dropout."""

    width: int = 600
    dropout: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for number in range(2):
            x = nn.relu(nn.Dense(self.width, name=f"layer_{number}")(x))
            x = Dropout(self.dropout)(x, train=train)
        return nn.Dense(1, name="head")(x)


class DetailGenerator(nn.Module):
    """A noise map (B, *S, 1) and the enlarged coarse image l (B, *S, C) -> its details h (B, *S, C), linear.

    Three convolutions of the full size, 7x7, 7x7 and 5x5, with ReLU between them.
    """

    width: int = 64

    @nn.compact
    def __call__(self, z: jax.Array, l: jax.Array, *, train: bool) -> jax.Array:
        x = jnp.concatenate([z, l], axis=-1)
        for number in range(2):
            x = nn.relu(Conv(self.width, 7, name=f"layer_{number}")(x))
        return Conv(l.shape[-1], 5, name="head")(x)


class DetailDiscriminator(Sized, nn.Module):
    """Images l + h (B, size, size, C) -> logits (B, 1): two 5x5 convolutions, the second of stride 2."""

    size: int = 32
    width: int = 64
    dropout: float = 0.5

    @property
    def sizes(self) -> Sizes:
        return Sizes(exact=(self.size, self.size))

    @property
    def title(self) -> str:
        return "LAPGAN's discriminator"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        for number in range(2):
            x = Conv(self.width, 5, strides=1 + number, padding="VALID", name=f"layer_{number}")(x)
            x = nn.relu(x)
        x = Dropout(self.dropout)(x.reshape(x.shape[0], -1), train=train)
        return nn.Dense(1, name="head")(x)


def lapgan_networks(
    sides: Sequence[int],
    *,
    channels: int = 3,
    width: int = 64,
    dense: tuple[int, int] = (1200, 600),
    dropout: float = 0.5,
) -> dict[str, nn.Module]:
    """`G_side` and `D_side` of each level from coarse to fine, the first of dense layers.

    dense: widths of the coarsest generator and discriminator; width: of the convolutions.
    """
    coarsest, *finer = sides
    networks = {
        f"G_{coarsest}": CoarseGenerator(coarsest, channels, dense[0]),
        f"D_{coarsest}": CoarseDiscriminator(dense[1], dropout),
    }
    for side in finer:
        networks[f"G_{side}"] = DetailGenerator(width)
        networks[f"D_{side}"] = DetailDiscriminator(side, width, dropout)
    return networks


def pyramid(x: jax.Array, sides: Sequence[int]) -> tuple[dict[int, jax.Array], dict[int, jax.Array]]:
    """Images I (B, side, side, C) of `x` at all `sides`, from coarse to fine, and l of all but the first.

    I are means over blocks of pixels; l is the I of the side before, enlarged linearly.
    """
    images = {side: average_pool(x, x.shape[1] // side) for side in sides}
    enlarged = {side: upsample(images[before], 2, "linear") for before, side in itertools.pairwise(sides)}
    return images, enlarged


def pyramid_and_noise(intensity: Any, sides: Sequence[int], latent: int) -> Callable[[dict, jax.Array], dict]:
    """A stage's `prepare`: beside the batch, `x`, its `image` in the values of `intensity`, `I`, `l` and `z`.

    All but x are by side: I and l as `pyramid` has them; z uniform in [-1, 1), at the coarsest side
    (B, latent), at the others (B, side, side, 1).
    """

    def noise(side, count, key):
        shape = (latent,) if side == sides[0] else (side, side, 1)
        return jax.random.uniform(jax.random.fold_in(key, side), (count, *shape), minval=-1.0)

    def prepare(batch, key):
        x = intensity.forward(batch["image"])
        images, enlarged = pyramid(x, sides)
        z = {side: noise(side, len(x), key) for side in sides}
        return {**batch, "x": x, "I": images, "l": enlarged, "z": z}

    return prepare


def from_coarse_to_fine(
    coarse: jax.Array, sides: Sequence[int], details: Callable[[int, jax.Array], jax.Array]
) -> jax.Array:
    """`coarse` (B, S, S, C) doubled to each of `sides` in turn: x becomes l + details(side, l), l = u(x)."""
    x = coarse
    for side in sides:
        l = upsample(x, 2, "linear")
        x = l + details(side, l)
    return x
