"""Generator and discriminator of progressive growing (Karras et al. 2018), at any of their resolutions.

Layers carry the side of their maps in their names. So a network of the next resolution has all layers of the
one before, and `game.carry_matching` takes them over; what is new fades in with `alpha` from 0 to 1.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.errors import UserError
from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.blocks import leaky_relu
from medgan_jax.nn.equalised import HE_GAIN, EqualisedConv, EqualisedDense
from medgan_jax.nn.norm import PixelNorm
from medgan_jax.nn.resample import average_pool, upsample

SMALLEST = 4


def sides_up_to(size: int, smallest: int = SMALLEST) -> tuple[int, ...]:
    """Sides of all resolutions: (4, 8, ..., size); UserError where doubling does not lead to `size`."""
    sides = [smallest]
    while sides[-1] < size:
        sides.append(2 * sides[-1])
    if sides[-1] != size or smallest < SMALLEST or smallest & (smallest - 1):
        raise UserError(f"images grow from {smallest}x{smallest} (a power of two, 4 or more) by doubling; "
                        f"that does not lead to {size}x{size}")
    return tuple(sides)


def faded(alpha: jax.Array | float, before: jax.Array, after: jax.Array) -> jax.Array:
    """(1 - alpha) before + alpha after."""
    return (1 - alpha) * before + alpha * after


class ProgressiveGenerator(nn.Module):
    """Latent vectors (B, Z) and alpha -> images (B, size, size, channels), linear.

    base, widest: maps of side s have min(2 base / s, widest) channels; 8192 and 512 in the paper. Latent
    vectors are scaled to the sphere; pixel normalisation follows every 3x3 convolution; the output at alpha
    fades from the enlarged image of half the size to that of this size.
    """

    size: int = 1024
    channels: int = 3
    base: int = 8192
    widest: int = 512

    def width(self, side: int) -> int:
        """Channels of the maps of this side."""
        return min(2 * self.base // side, self.widest)

    @nn.compact
    def __call__(self, z: jax.Array, alpha: jax.Array | float = 1.0, *, train: bool) -> jax.Array:
        if z.ndim != 2:
            raise ValueError(f"latent vectors are (B, Z), not {z.shape}")
        norm, first = PixelNorm(), self.width(SMALLEST)
        # The gain of the published code, a quarter of He's, since the fan in of a 4x4 convolution is 16 Z.
        dense = EqualisedDense(SMALLEST**2 * first, HE_GAIN / 4, use_bias=False, name="project")
        x = dense(norm(z)).reshape(-1, SMALLEST, SMALLEST, first)
        x = x + self.param("project_bias", initializers.zeros_init(), (first,), jnp.float32).astype(x.dtype)
        x = norm(leaky_relu(x))
        x = norm(leaky_relu(EqualisedConv(first, name="conv_4")(x)))
        previous = None
        for side in sides_up_to(self.size)[1:]:
            if side == self.size:
                previous = upsample(self.to_image(x, side // 2))
            x = upsample(x)
            for number in range(2):
                x = norm(leaky_relu(EqualisedConv(self.width(side), name=f"conv_{side}_{number}")(x)))
        image = self.to_image(x, self.size)
        return image if previous is None else faded(alpha, previous, image)

    def to_image(self, x: jax.Array, side: int) -> jax.Array:
        """1x1 convolution to the image's channels."""
        return EqualisedConv(self.channels, 1, gain=1.0, name=f"to_image_{side}")(x)


class ProgressiveDiscriminator(Sized, nn.Module):
    """Images (B, size, size, C) and alpha -> scores (B, 1): the generator's mirror image.

    base, widest: see `ProgressiveGenerator`. No normalisation; the deviation over groups of `group` images
    is one more map before the last convolution. At alpha the first layers fade in, from the halved image.
    """

    size: int = 1024
    base: int = 8192
    widest: int = 512
    group: int = 4

    @property
    def sizes(self) -> Sizes:
        return Sizes(exact=(self.size, self.size))

    @property
    def title(self) -> str:
        return "a discriminator of progressive growing"

    def width(self, side: int) -> int:
        """Channels of the maps of this side."""
        return min(2 * self.base // side, self.widest)

    @nn.compact
    def __call__(self, image: jax.Array, alpha: jax.Array | float = 1.0, *, train: bool) -> jax.Array:
        self.check_sizes(image)
        x = self.from_image(image, self.size)
        for side in sides_up_to(self.size)[:0:-1]:
            for number, width in enumerate((self.width(side), self.width(side // 2))):
                x = leaky_relu(EqualisedConv(width, name=f"conv_{side}_{number}")(x))
            x = average_pool(x)
            if side == self.size:
                x = faded(alpha, self.from_image(average_pool(image), side // 2), x)
        x = with_group_deviation(x, self.group)
        x = leaky_relu(EqualisedConv(self.width(SMALLEST), name="conv_4")(x))
        x = leaky_relu(EqualisedDense(self.width(SMALLEST // 2), name="dense")(x.reshape(x.shape[0], -1)))
        return EqualisedDense(1, gain=1.0, name="head")(x)

    def from_image(self, image: jax.Array, side: int) -> jax.Array:
        """1x1 convolution from the image's channels."""
        return leaky_relu(EqualisedConv(self.width(side), 1, name=f"from_image_{side}")(image))


def with_group_deviation(x: jax.Array, group: int = 4) -> jax.Array:
    """`x` (B, *S, C) with one more map: how much images of a group differ (Karras et al. 2018, section 3).

    The standard deviation over a group, averaged over space and channels. Groups have `group` images, or the
    next smaller number that divides B; image i is in group i modulo their number, as in the published code.
    """
    count = next(n for n in range(min(group, x.shape[0]), 0, -1) if x.shape[0] % n == 0)
    groups = x.reshape(count, x.shape[0] // count, *x.shape[1:]).astype(jnp.float32)
    # The small number keeps the slope finite where a group is of equal images.
    deviation = jnp.sqrt(groups.var(0) + 1e-8).mean(tuple(range(1, x.ndim)))
    shown = jnp.tile(deviation, count).reshape(-1, *(1,) * (x.ndim - 1)).astype(x.dtype)
    return jnp.concatenate([x, jnp.broadcast_to(shown, (*x.shape[:-1], 1))], axis=-1)
