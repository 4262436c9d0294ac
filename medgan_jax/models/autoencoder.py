"""Convolutional encoder and decoder of images, as in the vessel auto-encoder of Costa et al. 2018."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from medgan_jax.models.layers import Layer
from medgan_jax.models.sizes import Size, Sized, Sizes, halvings, sides_of

INIT = nn.initializers.glorot_uniform()


def widths(levels: int, base: int) -> tuple[int, ...]:
    """base, 2 base, 4 base, 8 base, 8 base, ..., from the image inwards."""
    return tuple(base * min(2**level, 8) for level in range(levels))


class ConvEncoder(Sized, nn.Module):
    """Images (B, *S, C) -> a draw from the code's Gaussian (B, latent); its mean in evaluation.

    Each of `levels` halvings is a pair of convolutions of three pixels, of stride 2 and then 1, with batch
    normalisation and leaky ReLU, and with `dropout` where the side is at most 8. Maps of one pixel are not
    normalised: in a batch of one nothing would be left of them. Two dense layers give mean and logarithm of
    the variance; the draw is mean + noise x standard deviation (Kingma & Welling 2014).
    """

    latent: int
    levels: int
    base: int = 32
    dropout: float = 0.5

    @property
    def sizes(self) -> Sizes:
        return Sizes(multiple=2**self.levels)

    @property
    def title(self) -> str:
        return f"an encoder of {self.levels} levels"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        for level, width in enumerate(widths(self.levels, self.base)):
            side = max(x.shape[1:-1]) // 2
            settings = dict(kernel=3, norm="none" if side == 1 else "batch", kernel_init=INIT,
                            dropout=self.dropout if side <= 8 else 0.0)  # fmt: skip
            x = Layer(width, strides=2, name=f"down_{level}", **settings)(x, train=train)
            x = Layer(width, strides=1, name=f"same_{level}", **settings)(x, train=train)
        x = x.reshape(len(x), -1)
        mean = nn.Dense(self.latent, name="mean")(x)
        logarithm = nn.Dense(self.latent, name="log_variance")(x)
        if not train:
            return mean
        noise = jax.random.normal(self.make_rng("noise"), mean.shape, mean.dtype)
        return mean + jnp.exp(logarithm / 2) * noise


class ConvDecoder(nn.Module):
    """Codes (B, Z) -> logits (B, *size, out_channels) of an image.

    A dense layer to maps of `size` / 2^levels, then `levels` times: nearest neighbours, a convolution of
    three pixels, batch normalisation, ReLU; a convolution to the logits.
    """

    size: tuple[int, ...]
    levels: int
    out_channels: int = 1
    base: int = 32

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
        inward = widths(self.levels, self.base)
        start = (*(side // 2**self.levels for side in self.size), inward[-1])
        x = nn.relu(nn.Dense(math.prod(start), name="dense")(z)).reshape(len(z), *start)
        for stage, width in enumerate(reversed(inward)):
            x = Layer(width, up="resize", activation=nn.relu, kernel_init=INIT, name=f"up_{stage}")(x, train=train)
        return Layer(self.out_channels, kernel=3, strides=1, norm="none", activation=None, kernel_init=INIT,
                     name="head")(x, train=train)  # fmt: skip


def conv_autoencoder(size: Size, *, latent: int, base: int = 32, out_channels: int = 1, dropout: float = 0.5,
                     start: int = 4) -> tuple[ConvEncoder, ConvDecoder]:  # fmt: skip
    """Encoder of images of `size`, down to one pixel where they are square powers of two, and its decoder.

    The decoder starts from maps of `start` pixels, a power of two, along the shortest side.
    """
    sides, levels = sides_of(size), halvings(size)
    up = halvings(size, smallest=start)
    return (ConvEncoder(latent, levels, base, dropout), ConvDecoder(sides, up, out_channels, base))
