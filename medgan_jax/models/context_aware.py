"""Networks of the context-aware GAN (Nie et al. 2017): patches of one modality to the middle of the other's."""

import flax.linen as nn
import jax

from medgan_jax.errors import UserError
from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.blocks import ConvBlock
from medgan_jax.nn.conv import Conv
from medgan_jax.nn.resample import max_pool


class ContextAwareGenerator(Sized, nn.Module):
    """A fully convolutional network that keeps the resolution: (B, *S, C) -> (B, *(S - border 2), out_channels).

    Widths base, 3 x base, 2 base, 2 x 2 base, base, out_channels (32 and 64 in the paper), of rank 2 or 3.
    The first and the fifth convolution are of `kernel` voxels without padding, and each takes `kernel - 1`
    away in all; the others are of three voxels and keep the size. Batch normalisation and ReLU after all but the
    last, which is linear. At 9 voxels a patch of 32 gives one of 16.
    """

    out_channels: int = 1
    base: int = 32
    kernel: int = 9

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """(width, kernel) of every convolution but the last."""
        wide = 2 * self.base
        large, small = self.kernel, 3
        return (
            (self.base, large),
            *((self.base, small),) * 3,
            (wide, large),
            *((wide, small),) * 2,
            (self.base, small),
        )

    @property
    def border(self) -> int:
        """Voxels that the output is smaller by, on each side."""
        return self.kernel - 1

    @property
    def sizes(self) -> Sizes:
        return Sizes(minimum=2 * self.border + 1)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        for number, (width, kernel) in enumerate(self.layers):
            padding = "VALID" if number in (0, 4) else "SAME"
            x = ConvBlock(width, kernel, padding=padding, name=f"layer_{number}")(x, train=train)
        return Conv(self.out_channels, 3, name="head")(x)


class ContextAwareDiscriminator(nn.Module):
    """One logit for a patch: (B, *S, C) -> (B, 1), of rank 2 or 3.

    Convolutions of five voxels of `widths` with batch normalisation and ReLU, the first `pools` of them
    followed by maxima over two voxels, then dense layers of `dense` units with ReLU, and one. UserError
    where the sides are no multiples of 2^pools.
    """

    widths: tuple[int, ...] = (32, 64, 128, 256)
    pools: int = 2
    dense: tuple[int, ...] = (512, 128)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if any(side % 2**self.pools for side in x.shape[1:-1]):
            raise UserError(f"the discriminator halves patches {self.pools} times; {x.shape[1:-1]} cannot be")
        for number, width in enumerate(self.widths):
            x = ConvBlock(width, 5, name=f"layer_{number}")(x, train=train)
            x = max_pool(x) if number < self.pools else x
        x = x.reshape(len(x), -1)
        for number, width in enumerate(self.dense):
            x = nn.relu(nn.Dense(width, name=f"dense_{number}")(x))
        return nn.Dense(1, name="head")(x)
