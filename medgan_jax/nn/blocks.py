"""Blocks that many generators and discriminators share; all are called as `block(x, train=train)`."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.nn.conv import Conv, ConvTranspose, Ints, Padding
from medgan_jax.nn.norm import get_norm, removes_bias


def leaky_relu(x: jax.Array, slope: float = 0.2) -> jax.Array:
    """`x` where positive, else `slope * x`; 0.2 is the slope of GAN discriminators (Radford et al. 2016)."""
    return jnp.where(x >= 0, x, slope * x)


def beside(*images: jax.Array) -> jax.Array:
    """Images (B, *S, C_i) along channels, (B, *S, sum C_i): what a conditional network sees."""
    return jnp.concatenate(images, axis=-1)


class PReLU(nn.Module):
    """`x` (..., C) where positive, else `slope * x`, a slope learned for each channel (He et al. 2015)."""

    slope: float = 0.25

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        slopes = self.param("slope", initializers.constant(self.slope), x.shape[-1:], jnp.float32)
        return jnp.where(x >= 0, x, slopes.astype(x.dtype) * x)


class Dropout(nn.Module):
    """Drops units with probability `rate` in training, from the random stream 'dropout'.

    With `always=True` also at inference: the noise source of pix2pix (Isola et al. 2017, section 3.2.1).
    """

    rate: float = 0.5
    always: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return nn.Dropout(self.rate, deterministic=not (train or self.always))(x)


class ConvBlock(nn.Module):
    """Convolution, normalisation, activation: (B, *S, C) -> (B, *T, features).

    `norm` is a name for `get_norm`; in front of a normalisation that removes a bias there is none.
    `transposed=True` takes `ConvTranspose`. `activation=None` leaves it out.
    """

    features: int
    kernel_size: Ints = 3
    strides: Ints = 1
    padding: Padding = "SAME"
    norm: str = "batch"
    activation: Callable | None = nn.relu
    transposed: bool = False
    dropout: float = 0.0
    kernel_init: Callable = initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        layer = ConvTranspose if self.transposed else Conv
        x = layer(
            self.features,
            self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            use_bias=not removes_bias(self.norm),
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )(x)
        x = get_norm(self.norm)(name="norm")(x, train=train)
        if self.dropout:
            x = Dropout(self.dropout, name="dropout")(x, train=train)
        return x if self.activation is None else self.activation(x)


class ResidualBlock(nn.Module):
    """`x + norm(conv(relu(norm(conv(x)))))`, the block of CycleGAN's generator (Johnson et al. 2016).

    Channels stay; the padding mirrors the image. `dropout` goes between the two convolutions.
    """

    kernel_size: Ints = 3
    padding: Padding = "REFLECT"
    norm: str = "instance"
    activation: Callable = nn.relu
    dropout: float = 0.0
    kernel_init: Callable = initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        settings = {
            "features": x.shape[-1],
            "kernel_size": self.kernel_size,
            "padding": self.padding,
            "norm": self.norm,
            "kernel_init": self.kernel_init,
            "dtype": self.dtype,
        }
        y = ConvBlock(activation=self.activation, dropout=self.dropout, name="first", **settings)(
            x, train=train
        )
        return x + ConvBlock(activation=None, name="second", **settings)(y, train=train)


class PreActivationBlock(nn.Module):
    """`shortcut(x) + conv(relu(norm(conv(relu(norm(x))))))` (He et al. 2016, "Identity mappings").

    (B, *S, C) -> (B, *ceil(S / strides), features); the shortcut is a 1x1 convolution where shapes change.
    """

    features: int
    kernel_size: Ints = 3
    strides: Ints = 1
    padding: Padding = "SAME"
    norm: str = "batch"
    activation: Callable = nn.relu
    kernel_init: Callable = initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        norm = get_norm(self.norm)
        settings = {"padding": self.padding, "kernel_init": self.kernel_init, "dtype": self.dtype}
        y = self.activation(norm(name="first_norm")(x, train=train))
        y = Conv(
            self.features,
            self.kernel_size,
            strides=self.strides,
            name="first",
            use_bias=not removes_bias(self.norm),
            **settings,
        )(y)
        y = self.activation(norm(name="second_norm")(y, train=train))
        y = Conv(self.features, self.kernel_size, name="second", **settings)(y)
        if x.shape != y.shape:
            x = Conv(self.features, 1, strides=self.strides, use_bias=False, name="shortcut", **settings)(x)
        return x + y


def minibatch_deviation(x: jax.Array, group_size: int = 4, epsilon: float = 1e-8) -> jax.Array:
    """`x` (B, *S, C) with one more channel, the mean deviation within groups of images -> (B, *S, C + 1).

    The deviation is the standard one over a group, of at most `group_size` images so that groups divide the
    batch (Karras et al. 2018, section 3).
    """
    batch = x.shape[0]
    size = max(n for n in range(1, min(group_size, batch) + 1) if batch % n == 0)
    groups = x.reshape(size, batch // size, *x.shape[1:]).astype(jnp.promote_types(x.dtype, jnp.float32))
    deviation = jnp.sqrt(jnp.var(groups, axis=0) + epsilon)
    mean = jnp.mean(deviation, tuple(range(1, deviation.ndim)))
    channel = jnp.tile(mean, size).reshape(batch, *(1,) * (x.ndim - 1)).astype(x.dtype)
    return jnp.concatenate([x, jnp.broadcast_to(channel, (*x.shape[:-1], 1))], axis=-1)


def rematerialised(block: type[nn.Module], enabled: bool = True) -> type[nn.Module]:
    """`block`, or the same block that computes its activations again in the backward pass to save memory.

    Parameters keep their names. Use: `rematerialised(ResidualBlock, config.remat)(name="a")(x, train=train)`.
    """
    if not enabled:
        return block

    class Rematerialised(block):
        __doc__ = block.__doc__

        @nn.compact
        def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
            return nn.remat(lambda module, value: block.__call__(module, value, train=train))(self, x)

    Rematerialised.__name__ = block.__name__
    return Rematerialised


def repeat(block: nn.Module, count: int, x: jax.Array, *, train: bool, remat: bool = False) -> jax.Array:
    """`x` after `count` blocks like `block`, each with its own parameters; channels and sides stay.

    One block is compiled, whatever their number: its variables have a leading axis of blocks. remat: compute
    each block's activations again in the backward pass. Call it within a compact module, with a named block.
    """

    def one(module, value, _):
        return module(value, train=train), None

    scan = nn.scan(
        nn.remat(one, prevent_cse=False) if remat else one,
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True, "dropout": True, "noise": True},
        length=count,
    )
    return scan(block, x, None)[0] if count else x
