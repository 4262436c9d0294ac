"""The layer that adversarial networks are built of, with the initial values of DCGAN, and its reach."""

from collections.abc import Callable, Iterable
from typing import Literal

import flax.linen as nn
import jax
from flax.linen import initializers

from medgan_jax.nn.blocks import Dropout, PReLU, leaky_relu
from medgan_jax.nn.conv import Conv, ConvTranspose, Padding
from medgan_jax.nn.norm import get_norm, removes_bias
from medgan_jax.nn.resample import ResizeConv

Upsampling = Literal["transposed", "resize"]
WITHOUT_SCALE = ("none", "pixel")


def around(mean: float, deviation: float) -> Callable:
    """Initialiser N(mean, deviation^2)."""

    def init(key, shape, dtype=jax.numpy.float32):
        return mean + deviation * jax.random.normal(key, shape, dtype)

    return init


# DCGAN's initial values (Radford et al. 2016), used by pix2pix and CycleGAN too.
KERNEL_INIT = initializers.normal(0.02)
SCALE_INIT = around(1.0, 0.02)


def normalised(norm: str, scale_init: Callable, name: str = "norm") -> nn.Module:
    """The normalisation `norm` with the initial scale `scale_init` where it has a scale."""
    options = {} if norm in WITHOUT_SCALE else {"scale_init": scale_init}
    return get_norm(norm, **options)(name=name)


def activated(x: jax.Array, activation: Callable | None, name: str) -> jax.Array:
    """`activation(x)`, or a PReLU of this name, whose slopes are learned, where it is None."""
    return PReLU(name=name)(x) if activation is None else activation(x)


class Layer(nn.Module):
    """Convolution or enlargement, normalisation, dropout, activation: (B, *S, C) -> (B, *T, features).

    `strides` shrinks the image, or enlarges it with `up`. `up`: None for a convolution, 'transposed' for a
    transposed one, 'resize' for nearest-neighbour enlargement and a 3x3 convolution. There is no bias in
    front of a normalisation that would remove it.
    """

    features: int
    kernel: int = 4
    strides: int = 2
    padding: Padding = "SAME"
    up: Upsampling | None = None
    norm: str = "batch"
    dropout: float = 0.0
    activation: Callable | None = leaky_relu
    kernel_init: Callable = KERNEL_INIT
    scale_init: Callable = SCALE_INIT

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        settings = dict(use_bias=not removes_bias(self.norm), kernel_init=self.kernel_init, name="conv")
        if self.up == "resize":
            x = ResizeConv(self.features, 3, factor=self.strides, **settings)(x)
        else:
            kind = ConvTranspose if self.up else Conv
            x = kind(self.features, self.kernel, strides=self.strides, padding=self.padding, **settings)(x)
        x = normalised(self.norm, self.scale_init)(x, train=train)
        if self.dropout:
            x = Dropout(self.dropout, name="dropout")(x, train=train)
        return x if self.activation is None else self.activation(x)


def receptive_field(layers: Iterable[tuple[int, int]]) -> int:
    """Side in pixels of what one output sees through `(kernel, stride)` layers, from the image inwards.

    `receptive_field([(4, 2), (4, 2), (4, 2), (4, 1), (4, 1)])` is 70, the PatchGAN of pix2pix.
    """
    field = 1
    for kernel, stride in reversed(list(layers)):
        field = (field - 1) * stride + kernel
    return field
