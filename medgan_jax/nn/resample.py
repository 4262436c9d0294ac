"""Changes of size: resizing, cropping, pooling, and convolutions that enlarge."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen import initializers

from medgan_jax.nn.conv import Conv, Ints, Padding


def _factors(x: jax.Array, factor: Ints) -> tuple[int, ...]:
    rank = x.ndim - 2
    factors = (factor,) * rank if isinstance(factor, int) else tuple(factor)
    if len(factors) != rank:
        raise ValueError(f"factor has {len(factors)} entries for {rank} spatial axes")
    return factors


def _split(x: jax.Array, factors: tuple[int, ...]) -> jax.Array:
    """`(B, S1, S2, C)` as `(B, S1/f1, f1, S2/f2, f2, C)`."""
    if any(size % f for size, f in zip(x.shape[1:-1], factors, strict=True)):
        raise ValueError(f"spatial sizes of {x.shape} are not multiples of {factors}")
    pairs = [n for size, f in zip(x.shape[1:-1], factors, strict=True) for n in (size // f, f)]
    return x.reshape(x.shape[0], *pairs, x.shape[-1])


def resize(
    x: jax.Array, shape: tuple[int, ...], method: str = "linear", antialias: bool = False
) -> jax.Array:
    """`x` (B, *S, C) at the spatial sizes `shape`, by 'nearest', 'linear' or 'cubic' interpolation.

    Pixels are areas (PyTorch's `align_corners=False`). `antialias` widens the kernel when shrinking.
    """
    return jax.image.resize(x, (x.shape[0], *shape, x.shape[-1]), method, antialias)


def upsample(x: jax.Array, factor: Ints = 2, method: str = "nearest") -> jax.Array:
    """`x` (B, *S, C) enlarged by whole factors to (B, *(S * factor), C)."""
    factors = _factors(x, factor)
    shape = tuple(size * f for size, f in zip(x.shape[1:-1], factors, strict=True))
    if method != "nearest":
        return resize(x, shape, method)
    for axis, f in enumerate(factors, 1):
        x = jnp.repeat(x, f, axis)
    return x


def centre_crop(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The middle of `x` (B, *S, C) with the spatial sizes `shape`; ValueError where it is smaller."""
    rooms = [side - wanted for side, wanted in zip(x.shape[1:-1], shape, strict=True)]
    if min(rooms) < 0:
        raise ValueError(f"{x.shape} has no middle of {shape}")
    cuts = (slice(room // 2, room // 2 + side) for room, side in zip(rooms, shape, strict=True))
    return x[(slice(None), *cuts)]


def average_pool(x: jax.Array, factor: Ints = 2) -> jax.Array:
    """Means of `x` (B, *S, C) over blocks: (B, *(S / factor), C); sizes must be multiples of the factor."""
    split = _split(x, _factors(x, factor))
    return jnp.mean(split, tuple(range(2, split.ndim - 1, 2)))


def max_pool(x: jax.Array, factor: Ints = 2) -> jax.Array:
    """Maxima of `x` (B, *S, C) over blocks: (B, *(S / factor), C); sizes must be multiples of the factor.

    The gradient goes to the first of equal maxima, as in PyTorch.
    """
    factors = _factors(x, factor)
    split = _split(x, factors)
    for axis, f in reversed(list(enumerate(factors))):
        place = 2 + 2 * axis
        rows = (jax.lax.index_in_dim(split, k, place, keepdims=False) for k in range(f))
        split = functools.reduce(_larger, rows)
    return split


def _larger(a: jax.Array, b: jax.Array) -> jax.Array:
    """The maximum. The gradient of `jnp.max` looks for the maximum among values that XLA may compute anew and
    round otherwise: where it finds none, it is 0 / 0."""
    return jnp.where((a >= b) | jnp.isnan(a), a, b)


def blur_pool(x: jax.Array, factor: Ints = 2) -> jax.Array:
    """`x` (B, *S, C) blurred by (1, 3, 3, 1) / 8 along each axis, then every factor-th pixel.

    Gives `ceil(S / factor)` outputs; the image is mirrored outside (Zhang 2019, "Making convolutional
    networks shift-invariant again").
    """
    for axis, f in enumerate(_factors(x, factor), 1):
        pads = [(0, 0)] * x.ndim
        pads[axis] = (1, 2)
        padded = jnp.pad(x, pads, mode="reflect")
        size = x.shape[axis]
        x = sum(
            weight / 8 * jax.lax.slice_in_dim(padded, start, start + size, f, axis)
            for start, weight in enumerate((1, 3, 3, 1))
        )
    return x


def pixel_shuffle(x: jax.Array, factor: Ints = 2) -> jax.Array:
    """Channels to space: (B, *S, prod(factor) * C) -> (B, *(S * factor), C) (Shi et al. 2016).

    Channel `(i * f2 + j) * C + c` goes to offset (i, j); PyTorch's order is `c * f1 * f2 + i * f2 + j`.
    """
    factors = _factors(x, factor)
    rank, channels = len(factors), x.shape[-1] // math.prod(factors)
    if channels * math.prod(factors) != x.shape[-1]:
        raise ValueError(f"{x.shape[-1]} channels do not divide by the factors {factors}")
    x = x.reshape(*x.shape[:-1], *factors, channels)
    order = [axis for i in range(rank) for axis in (1 + i, 1 + rank + i)]
    x = x.transpose(0, *order, 2 * rank + 1)
    return x.reshape(x.shape[0], *(x.shape[1 + 2 * i] * f for i, f in enumerate(factors)), channels)


def pixel_unshuffle(x: jax.Array, factor: Ints = 2) -> jax.Array:
    """Space to channels: the inverse of `pixel_shuffle`."""
    factors = _factors(x, factor)
    rank = len(factors)
    x = _split(x, factors)
    x = x.transpose(0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    return x.reshape(*x.shape[: rank + 1], -1)


def laplacian_pyramid(x: jax.Array, levels: int) -> list[jax.Array]:
    """Details h_0, ..., h_(levels-1) of `x` (B, *S, C), finest first, and the coarse rest (Burt and Adelson 1983).

    h_k = I_k - u(I_(k+1)), I_(k+1) = d(I_k); d takes means over blocks of two, u enlarges linearly.
    """
    details = []
    for _ in range(levels):
        smaller = average_pool(x)
        details.append(x - upsample(smaller, 2, "linear"))
        x = smaller
    return [*details, x]


def collapse_pyramid(pyramid: Sequence[jax.Array]) -> jax.Array:
    """The image of which `laplacian_pyramid` is the pyramid."""
    *details, x = pyramid
    for detail in reversed(details):
        x = upsample(x, 2, "linear") + detail
    return x


class ResizeConv(nn.Module):
    """Interpolation by a whole factor, then a convolution: (B, *S, C) -> (B, *(S * factor), features).

    No checkerboard (Odena et al. 2016). `method` is 'nearest' or 'linear'.
    """

    features: int
    kernel_size: Ints = 3
    factor: Ints = 2
    method: str = "nearest"
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Callable = initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Conv(
            self.features,
            self.kernel_size,
            padding=self.padding,
            use_bias=self.use_bias,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )(upsample(x, self.factor, self.method))


class SubPixelConv(nn.Module):
    """A convolution, then `pixel_shuffle`: (B, *S, C) -> (B, *(S * factor), features).

    The sub-pixel convolution of Shi et al. 2016.
    """

    features: int
    kernel_size: Ints = 3
    factor: Ints = 2
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Callable = initializers.lecun_normal()
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = self.features * math.prod(_factors(x, self.factor))
        y = Conv(
            features,
            self.kernel_size,
            padding=self.padding,
            use_bias=self.use_bias,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )(x)
        return pixel_shuffle(y, self.factor)
