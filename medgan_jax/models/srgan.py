"""SRGAN's generator and discriminator for images and volumes, any factors, and three kinds of enlargement."""

import math
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from medgan_jax.errors import UserError
from medgan_jax.models.layers import KERNEL_INIT, SCALE_INIT, Layer, activated
from medgan_jax.models.sizes import Size, Sized, Sizes, halvings, in_words, sides_of
from medgan_jax.nn.blocks import leaky_relu, repeat
from medgan_jax.nn.conv import Ints
from medgan_jax.nn.resample import ResizeConv, SubPixelConv

Enlargement = Literal["subpixel", "subpixel_nearest", "resize"]


def nearest_init(kernel_init: Callable, phases: int) -> Callable:
    """Initial kernels that give a sub-pixel convolution the same value in all `phases` pixels of a block.

    It begins as a convolution with nearest-neighbour enlargement, without checkerboards (Aitken et al. 2017).
    """

    def init(key, shape, dtype=jnp.float32):
        return jnp.tile(kernel_init(key, (*shape[:-1], shape[-1] // phases), dtype), phases)

    return init


class SRResidualBlock(nn.Module):
    """`x + norm(conv(activation(norm(conv(x)))))`, zeros outside; channels stay."""

    norm: str = "batch"
    activation: Callable | None = None
    kernel_init: Callable = KERNEL_INIT
    scale_init: Callable = SCALE_INIT

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        settings = dict(kernel=3, strides=1, norm=self.norm, activation=None, kernel_init=self.kernel_init,
                        scale_init=self.scale_init)
        y = Layer(x.shape[-1], name="first", **settings)(x, train=train)
        y = activated(y, self.activation, "prelu")
        return x + Layer(x.shape[-1], name="second", **settings)(y, train=train)


class SRGANGenerator(nn.Module):
    """SRResNet (Ledig et al. 2017, figure 4): (B, *S, C) -> (B, *(S * product of factors), out_channels).

    A convolution, `blocks` residual blocks and a convolution with a skip around them, one enlargement for
    each of `factors`, and a convolution that makes the image.

    factors: of the enlargements, each one number or one for every axis: (2, 2) is 4x, ((3, 1, 1),) makes
        three slices of one, () keeps the size. upsampling: 'subpixel'; 'subpixel_nearest', the same without
        checkerboards at the start; or 'resize', nearest-neighbour enlargement and a convolution.
    width: channels of the residual blocks. up_width: channels after an enlargement, 0 for `width`.
    outer_kernel: of the first and the last convolution. first_norm: after the first, 'none' in the paper.
    inner: activation inside, None for PReLU. activation: of the output.
    remat: compute each residual block again in the backward pass, to save memory.
    """

    out_channels: int = 3
    factors: tuple[Ints, ...] = (2, 2)
    width: int = 64
    blocks: int = 16
    up_width: int = 0
    outer_kernel: int = 9
    norm: str = "batch"
    first_norm: str = "none"
    upsampling: Enlargement = "subpixel"
    inner: Callable | None = None
    activation: Callable | None = None
    kernel_init: Callable = KERNEL_INIT
    scale_init: Callable = SCALE_INIT
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        settings = dict(kernel_init=self.kernel_init, scale_init=self.scale_init)
        outer = dict(kernel=self.outer_kernel, strides=1, activation=None, **settings)
        y = Layer(self.width, norm=self.first_norm, name="first", **outer)(x, train=train)
        y = first = activated(y, self.inner, "first_prelu")
        block = SRResidualBlock(self.norm, self.inner, name="blocks", **settings)
        y = repeat(block, self.blocks, y, train=train, remat=self.remat)
        y = first + Layer(self.width, kernel=3, strides=1, norm=self.norm, activation=None, name="last",
                          **settings)(y, train=train)
        for number, factor in enumerate(self.factors):
            y = self.enlarged(y, factor, f"up_{number}")
            y = activated(y, self.inner, f"up_{number}_prelu")
        outer["activation"] = self.activation
        return Layer(self.out_channels, norm="none", name="head", **outer)(y, train=train)

    def enlarged(self, x: jax.Array, factor: Ints, name: str) -> jax.Array:
        """Maps enlarged by `factor`."""
        width, init = self.up_width or self.width, self.kernel_init
        if self.upsampling == "resize":
            return ResizeConv(width, 3, factor=factor, kernel_init=init, name=name)(x)
        if self.upsampling == "subpixel_nearest":
            init = nearest_init(init, math.prod(sides_of(factor, x.ndim - 2)))
        return SubPixelConv(width, 3, factor=factor, kernel_init=init, name=name)(x)


class SRGANDiscriminator(Sized, nn.Module):
    """Images (B, *size, C) -> logits (B, 1) by pairs of 3x3 convolutions and two dense layers.

    Each of `widths` has a convolution of stride 1 and one of stride 2, the first of all without
    normalisation: 64, 64/2, 128, 128/2, 256, 256/2, 512, 512/2, dense 1024, dense 1 (Ledig et al. 2017,
    figure 4). It fixes the image size.

    size: one side, or all sides. rank: number of spatial axes where `size` is one number.
    hidden: width of the first dense layer. norm: 'none' or 'layer' under a gradient penalty.
    features: a call with `features=True` returns (logits, maps after each activation, from the image
        inwards).
    """

    size: Size = 96
    widths: tuple[int, ...] = (64, 128, 256, 512)
    hidden: int = 1024
    rank: int = 2
    norm: str = "batch"
    activation: Callable = leaky_relu
    kernel_init: Callable = KERNEL_INIT
    scale_init: Callable = SCALE_INIT

    @property
    def sizes(self) -> Sizes:
        return Sizes(exact=sides_of(self.size, self.rank))

    @property
    def title(self) -> str:
        return "an SRGAN discriminator"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, features: bool = False):
        self.check_sizes(x)
        layers = [(width, strides) for width in self.widths for strides in (1, 2)]
        maps = []
        for number, (width, strides) in enumerate(layers):
            # The border of one pixel is that of published code; 'SAME' pads even images at the far end only.
            x = Layer(width, kernel=3, strides=strides, padding=((1, 1),) * (x.ndim - 2),
                      norm=self.norm if number else "none", activation=self.activation,
                      kernel_init=self.kernel_init, scale_init=self.scale_init,
                      name=f"layer_{number}")(x, train=train)
            maps.append(x)
        y = nn.Dense(self.hidden, kernel_init=self.kernel_init, name="hidden")(x.reshape(x.shape[0], -1))
        logits = nn.Dense(1, kernel_init=self.kernel_init, name="head")(self.activation(y))
        return (logits, tuple(maps)) if features else logits


def srgan_generator(factor: int = 4, *, out_channels: int = 3, width: int = 64, blocks: int = 16,
                    **options) -> SRGANGenerator:
    """SRGAN's generator for a whole `factor` in all axes, a power of 2, by doublings; else UserError.

    `options` are fields of `SRGANGenerator`; volumes want `outer_kernel=3`.
    """
    doublings = halvings(factor)
    if factor < 1 or 2**doublings != factor:
        raise UserError(f"an SRGAN generator enlarges by powers of 2, not by {factor}")
    return SRGANGenerator(out_channels, (2,) * doublings, width, blocks, **options)


def srgan_discriminator(size: Size = 96, *, base: int = 64, **options) -> SRGANDiscriminator:
    """SRGAN's discriminator: widths 1, 2, 4, 8 times `base`, fewer where a side would fall below 2.

    `options` are fields of `SRGANDiscriminator`.
    """
    smallest = min(sides_of(size))
    stages = min(4, int(math.log2(max(smallest, 1))) - 1)
    if stages < 1:
        raise UserError(f"an SRGAN discriminator needs images with sides of 4 or more; "
                        f"this one is {in_words(sides_of(size))}")
    return SRGANDiscriminator(size, tuple(base * 2**stage for stage in range(stages)), **options)
