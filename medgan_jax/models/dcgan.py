"""DCGAN's generator and discriminator for any size, widths, kernel and rank; those of WGAN-GP and AnoGAN."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.errors import UserError
from medgan_jax.models.layers import KERNEL_INIT, SCALE_INIT, Layer, Upsampling, normalised
from medgan_jax.models.sizes import Size, Sized, Sizes, halvings, in_words, sides_of
from medgan_jax.nn.norm import removes_bias


class DCGANGenerator(nn.Module):
    """Latent vectors (B, Z) -> images (B, *size, channels) by repeated doubling (Radford et al. 2016).

    A dense projection makes maps of `widths[0]` channels and of the sides `size / 2^len(widths)`; each
    further width is one doubling by a transposed convolution with normalisation and ReLU, and the last
    doubling makes the image. (A 4x4 'valid' transposed convolution of a 1x1 map, in some code, is this same
    projection.)

    size: one side, or all sides. rank: number of spatial axes where `size` is one number.
    upsampling: 'transposed' or 'resize'. activation: of the output.
    """

    size: Size = 64
    channels: int = 3
    widths: tuple[int, ...] = (512, 256, 128, 64)
    kernel: int = 4
    rank: int = 2
    norm: str = "batch"
    upsampling: Upsampling = "transposed"
    activation: Callable | None = jnp.tanh
    kernel_init: Callable = KERNEL_INIT
    scale_init: Callable = SCALE_INIT

    @property
    def start(self) -> tuple[int, ...]:
        """Sides of the first maps; UserError where the size cannot be reached by doubling."""
        sides, factor = sides_of(self.size, self.rank), 2 ** len(self.widths)
        if any(side % factor for side in sides):
            raise UserError(f"a DCGAN generator with {len(self.widths)} doublings makes "
                            f"{Sizes(factor)}, not {in_words(sides)}")
        return tuple(side // factor for side in sides)

    @nn.compact
    def __call__(self, z: jax.Array, *, train: bool) -> jax.Array:
        if z.ndim != 2:
            raise ValueError(f"latent vectors are (B, Z), not {z.shape}")
        start, first = self.start, self.widths[0]
        x = nn.Dense(math.prod(start) * first, use_bias=not removes_bias(self.norm),
                     kernel_init=self.kernel_init, name="project")(z)
        x = x.reshape(-1, *start, first)
        x = nn.relu(normalised(self.norm, self.scale_init, "project_norm")(x, train=train))
        settings = dict(kernel=self.kernel, up=self.upsampling, kernel_init=self.kernel_init,
                        scale_init=self.scale_init)
        for number, width in enumerate(self.widths[1:]):
            x = Layer(width, norm=self.norm, activation=nn.relu, name=f"up_{number}",
                      **settings)(x, train=train)
        return Layer(self.channels, norm="none", activation=self.activation, name="head",
                     **settings)(x, train=train)


class DCGANDiscriminator(Sized, nn.Module):
    """Images (B, *size, C) -> logits (B, outputs) by repeated halving (Radford et al. 2016).

    Each of `widths` is one halving with LeakyReLU 0.2, the first without normalisation; a dense layer
    follows. (The 4x4 'valid' convolution at the end of some code is this same layer.) It fixes the image
    size.

    size: one side, or all sides. rank: number of spatial axes where `size` is one number.
    norm: 'batch'; 'none' or 'layer' under a gradient penalty.
    features: a call with `features=True` returns (logits, maps after each activation, from the image
        inwards); the last map is AnoGAN's f.
    """

    size: Size = 64
    widths: tuple[int, ...] = (64, 128, 256, 512)
    kernel: int = 4
    rank: int = 2
    norm: str = "batch"
    outputs: int = 1
    kernel_init: Callable = KERNEL_INIT
    scale_init: Callable = SCALE_INIT

    @property
    def sizes(self) -> Sizes:
        return Sizes(exact=sides_of(self.size, self.rank))

    @property
    def title(self) -> str:
        return "a DCGAN discriminator"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, features: bool = False):
        self.check_sizes(x)
        maps = []
        for number, width in enumerate(self.widths):
            x = Layer(width, kernel=self.kernel, norm=self.norm if number else "none",
                      kernel_init=self.kernel_init, scale_init=self.scale_init,
                      name=f"layer_{number}")(x, train=train)
            maps.append(x)
        logits = nn.Dense(self.outputs, kernel_init=self.kernel_init, name="head")(x.reshape(x.shape[0], -1))
        return (logits, tuple(maps)) if features else logits


def _widths(size: Size, base: int) -> tuple[int, ...]:
    """Widths from the image inwards: one for each halving of `size` down to a side of 4 to 7."""
    stages = halvings(size, smallest=4)
    if not stages:
        raise UserError(f"a DCGAN needs images with sides of 8 or more that can be halved; "
                        f"this one is {in_words(sides_of(size))}")
    return tuple(base * 2**stage for stage in range(stages))


def dcgan_generator(size: Size = 64, *, channels: int = 3, base: int = 64, **options) -> DCGANGenerator:
    """DCGAN's generator at any size: widths 8, 4, 2, 1 times `base` at 64. `options`: other fields."""
    return DCGANGenerator(size, channels, _widths(size, base)[::-1], **options)


def dcgan_discriminator(size: Size = 64, *, base: int = 64, **options) -> DCGANDiscriminator:
    """DCGAN's discriminator at any size: widths 1, 2, 4, 8 times `base` at 64. `options`: other fields."""
    return DCGANDiscriminator(size, _widths(size, base), **options)


# The initial values of WGAN-GP's published code: He's variance over the mean of both fans, uniform.
HE_INIT = initializers.variance_scaling(2.0, "fan_avg", "uniform")


def wgan_gp_generator(size: Size = 32, *, channels: int = 3, base: int = 128, **options) -> DCGANGenerator:
    """WGAN-GP's CIFAR generator: dense to 4x4x512, 5x5 doublings 256-128-3 (Gulrajani et al. 2017)."""
    settings = dict(kernel=5, kernel_init=HE_INIT) | options
    return dcgan_generator(size, channels=channels, base=base, **settings)


def wgan_gp_critic(size: Size = 32, *, base: int = 128, **options) -> DCGANDiscriminator:
    """WGAN-GP's CIFAR critic: 5x5 halvings to 128, 256 and 512, no normalisation, no sigmoid."""
    settings = dict(kernel=5, norm="none", kernel_init=HE_INIT) | options
    return dcgan_discriminator(size, base=base, **settings)


def anogan_generator(size: Size = 64, *, channels: int = 1, base: int = 64, **options) -> DCGANGenerator:
    """AnoGAN's generator: dense to 4x4x512, then four 5x5 doublings 256-128-64-1 (Schlegl et al. 2017)."""
    return dcgan_generator(size, channels=channels, base=base, **dict(kernel=5) | options)


def anogan_discriminator(size: Size = 64, *, base: int = 64, **options) -> DCGANDiscriminator:
    """AnoGAN's discriminator: four 5x5 halvings 64-128-256-512, one logit (Schlegl et al. 2017)."""
    return dcgan_discriminator(size, base=base, **dict(kernel=5) | options)
