"""SCAN's small residual segmentor of radiographs, and the critic of masks that mirrors its encoder."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import initializers

from medgan_jax.models.sizes import Sized, Sizes
from medgan_jax.nn.blocks import ConvBlock
from medgan_jax.nn.conv import Conv, ConvTranspose
from medgan_jax.nn.resample import average_pool


def bilinear_init(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Kernel (*K, C, C) of a transposed convolution that begins as linear interpolation of each channel.

    With stride K / 2, as Long et al. 2015 enlarge score maps.
    """
    taps, channels = shape[:-2], shape[-2:]
    kernel = np.ones((1,) * len(taps))
    for axis, size in enumerate(taps):
        line = 1 - np.abs((np.arange(size) + 0.5) / (size / 2) - 1)
        kernel = kernel * line.reshape(*(-1 if each == axis else 1 for each in range(len(taps))))
    return jnp.asarray(kernel[..., None, None] * np.eye(*channels), dtype)


class ResidualPair(nn.Module):
    """`relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))`, a 1x1 shortcut where channels change."""

    width: int
    kernel: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        init = initializers.he_normal()
        shape = dict(features=self.width, kernel_size=self.kernel, kernel_init=init)
        y = ConvBlock(name="first", **shape)(x, train=train)
        y = ConvBlock(name="second", activation=None, **shape)(y, train=train)
        if x.shape[-1] != self.width:
            x = Conv(self.width, 1, use_bias=False, kernel_init=init, name="shortcut")(x)
        return nn.relu(x + y)


class _Encoder(Sized, nn.Module):
    """7x7 stem, residual blocks with an average pool after each, and blocks at the coarsest resolution."""

    widths: tuple[int, ...] = (8, 16, 32, 64)
    blocks: int = 5

    @property
    def sizes(self) -> Sizes:
        return Sizes(multiple=2 ** len(self.widths))

    def encode(self, x: jax.Array, train: bool) -> jax.Array:
        self.check_sizes(x)
        x = ConvBlock(self.widths[0], 7, kernel_init=initializers.he_normal(), name="stem")(x, train=train)
        for level, width in enumerate(self.widths):
            x = average_pool(ResidualPair(width, name=f"down_{level}")(x, train=train))
        for number in range(self.blocks):
            x = ResidualPair(self.widths[-1], 3 if number % 2 else 1, name=f"block_{number}")(x, train=train)
        return x


class ScanSegmentor(_Encoder):
    """Logits (B, *S, classes) of radiographs (B, *S, C); sides multiples of 2^len(widths) (Dai et al. 2018).

    Four halvings, five blocks of 1x1 and 3x3 kernels in turn, 1x1 to class maps, and one transposed
    convolution, of a kernel twice its stride, back to full size: 268 thousand parameters at four classes.
    """

    classes: int = 4

    @property
    def title(self) -> str:
        return "SCAN's segmentor"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        factor = self.sizes.multiple
        x = Conv(self.classes, 1, kernel_init=initializers.he_normal(), name="classes")(self.encode(x, train))
        return ConvTranspose(self.classes, 2 * factor, strides=factor, kernel_init=bilinear_init,
                             name="enlarge")(x)


class ScanCritic(_Encoder):
    """A logit (B, 1) of a whole mask (B, *S, classes), by a global average (Dai et al. 2018)."""

    @property
    def title(self) -> str:
        return "SCAN's critic"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.encode(x, train)
        return nn.Dense(1, name="head")(x.mean(tuple(range(1, x.ndim - 1))))
