"""Densely connected networks on one grid: mDCSRN's generator, whose blocks are densely linked as well."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.nn.blocks import rematerialised
from medgan_jax.nn.conv import Conv
from medgan_jax.nn.norm import get_norm


class DenseBlock(nn.Module):
    """(B, *S, C) -> (B, *S, C + units * growth): each unit's maps are joined to all before them.

    A unit is norm, activation and a convolution without bias (Huang et al. 2017).
    """

    units: int
    growth: int
    kernel: int = 3
    norm: str = "batch"
    activation: Callable = nn.elu
    kernel_init: Callable = initializers.he_normal()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for number in range(self.units):
            y = self.activation(get_norm(self.norm)(name=f"norm_{number}")(x, train=train))
            y = Conv(self.growth, self.kernel, use_bias=False, kernel_init=self.kernel_init,
                     name=f"conv_{number}")(y)
            x = jnp.concatenate([x, y], axis=-1)
        return x


class MultiLevelDenseNet(nn.Module):
    """mDCSRN "b4u4" (Chen et al. 2018): (B, *S, C) -> (B, *S, out_channels), linear, for any rank and size.

    A convolution to 2 `growth` channels, then `blocks` dense blocks of `units`. The first maps and the output
    of every block so far are joined, and a 1x1x1 compressor takes them to 2 `growth` channels in front of
    each block but the first; a 1x1x1 convolution of all of them makes the output.

    remat: compute each block again in the backward pass, to save memory.
    """

    out_channels: int = 1
    blocks: int = 4
    units: int = 4
    growth: int = 16
    kernel: int = 3
    norm: str = "batch"
    activation: Callable = nn.elu
    kernel_init: Callable = initializers.he_normal()
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        def conv(features, kernel, name):
            return Conv(features, kernel, use_bias=False, kernel_init=self.kernel_init, name=name)

        block = rematerialised(DenseBlock, self.remat)
        x = links = conv(2 * self.growth, self.kernel, "first")(x)
        for number in range(self.blocks):
            if number:
                x = conv(2 * self.growth, 1, f"compressor_{number}")(links)
            x = block(self.units, self.growth, self.kernel, self.norm, self.activation, self.kernel_init,
                      name=f"block_{number}")(x, train=train)
            links = jnp.concatenate([links, x], axis=-1)
        return conv(self.out_channels, 1, "head")(links)
