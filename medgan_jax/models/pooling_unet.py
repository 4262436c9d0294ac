"""U-Nets that halve the image by maximum pools: those of V-GAN and of VA-GAN."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.blocks import ConvBlock
from medgan_jax.nn.conv import Conv
from medgan_jax.nn.resample import max_pool, upsample


class PoolingUNet(Sized, nn.Module):
    """Encoder and decoder of 3x3 convolutions, joined by concatenation: (B, *S, C) -> (B, *S, out_channels).

    The form of Ronneberger et al. 2015, with zeros outside. Sides must be multiples of 2^len(up).

    down: widths of the convolutions of each level, from the image inwards, one level more than `up`.
    up: the same of the decoder, from the innermost outwards. transposed: channels of the 4x4 transposed
        convolutions that enlarge; 0 repeats pixels instead. head_kernel: of the last convolution.
    norm: before each ReLU. activation: of the output, None for logits.
    """

    out_channels: int
    down: tuple[tuple[int, ...], ...]
    up: tuple[tuple[int, ...], ...]
    transposed: int = 0
    head_kernel: int = 1
    norm: str = "batch"
    activation: Callable | None = None
    kernel_init: Callable = initializers.he_normal()

    @property
    def sizes(self) -> Sizes:
        return Sizes(multiple=2 ** len(self.up))

    @property
    def title(self) -> str:
        return f"a U-Net with {len(self.up)} pools"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        if len(self.down) != len(self.up) + 1:
            raise ValueError(f"{self.title} needs {len(self.up) + 1} levels of an encoder, not {self.down}")
        settings = dict(norm=self.norm, kernel_init=self.kernel_init)

        def convolved(x, widths, name):
            for number, width in enumerate(widths):
                x = ConvBlock(width, 3, name=f"{name}_{number}", **settings)(x, train=train)
            return x

        maps = []
        for level, widths in enumerate(self.down):
            x = convolved(max_pool(x) if level else x, widths, f"down_{level}")
            maps.append(x)
        maps.pop()
        for stage, widths in enumerate(self.up):
            if self.transposed:
                x = ConvBlock(self.transposed, 4, strides=2, transposed=True, name=f"enlarge_{stage}",
                              **settings)(x, train=train)
            else:
                x = upsample(x)
            x = convolved(jnp.concatenate([x, maps.pop()], axis=-1), widths, f"up_{stage}")
        x = Conv(self.out_channels, self.head_kernel, kernel_init=initializers.lecun_normal(), name="head")(x)
        return x if self.activation is None else self.activation(x)


def vgan_unet(*, out_channels: int = 1, base: int = 32, pools: int = 4) -> PoolingUNet:
    """V-GAN's segmentor (Son et al. 2017): 32-64-128-256-512, pixels repeated to enlarge, 1x1 to logits."""
    widths = [(base * 2**level,) * 2 for level in range(pools + 1)]
    return PoolingUNet(out_channels, tuple(widths), tuple(widths[-2::-1]))


def va_gan_unet(*, base: int = 16, pools: int = 3, **options) -> PoolingUNet:
    """VA-GAN's map generator (Baumgartner et al. 2018): 16-32-64-128, `base` channels wherever it enlarges.

    One convolution at full size in the decoder, then the map, linear.
    """
    widths = [(base * 2**level,) * 2 for level in range(pools + 1)]
    up = (*widths[-2:0:-1], (base,))
    return PoolingUNet(1, tuple(widths), up, transposed=base, head_kernel=3, **options)
