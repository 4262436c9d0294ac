"""The forward model of magnetic resonance imaging: Fourier transforms, coils, sampling, data consistency.

Conventions, kept by every function here:

* transforms are orthonormal and centred: the zero frequency sits at index `n // 2` of each axis, in k-space
  as in masks;
* images and k-space are complex arrays `(..., H, W)` or, with `axes=(-3, -2, -1)`, `(..., D, H, W)`;
  `to_complex` and `to_channels` go to and from two real channels `(..., H, W, 2)`;
* masks are real arrays of zeros and ones, `(H, W)` or one for each case `(..., H, W)`;
* coils come last, as channels do: sensitivities and multi-coil k-space are `(..., H, W, coils)`.

With an orthonormal F and a binary mask M, `A = M F` has the adjoint `A* = F^-1 M`, and `A* A` is a
projection. Every function is pure and works under `jit`, `vmap` and `grad`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

PLANE = (-2, -1)


def to_complex(channels: jax.Array) -> jax.Array:
    """Complex array `(...)` from two real channels `(..., 2)`, real part first."""
    if channels.shape[-1] != 2:
        raise ValueError(f"complex images have two channels, the last axis of {channels.shape} is not 2")
    return jax.lax.complex(_at_least_float32(channels[..., 0]), _at_least_float32(channels[..., 1]))


def to_channels(image: jax.Array) -> jax.Array:
    """Two real channels `(..., 2)` from a complex (or real) array `(...)`."""
    return jnp.stack([jnp.real(image), jnp.imag(image)], axis=-1)


def magnitude(channels: jax.Array) -> jax.Array:
    """Magnitude `(..., 1)` of two real channels `(..., 2)`; its gradient at zero is zero, not NaN."""
    power = jnp.sum(jnp.square(channels), axis=-1, keepdims=True)
    positive = power > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, power, 1)), 0)


def fftnc(image: jax.Array, axes: Sequence[int] = PLANE) -> jax.Array:
    """Centred orthonormal Fourier transform over `axes`: image to k-space, both complex, same shape."""
    image = _at_least_float32(image)
    return jnp.fft.fftshift(jnp.fft.fftn(jnp.fft.ifftshift(image, axes), axes=axes, norm="ortho"), axes)


def ifftnc(kspace: jax.Array, axes: Sequence[int] = PLANE) -> jax.Array:
    """Centred orthonormal inverse Fourier transform over `axes`: k-space to image; the inverse of `fftnc`."""
    kspace = _at_least_float32(kspace)
    return jnp.fft.fftshift(jnp.fft.ifftn(jnp.fft.ifftshift(kspace, axes), axes=axes, norm="ortho"), axes)


def fft2c(image: jax.Array) -> jax.Array:
    """`fftnc` over the last two axes: image `(..., H, W)` to k-space `(..., H, W)`."""
    return fftnc(image, PLANE)


def ifft2c(kspace: jax.Array) -> jax.Array:
    """`ifftnc` over the last two axes: k-space `(..., H, W)` to image `(..., H, W)`."""
    return ifftnc(kspace, PLANE)


def undersample(
    image: jax.Array,
    mask: jax.Array,
    *,
    noise: float | jax.Array = 0.0,
    key: jax.Array | None = None,
    axes: Sequence[int] = PLANE,
) -> jax.Array:
    """Measured k-space `y = M (F x + n)`, complex, of the shape of `image` `(..., H, W)`.

    `noise` is the standard deviation of the complex white noise n (its real and imaginary parts have
    `noise / sqrt(2)` each) as a fraction of each case's largest magnitude; noise needs a `key`.
    """
    kspace = fftnc(image, axes)
    if key is not None:
        peak = jnp.max(jnp.abs(image), axis=tuple(axes), keepdims=True)
        kspace = kspace + noise * peak * jax.random.normal(key, kspace.shape, kspace.dtype)
    elif not (isinstance(noise, (int, float)) and noise == 0):
        raise ValueError("noise in k-space needs a random key")
    return mask * kspace


def adjoint(kspace: jax.Array, mask: jax.Array, *, axes: Sequence[int] = PLANE) -> jax.Array:
    """The zero-filled image `A* y = F^-1 M y` of measured k-space `(..., H, W)`, complex."""
    return ifftnc(mask * kspace, axes)


def zero_filled(
    image: jax.Array,
    mask: jax.Array,
    *,
    noise: float | jax.Array = 0.0,
    key: jax.Array | None = None,
    axes: Sequence[int] = PLANE,
) -> jax.Array:
    """What sampling leaves of `image` `(..., H, W)`: `A* (A x + n)`, complex; `noise` as in `undersample`."""
    return adjoint(undersample(image, mask, noise=noise, key=key, axes=axes), mask, axes=axes)


def sense_forward(
    image: jax.Array, coils: jax.Array, mask: jax.Array, *, axes: Sequence[int] = PLANE
) -> jax.Array:
    """Multi-coil k-space `A x = M F (S_c x)`, `(..., H, W, coils)`, of an image `(..., H, W)`.

    `coils` are the sensitivities `(..., H, W, coils)`. Pruessmann et al., SENSE, Magn. Reson. Med. 42, 1999.
    """
    return mask[..., None] * fftnc(image[..., None] * coils, _before_coils(axes))


def sense_adjoint(
    kspace: jax.Array, coils: jax.Array, mask: jax.Array, *, axes: Sequence[int] = PLANE
) -> jax.Array:
    """Adjoint of `sense_forward`: the image `sum_c conj(S_c) F^-1 M y_c`, `(..., H, W)`, complex."""
    images = ifftnc(mask[..., None] * kspace, _before_coils(axes))
    return jnp.sum(jnp.conj(coils) * images, axis=-1)


def coil_sensitivities(
    shape: Sequence[int], coils: int = 8, *, distance: float = 1.1, width: float = 0.8
) -> jax.Array:
    """Complex sensitivities `(*shape, coils)` of coils on a ring; the sum of their squares is 1 everywhere.

    Each coil has a Gaussian profile of standard deviation `width` and a phase that grows linearly towards it;
    both it and `distance`, the radius of the ring, are in halves of the image's side. In a volume `(D, H, W)`
    the ring lies in the plane of H and W, and neighbouring coils sit alternately low and high in D.
    """
    if len(shape) not in (2, 3) or coils < 1:
        raise ValueError(f"coils want a shape of 2 or 3 sides and at least one, not {tuple(shape)}, {coils}")
    angle = 2 * np.pi * np.arange(coils) / coils
    centre = [distance * np.sin(angle), distance * np.cos(angle)]
    if len(shape) == 3:
        centre = [0.5 * (-1.0) ** np.arange(coils), *centre]
    grid = np.meshgrid(*[(np.arange(n) - n // 2) / (n / 2) for n in shape], indexing="ij")
    offsets = [axis[..., None] - position for axis, position in zip(grid, centre, strict=True)]
    profile = np.exp(-sum(np.square(offset) for offset in offsets) / (2 * width**2))
    profile = profile / np.linalg.norm(profile, axis=-1, keepdims=True)
    towards = sum(axis[..., None] * position for axis, position in zip(grid, centre, strict=True))
    return jnp.asarray(profile * np.exp(1j * (towards + angle)), jnp.complex64)


def hard_data_consistency(
    image: jax.Array,
    kspace: jax.Array,
    mask: jax.Array,
    *,
    coils: jax.Array | None = None,
    axes: Sequence[int] = PLANE,
) -> jax.Array:
    """The image with its sampled frequencies replaced: `F^-1[(1 - M) F x + M y]`, complex `(..., H, W)`.

    With `coils` `(..., H, W, coils)` and multi-coil `kspace`, each coil's image is made consistent and the
    coils are combined with their conjugate sensitivities.
    """
    return soft_data_consistency(image, kspace, mask, jnp.inf, coils=coils, axes=axes)


def soft_data_consistency(
    image: jax.Array,
    kspace: jax.Array,
    mask: jax.Array,
    v: float | jax.Array,
    *,
    coils: jax.Array | None = None,
    axes: Sequence[int] = PLANE,
) -> jax.Array:
    """The image drawn towards noisy samples: `F^-1[(1 - M) k + M (k + v y) / (1 + v)]` with `k = F x`.

    `v >= 0` is the inverse noise level, set or learned: 0 leaves the image as it is, infinity replaces the
    samples (`hard_data_consistency`). Schlemper et al., IEEE Trans. Med. Imaging 37(2), 2018. Shapes as
    there.
    """
    if coils is not None:
        image, mask, axes = image[..., None] * coils, mask[..., None], _before_coils(axes)
    predicted = fftnc(image, axes)
    # y + (k - y) / (1 + v) equals (k + v y) / (1 + v), and stays finite at v = infinity.
    consistent = kspace + (predicted - kspace) / (1 + v)
    result = ifftnc(predicted + mask * (consistent - predicted), axes)
    return result if coils is None else jnp.sum(jnp.conj(coils) * result, axis=-1)


def effective_rate(mask: jax.Array, *, axes: Sequence[int] = PLANE) -> jax.Array:
    """Fraction of k-space `(...,)` that `mask` `(..., H, W)` determines when the image is real.

    A real image has `k(-f) = conj(k(f))`, so a sample fixes its mirror too: a nominal 30 % of Gaussian lines
    determines about 42 %. Report it beside the nominal rate (Shimron et al., PNAS 119(13), 2022).
    """
    axes = tuple(axes)
    frequencies = jnp.fft.ifftshift(mask, axes)
    mirrored = jnp.roll(jnp.flip(frequencies, axes), (1,) * len(axes), axes)
    return jnp.mean(jnp.maximum(frequencies, mirrored), axis=axes)


def _before_coils(axes: Sequence[int]) -> tuple[int, ...]:
    """Spatial axes, counted from the end, of an array that has a coil axis added last."""
    if any(axis >= 0 for axis in axes):
        raise ValueError(f"axes are counted from the end (negative) where coils come last, not {tuple(axes)}")
    return tuple(axis - 1 for axis in axes)


def _at_least_float32(x: jax.Array) -> jax.Array:
    """Half-precision arrays as float32, which the Fourier transform needs; others unchanged."""
    x = jnp.asarray(x)
    return x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)
