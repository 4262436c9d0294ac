"""Discriminators of 3x3 convolutions and pools: V-GAN's four fields of view, VA-GAN's critic, DAN's judge."""

from collections.abc import Callable
from typing import Literal, get_args

import flax.linen as nn
import jax
from flax.linen import initializers

from medgan_jax.models.layers import receptive_field
from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.blocks import ConvBlock, leaky_relu
from medgan_jax.nn.conv import Conv
from medgan_jax.nn.resample import max_pool

Head = Literal["map", "mean", "pooled", "flat"]
Field = Literal["pixel", "patch1", "patch2", "image"]


class PoolingDiscriminator(Sized, nn.Module):
    """3x3 convolutions in blocks with 2x2 maximum pools between them, and a head: (B, *S, C) -> logits.

    blocks: widths of the convolutions of each, from the image inwards. strided: how many of the first blocks
        begin with stride 2. pools: pool between blocks at all; an odd last row is dropped.
    norm: 'none' under a gradient penalty.
    head: 'map', a 1x1 convolution to a logit for each place (B, *T, 1); 'mean', the mean of that map (B, 1);
        'pooled', a logit from the means of all features (B, 1); 'flat', one more pool, dense layers of the
        widths `hidden` on all features, and a logit (B, 1): it fixes the image size.
    """

    blocks: tuple[tuple[int, ...], ...]
    strided: int = 0
    pools: bool = True
    norm: str = "batch"
    activation: Callable = nn.relu
    head: Head = "map"
    hidden: tuple[int, ...] = ()
    kernel_init: Callable = initializers.he_normal()

    @property
    def kernels(self) -> tuple[tuple[int, int], ...]:
        """(kernel, stride) of every convolution and pool, from the image inwards."""
        found = []
        for number, widths in enumerate(self.blocks):
            found += [(2, 2)] if number and self.pools else []
            found += [(3, 2 if number < self.strided and not n else 1) for n in range(len(widths))]
        return tuple(found)

    @property
    def receptive_field(self) -> int:
        """Side in pixels of what one logit of the map sees."""
        return receptive_field(self.kernels)

    @property
    def sizes(self) -> Sizes:
        factor = 1
        for _, stride in self.kernels:
            factor *= stride
        # Strides round up and pools down: so much is always enough.
        return Sizes(minimum=factor * (2 if self.head == "flat" else 1))

    @property
    def title(self) -> str:
        return f"a discriminator of {len(self.blocks)} blocks"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        for number, widths in enumerate(self.blocks):
            x = halved(x) if number and self.pools else x
            for n, width in enumerate(widths):
                strides = 2 if number < self.strided and not n else 1
                x = ConvBlock(width, 3, strides=strides, norm=self.norm, activation=self.activation,
                              kernel_init=self.kernel_init, name=f"block_{number}_{n}")(x, train=train)
        space = tuple(range(1, x.ndim - 1))
        if self.head in ("map", "mean"):
            x = Conv(1, 1, kernel_init=initializers.lecun_normal(), name="head")(x)
            return x if self.head == "map" else x.mean(space)
        x = x.mean(space) if self.head == "pooled" else halved(x).reshape(x.shape[0], -1)
        for number, width in enumerate(self.hidden):
            x = self.activation(nn.Dense(width, kernel_init=self.kernel_init, name=f"dense_{number}")(x))
        return nn.Dense(1, name="head")(x)


def halved(x: jax.Array) -> jax.Array:
    """2x2 maxima of `x` (B, *S, C); an odd last row is dropped."""
    return max_pool(x[:, *(slice(0, side - side % 2) for side in x.shape[1:-1])])


def vgan_discriminator(field: Field, *, base: int = 32) -> PoolingDiscriminator:
    """One of V-GAN's four (Son et al. 2017): a logit for a pixel, about 8 or 64 pixels, or the image."""
    if field not in get_args(Field):
        raise ValueError(f"field {field!r} is not one of {', '.join(get_args(Field))}")
    if field == "pixel":
        return PoolingDiscriminator(((base,), (2 * base,), (4 * base,)), pools=False, norm="none",
                                    activation=leaky_relu)
    levels, strided = (3, 1) if field == "patch1" else (5, 2)
    blocks = tuple((base * 2**level,) * 2 for level in range(levels))
    return PoolingDiscriminator(blocks, strided, head="pooled" if field == "image" else "map")


def va_gan_critic(*, base: int = 16, pools: int = 4) -> PoolingDiscriminator:
    """VA-GAN's critic (Baumgartner et al. 2018): 16 | 32 | 64 64 | 128 128 | 256 256 256, the mean of a map.

    No normalisation; fully convolutional. `pools` below 4 leaves out levels before the last.
    """
    ladder = ((1,), (2,), (4, 4), (8, 8), (16, 16, 16))
    kept = (*ladder[:pools], tuple(2**pools for _ in range(3)))
    return PoolingDiscriminator(tuple(tuple(base * width for width in block) for block in kept), norm="none",
                                head="mean")


def dan_evaluation_network(*, base: int = 64) -> PoolingDiscriminator:
    """DAN's evaluation network (Zhang et al. 2017): the widths of VGG16, then dense 256, 128, 64 and 1."""
    blocks = ((1, 1), (2,), (4, 4), (8, 8), (8, 8))
    blocks = tuple(tuple(base * width for width in block) for block in blocks)
    return PoolingDiscriminator(blocks, norm="none", head="flat", hidden=(4 * base, 2 * base, base))
