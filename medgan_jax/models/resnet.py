"""The residual generator of CycleGAN: few halvings, many residual blocks, and back."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from medgan_jax.models.layers import KERNEL_INIT, SCALE_INIT, Layer, Upsampling
from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.blocks import ResidualBlock, repeat


class ResNetGenerator(Sized, nn.Module):
    """c7s1-64, d128, d256, R256 x blocks, u128, u64, c7s1-out (Zhu et al. 2017, appendix 7.2).

    (B, *S, C) -> (B, *S, out_channels); sides must be multiples of 2^downsamplings. The paper takes 6
    blocks at 128 and 9 from 256 upwards. Instance normalisation without affine map; mirrored borders in the
    7x7 and the residual convolutions.

    dropout: rate within the residual blocks. upsampling: 'transposed', or 'resize' against checkerboards.
    remat: compute each residual block again in the backward pass, to save memory.
    """

    out_channels: int = 3
    base: int = 64
    blocks: int = 9
    downsamplings: int = 2
    norm: str = "instance"
    dropout: float = 0.0
    upsampling: Upsampling = "transposed"
    activation: Callable | None = jnp.tanh
    kernel_init: Callable = KERNEL_INIT
    scale_init: Callable = SCALE_INIT
    remat: bool = False

    @property
    def sizes(self) -> Sizes:
        # A border can be mirrored only where there are two pixels.
        return Sizes(multiple=2**self.downsamplings, minimum=2 * 2**self.downsamplings)

    @property
    def title(self) -> str:
        return f"a ResNet generator with {self.downsamplings} downsamplings"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        rank = x.ndim - 2
        settings = dict(norm=self.norm, activation=nn.relu, kernel_init=self.kernel_init,
                        scale_init=self.scale_init)
        outer = dict(kernel=7, strides=1, padding="REFLECT")
        y = Layer(self.base, name="first", **outer, **settings)(x, train=train)
        for level in range(self.downsamplings):
            y = Layer(self.base * 2 ** (level + 1), kernel=3, padding=((1, 1),) * rank,
                      name=f"down_{level}", **settings)(y, train=train)
        block = ResidualBlock(norm=self.norm, dropout=self.dropout, kernel_init=self.kernel_init, name="blocks")
        y = repeat(block, self.blocks, y, train=train, remat=self.remat)
        for level in reversed(range(self.downsamplings)):
            y = Layer(self.base * 2**level, kernel=3, padding=((1, 2),) * rank, up=self.upsampling,
                      name=f"up_{level}", **settings)(y, train=train)
        settings |= dict(norm="none", activation=self.activation)
        return Layer(self.out_channels, name="head", **outer, **settings)(y, train=train)
