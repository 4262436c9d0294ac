"""Normalisation layers, all called as `layer(x, train=train)`, with statistics in float32."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax import axes
from medgan_jax.nn.conv import Ints, Padding, conv


def _moments(x: jax.Array, over: tuple[int, ...], global_mean: bool = False) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance of `x` in float32 (or wider) over some axes, in one pass, axes taken away.

    With axes kept, XLA would fold their expansion into every reader and no longer see that two phases of a
    game compute the same image.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    moments = jnp.mean(x, over), jnp.mean(jnp.square(x), over)
    mean, square = axes.mean(moments) if global_mean else moments
    return mean, jnp.maximum(square - jnp.square(mean), 0.0)


def _normalise(x, mean, variance, epsilon, scale=None, bias=None, *, over: tuple[int, ...]) -> jax.Array:
    """`(x - mean) / sqrt(variance + epsilon) * scale + bias`, as one multiplication and one addition.

    mean, variance: of the axes of `x` that are not in `over`.
    """
    factor = jax.lax.rsqrt(variance + epsilon)
    if over[-1] == x.ndim - 1:
        # One moment for all channels, whose scales differ.
        factor, mean = (jnp.expand_dims(each, over) for each in (factor, mean))
        over = ()
    factor = factor if scale is None else factor * scale
    shift = -mean * factor if bias is None else bias - mean * factor
    factor, shift = jnp.expand_dims(factor, over), jnp.expand_dims(shift, over)
    return (x.astype(factor.dtype) * factor + shift).astype(x.dtype)


def _affine(module: nn.Module, channels: int, use_scale: bool, use_bias: bool, scale_init: Callable):
    """Scale and bias per channel, None where not used."""
    scale = module.param("scale", scale_init, (channels,), jnp.float32) if use_scale else None
    bias = module.param("bias", initializers.zeros_init(), (channels,), jnp.float32) if use_bias else None
    return scale, bias


class BatchNorm(nn.Module):
    """Batch normalisation of `(B, *S, C)` per channel (Ioffe & Szegedy 2015), over the global batch.

    With `train=True` the moments of the batch are used, and the running ones in the collection 'batch_stats'
    move by `1 - momentum` (PyTorch's momentum is this `1 - momentum`; its running variance is the unbiased
    one, this the biased). With `train=False` the running moments are used.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_bias: bool = True
    use_scale: bool = True
    scale_init: Callable = initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        affine = _affine(self, x.shape[-1], self.use_scale, self.use_bias, self.scale_init)
        over = tuple(range(x.ndim - 1))
        if not train:
            return _normalise(x, mean.value, variance.value, self.epsilon, *affine, over=over)
        now = _moments(x, over, global_mean=True)
        if not self.is_initializing():
            for running, moment in zip((mean, variance), now, strict=True):
                moment = jax.lax.stop_gradient(moment).astype(running.value.dtype)
                running.value = self.momentum * running.value + (1.0 - self.momentum) * moment
        return _normalise(x, *now, self.epsilon, *affine, over=over)


class InstanceNorm(nn.Module):
    """Normalisation of `(B, *S, C)` per image and channel over space (Ulyanov et al. 2016)."""

    affine: bool = False
    epsilon: float = 1e-5
    scale_init: Callable = initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        affine = _affine(self, x.shape[-1], self.affine, self.affine, self.scale_init)
        over = tuple(range(1, x.ndim - 1))
        return _normalise(x, *_moments(x, over), self.epsilon, *affine, over=over)


class LayerNorm(nn.Module):
    """Normalisation of `(B, *S, C)` per image over space and channels, with an affine map per channel.

    This is the form that WGAN-GP critics use (Ba et al. 2016; Gulrajani et al. 2017). With `over_space=False`
    each position is normalised over its channels alone, the form of transformers.
    """

    affine: bool = True
    over_space: bool = True
    epsilon: float = 1e-5
    scale_init: Callable = initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        over = tuple(range(1, x.ndim)) if self.over_space else (x.ndim - 1,)
        affine = _affine(self, x.shape[-1], self.affine, self.affine, self.scale_init)
        return _normalise(x, *_moments(x, over), self.epsilon, *affine, over=over)


