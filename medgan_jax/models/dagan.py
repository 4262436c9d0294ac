"""DAGAN's discriminator; its generator is `models.unet.dagan_unet`."""

from collections.abc import Callable

import flax.linen as nn
import jax

from medgan_jax.errors import UserError
from medgan_jax.models.layers import KERNEL_INIT, SCALE_INIT, Layer
from medgan_jax.models.sizes import Size, Sized, Sizes, halvings, in_words, sides_of
from medgan_jax.nn.blocks import leaky_relu


class ResidualBottleneckDiscriminator(Sized, nn.Module):
    """Images (B, *size, C) -> logits (B, 1): DAGAN's discriminator (Yang et al. 2018).

    4x4 halvings of `widths`, 1x1 convolutions to half and a quarter of the last width, a residual bottleneck
    (1x1, 3x3, 3x3; the first two a sixteenth wide), a dense layer. Batch normalisation in all but the first
    convolution, LeakyReLU 0.2. The dense layer fixes the image size: one side, or all sides.
    features: a call with `features=True` returns (logits, maps after each halving and the bottleneck).
    """

    size: Size = 256
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    rank: int = 2
    norm: str = "batch"
    kernel_init: Callable = KERNEL_INIT
    scale_init: Callable = SCALE_INIT

    @property
    def sizes(self) -> Sizes:
        return Sizes(exact=sides_of(self.size, self.rank))

    @property
    def title(self) -> str:
        return "a discriminator with residual bottleneck"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, features: bool = False):
        self.check_sizes(x)
        inits = dict(kernel_init=self.kernel_init, scale_init=self.scale_init)
        maps = []
        for number, width in enumerate(self.widths):
            x = Layer(width, norm=self.norm if number else "none", name=f"layer_{number}",
                      **inits)(x, train=train)
            maps.append(x)

        def keep_size(x, divisor, kernel, name, activation=leaky_relu):
            width = max(1, self.widths[-1] // divisor)
            return Layer(width, kernel=kernel, strides=1, norm=self.norm, activation=activation, name=name,
                         **inits)(x, train=train)

        x = keep_size(x, 2, 1, "reduce_0")
        x = keep_size(x, 4, 1, "reduce_1", activation=None)
        y = keep_size(x, 16, 1, "bottleneck_0")
        y = keep_size(y, 16, 3, "bottleneck_1")
        y = keep_size(y, 4, 3, "bottleneck_2", activation=None)
        x = leaky_relu(x + y)
        maps.append(x)
        logits = nn.Dense(1, kernel_init=self.kernel_init, name="head")(x.reshape(x.shape[0], -1))
        return (logits, tuple(maps)) if features else logits


def dagan_discriminator(size: Size = 256, *, base: int = 64, **options) -> ResidualBottleneckDiscriminator:
    """DAGAN's discriminator at any size: halvings down to a side of 4 to 7, the first `base` wide.

    Six halvings at 256, 64 to 2048 wide, as in the paper. `options` are its other fields.
    """
    stages = halvings(size, smallest=4)
    if not stages:
        raise UserError(f"DAGAN's discriminator needs images with sides of 8 or more that can be halved; "
                        f"this one is {in_words(sides_of(size))}")
    return ResidualBottleneckDiscriminator(size, tuple(base * 2**stage for stage in range(stages)), **options)
