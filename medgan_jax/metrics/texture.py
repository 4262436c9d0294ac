"""Texture of noise: the noise power spectrum of uniform regions, its radial profile, and distances between
two.

A denoiser may keep every pixel error small and still change the grain of an image, which readers see at once.
Regions are uniform by choice of the caller: `(B, R, H, W)`, R of them for each case, in HU (or the image's
units).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.metrics.checks import as_float, divide, finite_or_nan, undefined_unless


@partial(jax.jit, static_argnames=("spacing", "detrend"))
def noise_power_spectrum(regions: jax.Array, *, spacing: tuple[float, float], detrend: int) -> jax.Array:
    """Noise power spectrum `dy dx / (H W) <|FFT(region - fit)|^2>`: `(B, R, H, W) -> (B, H, W)` in HU^2 mm^2.

    `spacing` is `(dy, dx)` in mm; `detrend` is the order of the fitted polynomial (0 the mean, 1 a plane, 2 a
    quadric), without which cupping shows as low-frequency noise. Zero frequency comes first, as in `fftfreq`.
    The integral over frequencies is the variance of the detrended noise.
    """
    regions = as_float(regions)
    if regions.ndim != 4:
        raise ValueError(f"regions must be (B, R, H, W), not {regions.shape}")
    if len(spacing) != 2 or not min(spacing) > 0:
        raise ValueError(f"spacing must be (dy, dx), positive and in mm, not {spacing}")
    if detrend not in (0, 1, 2):
        raise ValueError(f"detrend must be 0, 1 or 2, not {detrend}")
    batch, count, height, width = regions.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = [x**i * y**j for i in range(detrend + 1) for j in range(detrend + 1 - i)]
    basis = np.linalg.qr(np.stack([term.ravel() for term in terms], axis=1))[0]
    flat = regions.reshape(batch, count, -1)
    flat = flat - flat[..., :1]  # a constant region becomes exactly zero
    flat = flat - jnp.mean(flat, axis=-1, keepdims=True)
    fit = jnp.einsum("brn,nk,mk->brm", flat, basis, basis, precision="highest")
    spectrum = jnp.fft.fft2((flat - fit).reshape(regions.shape))
    power = jnp.mean(jnp.square(spectrum.real) + jnp.square(spectrum.imag), axis=1)
    return power * (spacing[0] * spacing[1] / (height * width))


class RadialProfile(NamedTuple):
    """Frequencies `(bins,)` in cycles per mm, and the mean of the spectrum on each ring, `(B, bins)`."""

    frequencies: jax.Array
    values: jax.Array


@partial(jax.jit, static_argnames=("spacing", "bins"))
def radial_profile(spectrum: jax.Array, *, spacing: tuple[float, float], bins: int) -> RadialProfile:
    """Mean of a spectrum `(B, H, W)`, zero frequency first, on rings of equal width up to the lower Nyquist
    frequency.

    Rings without any frequency are NaN: take fewer bins. Zero frequency itself, which detrending empties, is
    left out.
    """
    spectrum = as_float(spectrum)
    radius = np.hypot(
        np.fft.fftfreq(spectrum.shape[1], spacing[0])[:, None],
        np.fft.fftfreq(spectrum.shape[2], spacing[1])[None],
    )
    nyquist = 0.5 / max(spacing)
    ring = np.where(radius > 0, np.ceil(radius / nyquist * bins - 1e-9).astype(int) - 1, bins)
    weights = (ring.reshape(-1, 1) == np.arange(bins)).astype(np.float32)
    sums = jnp.matmul(spectrum.reshape(spectrum.shape[0], -1), weights, precision="highest")
    frequencies = (jnp.arange(bins, dtype=spectrum.dtype) + 0.5) * (nyquist / bins)
    return RadialProfile(frequencies, divide(sums, jnp.asarray(weights.sum(0), sums.dtype)))


def nps_distance(
    prediction: jax.Array, reference: jax.Array, *, spacing: tuple[float, float], detrend: int, bins: int
) -> jax.Array:
    """Relative L1 distance of two radial noise power profiles, `sum |p - q| / sum q`: `(B,)`, in [0, inf).

    Lower is better: 0 for equal noise, 1 for a prediction without any noise. Noise power after Siewerdsen et
    al. 2002. Regions as in `noise_power_spectrum`, from the same uniform places: anatomy is not noise. What
    a small pixel error cannot see, a denoiser that changes the grain shows here. NaN for a reference without
    noise.
    """
    if jnp.shape(prediction) != jnp.shape(reference):
        raise ValueError(f"prediction is {jnp.shape(prediction)} but reference is {jnp.shape(reference)}")
    p, q = (
        radial_profile(
            noise_power_spectrum(x, spacing=spacing, detrend=detrend), spacing=spacing, bins=bins
        ).values
        for x in (prediction, reference)
    )
    return finite_or_nan(divide(jnp.sum(jnp.abs(p - q), axis=1), jnp.sum(q, axis=1)))


def nps_peak_frequency(
    regions: jax.Array, *, spacing: tuple[float, float], detrend: int, bins: int
) -> jax.Array:
    """Peak of the radial noise power profile, `argmax_f NPS(f)`: `(B,)` in cycles/mm, in [0, inf), no
    direction.

    Of CT noise (Siewerdsen et al. 2002): a smoothing denoiser moves it down while the variance may stay.
    Resolution is half a bin, so state the bins. NaN for regions without noise.
    """
    spectrum = noise_power_spectrum(regions, spacing=spacing, detrend=detrend)
    profile = radial_profile(spectrum, spacing=spacing, bins=bins)
    peak = profile.frequencies[jnp.argmax(profile.values, axis=1)]
    # NaN in the profile is not larger than zero either.
    return undefined_unless(jnp.max(profile.values, axis=1) > 0, peak)


@partial(jax.jit, static_argnames=("size", "count", "between"))
def flattest_places(
    reference: jax.Array, *, size: int, count: int, between: tuple[float, float]
) -> jax.Array:
    """Corners `(B, count, 2)` of the squares of `size` pixels of `(B, H, W)` in which least is to be seen.

    Squares half a side apart are ranked by their variance after a mean over 3 x 3 pixels; those whose mean
    lies outside `between`, such as air, come last. Chosen once, on the reference, and used for all images.
    """
    smooth = _box(as_float(reference), 3, 1, "SAME") / _box(jnp.ones_like(reference), 3, 1, "SAME")
    stride = max(size // 2, 1)
    # Taken from the image's middle, so that squares of large numbers lose little.
    offset = jnp.mean(smooth, axis=(1, 2), keepdims=True)
    mean, square = (_box((smooth - offset) ** power, size, stride, "VALID") / size**2 for power in (1, 2))
    level = mean + offset
    outside = (level < between[0]) | (level > between[1])
    busy = jnp.where(outside, jnp.inf, square - mean**2).reshape(len(reference), -1)
    chosen = jax.lax.top_k(-busy, count)[1]
    return stride * jnp.stack(jnp.divmod(chosen, mean.shape[2]), axis=-1)


def squares_at(images: jax.Array, corners: jax.Array, size: int) -> jax.Array:
    """The squares `(B, R, size, size)` of images `(B, H, W)` at `corners` `(B, R, 2)`."""

    def cut(image, corner):
        return jax.lax.dynamic_slice(image, corner, (size, size))

    return jax.vmap(jax.vmap(cut, (None, 0)))(images, corners)


def _box(x: jax.Array, size: int, stride: int, padding: str) -> jax.Array:
    """Sums over squares of `(B, H, W)`."""
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, size, size), (1, stride, stride), padding)
