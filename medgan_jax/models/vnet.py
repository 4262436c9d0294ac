"""V-Net: an encoder and decoder of residual stages, for volumes and images."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from medgan_jax.models.layers import KERNEL_INIT, SCALE_INIT, Layer, Upsampling, activated
from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.blocks import rematerialised
from medgan_jax.nn.conv import Conv


class VNetStage(nn.Module):
    """`activation(x + convolutions(x))`: (B, *S, C) -> (B, *S, width).

    There is an activation between convolutions. The shortcut is a 1x1 convolution where channels change.
    """

    width: int
    convolutions: int
    kernel: int
    norm: str
    activation: Callable | None
    kernel_init: Callable
    scale_init: Callable

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = x
        for number in range(self.convolutions):
            if number:
                y = activated(y, self.activation, f"prelu_{number - 1}")
            y = Layer(self.width, self.kernel, strides=1, norm=self.norm, activation=None,
                      kernel_init=self.kernel_init, scale_init=self.scale_init,
                      name=f"layer_{number}")(y, train=train)
        if x.shape[-1] != self.width:
            x = Conv(self.width, 1, use_bias=False, kernel_init=self.kernel_init, name="shortcut")(x)
        return activated(x + y, self.activation, f"prelu_{self.convolutions - 1}")


class VNet(Sized, nn.Module):
    """V-Net (Milletari et al. 2016): (B, *S, C) -> (B, *S, out_channels); sides multiples of 2^(stages - 1).

    Stages of `convolutions` with a residual around them. Between stages, convolutions of kernel and stride 2
    halve the image, and their transposes double it; the decoder's stages work on the enlarged maps joined
    with the encoder's, twice the encoder's width. A 1x1 convolution makes the output. The first stage's
    shortcut is a 1x1 convolution, where the paper repeats its single channel.

    widths: of the encoder's stages, the last the innermost. convolutions: in each of them.
    norm: after each convolution, 'none' in the paper. inner: activation inside, None for PReLU.
    upsampling: 'transposed', or 'resize' against checkerboard patterns. activation: of the output.
    remat: compute each stage again in the backward pass, to save memory.
    """

    out_channels: int
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    convolutions: tuple[int, ...] = (1, 2, 3, 3, 3)
    kernel: int = 5
    norm: str = "none"
    inner: Callable | None = None
    upsampling: Upsampling = "transposed"
    activation: Callable | None = None
    kernel_init: Callable = KERNEL_INIT
    scale_init: Callable = SCALE_INIT
    remat: bool = False

    @property
    def sizes(self) -> Sizes:
        return Sizes(multiple=2 ** (len(self.widths) - 1))

    @property
    def title(self) -> str:
        return f"a V-Net of {len(self.widths)} stages"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        if len(self.widths) != len(self.convolutions):
            raise ValueError(f"{self.title} needs as many numbers of convolutions, not {self.convolutions}")
        settings = dict(norm=self.norm, kernel_init=self.kernel_init, scale_init=self.scale_init)
        resample = dict(kernel=2, strides=2, activation=None, **settings)
        stage = rematerialised(VNetStage, self.remat)
        within = dict(kernel=self.kernel, activation=self.inner, **settings)

        levels = list(zip(self.widths, self.convolutions, strict=True))
        maps = []
        for level, (width, convolutions) in enumerate(levels):
            if level:
                maps.append(x)
                x = Layer(width, name=f"down_{level}", **resample)(x, train=train)
                x = activated(x, self.inner, f"down_{level}_prelu")
            x = stage(width, convolutions, name=f"encoder_{level}", **within)(x, train=train)
        for level, (width, convolutions) in reversed(list(enumerate(levels[:-1]))):
            x = Layer(width, up=self.upsampling, name=f"up_{level}", **resample)(x, train=train)
            x = jnp.concatenate([activated(x, self.inner, f"up_{level}_prelu"), maps.pop()], axis=-1)
            x = stage(2 * width, convolutions, name=f"decoder_{level}", **within)(x, train=train)
        x = Conv(self.out_channels, 1, kernel_init=self.kernel_init, name="head")(x)
        return x if self.activation is None else self.activation(x)
