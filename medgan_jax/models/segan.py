"""SegAN's segmentor, an encoder-decoder with added skips, and its critic, whose features are what counts."""

from collections.abc import Callable

import flax.linen as nn
import jax
from flax.linen import initializers

from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.blocks import ConvBlock, leaky_relu
from medgan_jax.nn.conv import Conv
from medgan_jax.nn.resample import upsample


class _Halvings(Sized, nn.Module):
    """4x4 convolutions of stride 2 without biases, LeakyReLU 0.2, normalised but for the first."""

    widths: tuple[int, ...]
    norm: str = "batch"
    kernel_init: Callable = initializers.he_normal()

    @property
    def sizes(self) -> Sizes:
        return Sizes(multiple=2 ** len(self.widths))

    def halve(self, x: jax.Array, train: bool) -> list[jax.Array]:
        """The maps of every level, from the image inwards."""
        self.check_sizes(x)
        maps = []
        for level, width in enumerate(self.widths):
            if level:
                x = ConvBlock(width, 4, strides=2, norm=self.norm, activation=leaky_relu,
                              kernel_init=self.kernel_init, name=f"down_{level}")(x, train=train)
            else:
                x = leaky_relu(Conv(width, 4, strides=2, use_bias=False, kernel_init=self.kernel_init,
                                    name="down_0")(x))
            maps.append(x)
        return maps


class SegANSegmentor(_Halvings):
    """Logits (B, *S, structures) of images (B, *S, C); sides multiples of 2^levels (Xue et al. 2018).

    The form for BRATS: the encoder's maps are *added* to those of the decoder, which enlarges linearly and
    then convolves 3x3, with normalisation and ReLU. widths: of the encoder, from the image inwards.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    structures: int = 3

    @property
    def title(self) -> str:
        return f"SegAN's segmentor of depth {len(self.widths)}"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        *skips, y = self.halve(x, train)
        for level, skip in reversed(list(enumerate(skips))):
            y = ConvBlock(self.widths[level], 3, norm=self.norm, kernel_init=self.kernel_init,
                          name=f"up_{level}")(upsample(y, method="linear"), train=train)
            y = y + skip
        return Conv(self.structures, 3, kernel_init=self.kernel_init,
                    name="head")(upsample(y, method="linear"))


class SegANCritic(_Halvings):
    """Features (input, level 1, level 2, ...) of an image times a mask, (B, *S, C) (Xue et al. 2018).

    There is no score: the critic's output is these maps, whose distance between predicted and true masks it
    maximises. widths: from the image inwards.
    """

    widths: tuple[int, ...] = (64, 128, 256)

    @property
    def title(self) -> str:
        return "SegAN's critic"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        return (x, *self.halve(x, train))
