"""WGAN-VGG's generator and critic for low-dose CT (Yang et al. 2018): convolutions without normalisation."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.models.sizes import Size, Sized, Sizes, sides_of
from medgan_jax.nn.blocks import leaky_relu
from medgan_jax.nn.conv import Conv

XAVIER = initializers.xavier_uniform()


def positive(kernel_init: Callable) -> Callable:
    """The absolute values of `kernel_init`."""

    def init(key, shape, dtype=jnp.float32):
        return jnp.abs(kernel_init(key, shape, dtype))

    return init


class PlainDenoiser(Sized, nn.Module):
    """`depth` 3x3 convolutions without bias, each with ReLU, the last too: (B, H, W, C) -> (B, h, w, 1).

    No image is added and nothing is padded: h = H - 2 depth. The last kernel begins positive: without a bias
    in front of it, its ReLU would be zero everywhere for half of all initial values.
    """

    depth: int = 8
    width: int = 32
    out_channels: int = 1
    kernel_init: Callable = XAVIER

    @property
    def border(self) -> int:
        """Pixels that the output lacks on each side."""
        return self.depth

    @property
    def sizes(self) -> Sizes:
        return Sizes(minimum=2 * self.border + 1)

    @property
    def title(self) -> str:
        return f"a denoiser that takes {self.border} pixels from each side"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        settings = dict(padding="VALID", use_bias=False)
        for number in range(self.depth - 1):
            conv = Conv(self.width, 3, kernel_init=self.kernel_init, name=f"conv_{number}", **settings)
            x = nn.relu(conv(x))
        head = Conv(self.out_channels, 3, kernel_init=positive(self.kernel_init), name="head", **settings)
        return nn.relu(head(x))


class PlainCritic(Sized, nn.Module):
    """Images (B, *size, C) -> scores (B, 1): pairs of 3x3 convolutions, strides 1 and 2, two dense layers.

    64, 64/2, 128, 128/2, 256, 256/2, dense 1024, dense 1 in the paper; LeakyReLU 0.2 and no normalisation, as
    a gradient penalty wants. It fixes the image size.
    """

    size: Size = 64
    widths: tuple[int, ...] = (64, 128, 256)
    hidden: int = 1024
    kernel_init: Callable = XAVIER

    @property
    def sizes(self) -> Sizes:
        return Sizes(exact=sides_of(self.size))

    @property
    def title(self) -> str:
        return "WGAN-VGG's critic"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        self.check_sizes(x)
        layers = [(width, strides) for width in self.widths for strides in (1, 2)]
        for number, (width, strides) in enumerate(layers):
            x = leaky_relu(Conv(width, 3, strides=strides, kernel_init=self.kernel_init,
                                name=f"conv_{number}")(x))
        x = nn.Dense(self.hidden, kernel_init=self.kernel_init, name="hidden")(x.reshape(len(x), -1))
        x = leaky_relu(x)
        return nn.Dense(1, kernel_init=self.kernel_init, name="head")(x)