class GroupNorm(nn.Module):
    """Normalisation of `(B, *S, C)` per image over space and groups of channels (Wu & He 2018)."""

    groups: int = 32
    affine: bool = True
    epsilon: float = 1e-5
    scale_init: Callable = initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        channels = x.shape[-1]
        if channels % self.groups:
            raise ValueError(f"{channels} channels do not divide into {self.groups} groups")
        split = x.reshape(*x.shape[:-1], self.groups, channels // self.groups)
        over = tuple(range(1, x.ndim - 1))
        moments = _moments(split, (*over, x.ndim))
        moments = [jnp.repeat(m, channels // self.groups, axis=-1) for m in moments]
        affine = _affine(self, channels, self.affine, self.affine, self.scale_init)
        return _normalise(x, *moments, self.epsilon, *affine, over=over)


class PixelNorm(nn.Module):
    """Each pixel's channels divided by their root mean square (Karras et al. 2018, section 4.2)."""

    epsilon: float = 1e-8

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        return (wide * jax.lax.rsqrt(square + self.epsilon)).astype(x.dtype)


class NoNorm(nn.Module):
    """The identity, called like a normalisation."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return x


_NORMS = {
    "batch": BatchNorm,
    "instance": InstanceNorm,
    "layer": LayerNorm,
    "group": GroupNorm,
    "pixel": PixelNorm,
    "none": NoNorm,
}


def get_norm(name: str, **options) -> Callable[..., nn.Module]:
    """The constructor of a normalisation: 'batch', 'instance', 'layer', 'group', 'pixel' or 'none'.

    `get_norm("batch", momentum=0.8)()(x, train=train)`; the options are the fields of the class.
    """
    if name not in _NORMS:
        raise ValueError(f"norm {name!r} is not one of {', '.join(_NORMS)}")
    return functools.partial(_NORMS[name], **options)


def removes_bias(name: str) -> bool:
    """Whether this normalisation takes away any bias in front of it, which then must be left out.

    Such a bias has a gradient of pure rounding noise, which Adam amplifies to full steps.
    """
    return name in ("batch", "instance")


def spectral_normalise(
    kernel: jax.Array, vector: jax.Array, steps: int = 1, epsilon: float = 1e-12
) -> tuple[jax.Array, jax.Array]:
    """`kernel` (..., F) over its largest singular value, and the next left vector (F,).

    The kernel is taken as a matrix (-1, F); `vector` is the estimate of its singular vector after earlier
    calls, improved here by power iteration. Gradients pass through the kernel, not through the vectors
    (Miyato et al. 2018, algorithm 1).
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    fixed = jax.lax.stop_gradient(matrix)
    unit = lambda v: v * jax.lax.rsqrt(jnp.sum(jnp.square(v)) + epsilon)  # noqa: E731
    other = unit(fixed @ vector)
    for _ in range(steps):
        vector = unit(other @ fixed)
        other = unit(fixed @ vector)
    sigma = other @ (matrix @ vector)
    return kernel / sigma, vector


def _spectral_kernel(module: nn.Module, shape: tuple[int, ...], train: bool) -> jax.Array:
    """A module's kernel of spectral norm one; the singular vector lives in the collection 'batch_stats'."""
    kernel = module.param("kernel", module.kernel_init, shape, jnp.float32)
    # Any start will do, power iteration forgets it; a fixed one needs no key.
    start = lambda: jax.random.normal(jax.random.key(0), shape[-1:], jnp.float32)  # noqa: E731
    vector = module.variable("batch_stats", "vector", start)
    steps = 1 if train else 0
    kernel, now = spectral_normalise(kernel, vector.value, steps)
    if train and not module.is_initializing():
        vector.value = now
    return kernel


class SpectralConv(nn.Module):
    """`Conv` whose kernel has spectral norm one (Miyato et al. 2018): `SpectralConv(...)(x, train=train)`.

    Each call with `train=True` makes one step of power iteration, kept in the collection 'batch_stats'.
    """

    features: int
    kernel_size: Ints
    strides: Ints = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Callable = initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        rank = x.ndim - 2
        size = (self.kernel_size,) * rank if isinstance(self.kernel_size, int) else tuple(self.kernel_size)
        kernel = _spectral_kernel(self, (*size, x.shape[-1], self.features), train)
        bias = (
            self.param("bias", initializers.zeros_init(), (self.features,), jnp.float32)
            if self.use_bias
            else None
        )
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv(x, kernel, strides=self.strides, padding=self.padding)
        return y if bias is None else y + bias


class SpectralDense(nn.Module):
    """A dense layer `(..., C) -> (..., features)` whose kernel has spectral norm one; see `SpectralConv`."""

    features: int
    use_bias: bool = True
    kernel_init: Callable = initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        kernel = _spectral_kernel(self, (x.shape[-1], self.features), train)
        bias = (
            self.param("bias", initializers.zeros_init(), (self.features,), jnp.float32)
            if self.use_bias
            else None
        )
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return x @ kernel if bias is None else x @ kernel + bias
