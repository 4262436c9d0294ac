"""RefineGAN's networks: a residual auto-encoder with additive skips, a link of a chain, and the critic."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.models.layers import Layer
from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.conv import Conv

# Truncated at two standard deviations, as in the authors' code.
NORMAL = initializers.truncated_normal(0.02)


class ResidualUnit(nn.Module):
    """`x + conv(layer(layer(x)))`, the inner layer half as wide; neither norm nor activation on the sum."""

    norm: str = "batch"
    kernel_init: Callable = NORMAL

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        width, y = x.shape[-1], x
        for number, features in enumerate((width, max(1, width // 2))):
            y = Layer(features, kernel=3, strides=1, norm=self.norm, kernel_init=self.kernel_init,
                      name=f"layer_{number}")(y, train=train)
        return x + Conv(width, 3, use_bias=False, kernel_init=self.kernel_init, name="last")(y)


class ResidualStage(nn.Module):
    """3x3 layer, residual unit, 3x3 layer: halves the image in the first or doubles it in the last (`up`)."""

    width: int
    up: bool = False
    norm: str = "batch"
    kernel_init: Callable = NORMAL

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        settings = dict(kernel=3, norm=self.norm, kernel_init=self.kernel_init)
        kind = {"up": "transposed"} if self.up else {}
        first, last = (1, 2) if self.up else (2, 1)
        x = Layer(self.width, strides=first, name="first", **kind, **settings)(x, train=train)
        x = ResidualUnit(self.norm, self.kernel_init, name="residual")(x, train=train)
        return Layer(self.width, strides=last, name="last", **kind, **settings)(x, train=train)


class ResidualAutoEncoder(Sized, nn.Module):
    """One link of RefineGAN's chain: (B, H, W, C) -> (B, H, W, out_channels) by tanh (Quan et al. 2018).

    Encoder stages of `widths`, decoder stages of the same backwards (the outermost as wide as the first),
    encoder maps *added* to the decoder's of equal size. The caller adds the output to the input.
    """

    out_channels: int = 2
    widths: tuple[int, ...] = (64, 128, 256, 512)
    norm: str = "batch"
    kernel_init: Callable = NORMAL

    @property
    def sizes(self) -> Sizes:
        return Sizes(multiple=2 ** len(self.widths))

    @property
    def title(self) -> str:
        return f"a residual auto-encoder of depth {len(self.widths)}"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        settings = dict(norm=self.norm, kernel_init=self.kernel_init)
        maps = []
        for level, width in enumerate(self.widths):
            x = ResidualStage(width, name=f"down_{level}", **settings)(x, train=train)
            maps.append(x)
        maps.pop()
        for stage, width in enumerate((*self.widths[-2::-1], self.widths[0])):
            x = ResidualStage(width, up=True, name=f"up_{stage}", **settings)(x, train=train)
            x = x + maps.pop() if maps else x
        return jnp.tanh(Conv(self.out_channels, 3, kernel_init=self.kernel_init, name="head")(x))


class ResidualCritic(Sized, nn.Module):
    """RefineGAN's critic: images (B, H, W, C) -> a map of scores (B, h, w, 1) (Quan et al. 2018).

    A 4x4 halving without normalisation, encoder stages of `widths`, a 4x4 convolution to one channel.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    norm: str = "batch"
    kernel_init: Callable = NORMAL

    @property
    def sizes(self) -> Sizes:
        return Sizes(multiple=2 ** (len(self.widths) + 1))

    @property
    def title(self) -> str:
        return f"a residual critic of depth {len(self.widths) + 1}"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        x = Conv(self.widths[0], 4, strides=2, use_bias=False, kernel_init=self.kernel_init, name="first")(x)
        x = nn.leaky_relu(x, 0.2)
        for level, width in enumerate(self.widths):
            x = ResidualStage(width, norm=self.norm, kernel_init=self.kernel_init,
                              name=f"stage_{level}")(x, train=train)
        return Conv(1, 4, kernel_init=self.kernel_init, name="head")(x)


def refinegan_widths(base: int = 64, levels: int = 4) -> tuple[int, ...]:
    """Widths of both networks: `base` times 1, 2, 4, 8 in the paper."""
    return tuple(base * 2**level for level in range(levels))
