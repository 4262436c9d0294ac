"""Features a reader sees: feature similarity (FSIM) and the global contrast factor, both of grey images.

Images are `(B, H, W, 1)`; values are per case, `(B,)`. Both were defined on displayed 8-bit values, so the
range that is displayed (the window and level) is an argument and part of the number. LPIPS is not offered:
its weights were fitted to human judgements of photographs.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.metrics.checks import (
    as_float,
    case_sum,
    divide,
    image_pair,
    per_case,
    square_root,
    undefined_unless,
)
from medgan_jax.metrics.image import window_mean

FSIM_SCALES, FSIM_ORIENTATIONS = 4, 4
SMALLEST_WAVELENGTH, WAVELENGTH_RATIO, BANDWIDTH, ANGULAR_RATIO = 6.0, 2.0, 0.55, 1.2
NOISE_DEVIATIONS, EPSILON = 2.0, 1e-4
PHASE_CONSTANT, GRADIENT_CONSTANT = 0.85, 160.0


def _log_gabor_filters(height: int, width: int) -> np.ndarray:
    """Log-Gabor filters `(orientations, scales, H, W)` of Kovesi's phase congruency, zero frequency first."""

    def frequencies(n):
        span = np.arange(-(n // 2), n - n // 2)
        return span / (n - 1 if n % 2 else n)

    y, x = np.meshgrid(frequencies(height), frequencies(width), indexing="ij")
    radius, angle = np.fft.ifftshift(np.hypot(x, y)), np.fft.ifftshift(np.arctan2(-y, x))
    radius[0, 0] = 1.0
    low_pass = 1 / (1 + (radius / 0.45) ** 30)
    filters = np.empty((FSIM_ORIENTATIONS, FSIM_SCALES, height, width))
    for o in range(FSIM_ORIENTATIONS):
        turned = angle - o * np.pi / FSIM_ORIENTATIONS
        distance = np.abs(np.arctan2(np.sin(turned), np.cos(turned)))
        spread = np.exp(-(distance**2) / (2 * (np.pi / FSIM_ORIENTATIONS / ANGULAR_RATIO) ** 2))
        for s in range(FSIM_SCALES):
            centre = 1 / (SMALLEST_WAVELENGTH * WAVELENGTH_RATIO**s)
            radial = np.exp(-(np.log(radius / centre) ** 2) / (2 * np.log(BANDWIDTH) ** 2)) * low_pass
            radial[0, 0] = 0.0
            filters[o, s] = radial * spread
    return filters


def phase_congruency(images: jax.Array) -> jax.Array:
    """Phase congruency of grey images `(B, H, W)` on 0..255, in [0, 1], after Kovesi 1999 with FSIM's
    constants."""
    filters = _log_gabor_filters(*images.shape[1:])
    spatial = np.real(np.fft.ifft2(filters)) * math.sqrt(filters.shape[-1] * filters.shape[-2])
    powers = np.sum(spatial**2, axis=(1, 2, 3))
    products = np.sum(np.sum(spatial, axis=1) ** 2, axis=(1, 2)) - powers
    banks = (filters, np.sum(filters[:, 0] ** 2, axis=(1, 2)), powers, products)
    spectrum = jnp.fft.fft2(images)

    def one_orientation(bank):
        bank, first, powers, products = bank
        response = jnp.fft.ifft2(spectrum[:, None] * bank)
        even, odd, amplitude = response.real, response.imag, jnp.abs(response)
        sum_even, sum_odd = jnp.sum(even, 1, keepdims=True), jnp.sum(odd, 1, keepdims=True)
        length = jnp.sqrt(sum_even**2 + sum_odd**2 + EPSILON**2) + EPSILON
        mean_even, mean_odd = sum_even / length, sum_odd / length
        energy = jnp.sum(
            even * mean_even + odd * mean_odd - jnp.abs(even * mean_odd - odd * mean_even), axis=1
        )
        # Noise is estimated from the finest scale, whose response in flat places is noise alone.
        power = jnp.median(jnp.square(amplitude[:, 0]), axis=(1, 2)) / math.log(2) / first
        tau = jnp.sqrt(power * (powers + products) + 1e-12)
        threshold = tau * (math.sqrt(math.pi / 2) + NOISE_DEVIATIONS * math.sqrt(2 - math.pi / 2)) / 1.7
        return jnp.maximum(energy - threshold[:, None, None], 0), jnp.sum(amplitude, axis=1)

    # One orientation after the other: a quarter of the memory, and of the program.
    banks = tuple(jnp.asarray(x, images.dtype) for x in banks)
    energy, amplitude = (jnp.sum(x, axis=0) for x in jax.lax.map(one_orientation, banks))
    return divide(energy, amplitude)


def _gradient(images: jax.Array) -> jax.Array:
    """Scharr gradient magnitude of `(B, H, W)`, zero outside the image."""
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1)))
    smooth = [3 / 16, 10 / 16, 3 / 16]
    rows, columns = window_mean(padded, smooth, (2,)), window_mean(padded, smooth, (1,))
    along_rows = rows[:, 2:] - rows[:, :-2]
    along_columns = columns[:, :, 2:] - columns[:, :, :-2]
    return jnp.sqrt(along_rows**2 + along_columns**2 + 1e-12)


@jax.jit
def fsim(prediction: jax.Array, reference: jax.Array, *, data_range: jax.Array | float) -> jax.Array:
    """Feature similarity (Zhang et al. 2011) of grey images `(B, H, W, 1)`: `(B,)`, in [0, 1], higher is
    better.

    `sum S_pc S_g PC / sum PC`: similarity of phase congruency and of gradients, weighted by the larger phase
    congruency. Images in `[0, data_range]` are scaled to 0..255, for which its constants were chosen, and
    averaged down so that the smaller side is about 256. NaN for two images without any feature. Colour is not
    used (FSIM, not FSIMc).
    """
    x, y = image_pair(prediction, reference)
    if x.ndim != 4 or x.shape[-1] != 1:
        raise ValueError(f"FSIM is of grey images (B, H, W, 1), not {x.shape}")
    scale = per_case(data_range, x)
    valid = (scale > 0) & jnp.isfinite(scale)
    x, y = ((255 * z / jnp.where(valid, scale, 1))[..., 0] for z in (x, y))
    factor = max(1, round(min(x.shape[1:]) / 256))
    if factor > 1:
        x, y = (_average_down(z, factor) for z in (x, y))
    both = jnp.concatenate([x, y])
    phase_both = phase_congruency(both)
    phase_x, phase_y = jnp.split(jnp.where(jnp.isnan(phase_both), 0, phase_both), 2)
    gradient_x, gradient_y = jnp.split(_gradient(both), 2)
    phase = _ratio(phase_x, phase_y, PHASE_CONSTANT)
    weight = jnp.maximum(phase_x, phase_y)
    value = divide(
        case_sum(phase * _ratio(gradient_x, gradient_y, GRADIENT_CONSTANT) * weight), case_sum(weight)
    )
    finite = jnp.all(jnp.isfinite(x) & jnp.isfinite(y), axis=(1, 2))
    return undefined_unless(finite & valid.reshape(-1), value)


def _ratio(a: jax.Array, b: jax.Array, constant: float) -> jax.Array:
    return (2 * a * b + constant) / (a * a + b * b + constant)


def _average_down(x: jax.Array, factor: int) -> jax.Array:
    """Mean over `factor x factor` windows centred as a 'same' filter does, then every `factor`-th pixel."""
    after = factor // 2
    padded = jnp.pad(x, ((0, 0), (factor - 1 - after, after), (factor - 1 - after, after)))
    return window_mean(padded, [1 / factor] * factor, (1, 2))[:, ::factor, ::factor]


SUPERPIXELS = (1, 2, 4, 8, 16, 25, 50, 100, 200)


@partial(jax.jit, static_argnames=("display_range",))
def global_contrast_factor(images: jax.Array, *, display_range: tuple[float, float]) -> jax.Array:
    """Global contrast factor (Matkovic et al. 2005) of grey images `(B, H, W, 1)`: `(B,)`, in [0, inf).

    Dimensionless, no direction of its own. Values are displayed so that `display_range` maps to 0..255
    (clipped), then made linear light `l = (k / 255)^2.2`, averaged over superpixels of 1 to 200 pixels, and
    turned to perceived `L = 100 sqrt(l)`. Local contrast is the mean absolute difference to the neighbours
    that exist; `GCF = sum w_i mean(local contrast)`. Scales with fewer than two superpixels along a side are
    left out; incomplete superpixels at the border are dropped. Without the display range the number means
    nothing: it is part of the definition. The gradient of a superpixel that is black is zero.
    """
    images = as_float(images)
    if images.ndim != 4 or images.shape[-1] != 1 or min(images.shape[1:3]) < 2:
        raise ValueError(f"the contrast factor is of grey images (B, H, W, 1), not {images.shape}")
    low, high = display_range
    if not high > low:
        raise ValueError(f"display_range must ascend, not {display_range}")
    valid = jnp.all(jnp.isfinite(images), axis=(1, 2, 3))
    linear = jnp.clip((images[..., 0] - low) / (high - low), 0, 1) ** 2.2
    total = 0.0
    for i, size in enumerate(SUPERPIXELS, start=1):
        rows, columns = images.shape[1] // size, images.shape[2] // size
        if min(rows, columns) < 2:
            break
        blocks = linear[:, : rows * size, : columns * size].reshape(-1, rows, size, columns, size)
        weight = (-0.406385 * i / 9 + 0.334573) * i / 9 + 0.0877526
        total += weight * _mean_local_contrast(100 * square_root(jnp.mean(blocks, axis=(2, 4))))
    return undefined_unless(valid, total)


def _mean_local_contrast(luminance: jax.Array) -> jax.Array:
    """Mean over superpixels `(B, h, w)` of the mean absolute difference to their two to four neighbours."""
    rows, columns = luminance.shape[1:]
    down, right = jnp.abs(jnp.diff(luminance, axis=1)), jnp.abs(jnp.diff(luminance, axis=2))
    sums = jnp.pad(down, ((0, 0), (1, 0), (0, 0))) + jnp.pad(down, ((0, 0), (0, 1), (0, 0)))
    sums += jnp.pad(right, ((0, 0), (0, 0), (1, 0))) + jnp.pad(right, ((0, 0), (0, 0), (0, 1)))
    count_rows = 2 - (np.arange(rows) % max(rows - 1, 1) == 0)
    count_columns = 2 - (np.arange(columns) % max(columns - 1, 1) == 0)
    return jnp.mean(sums / (count_rows[:, None] + count_columns[None, :]), axis=(1, 2))


def semantic_interpretability_score(
    reconstruction_dice: jax.Array, truth_dice: jax.Array | None
) -> jax.Array:
    """Semantic interpretability score (Seitzer et al. 2018): dimensionless, in [0, inf), higher is better,
    about 1 at most.

    `mean Dice(seg(reconstruction), mask) / mean Dice(seg(ground truth), mask)` over cases: how well a
    segmentation network finds the region of interest in a reconstruction, as a share of how well it finds it
    in the truth. Takes the `(B,)` Dice scores of both; `truth_dice=None` leaves the mean unnormalised. Cases
    that are NaN in either (no region anywhere) do not count; a value outside [0, 1] is no Dice score and
    makes the result NaN. The network must be trained on real, fully sampled images, frozen, and never part of
    the generator's loss.
    """
    scores = [as_float(x) for x in (reconstruction_dice, truth_dice) if x is not None]
    if any(x.ndim != 1 or x.shape != scores[0].shape for x in scores):
        raise ValueError(f"Dice scores must be (B,) of equal shapes, not {[x.shape for x in scores]}")
    defined = ~jnp.any(jnp.stack([jnp.isnan(x) for x in scores]), axis=0)
    valid = jnp.all(jnp.stack([(x >= 0) & (x <= 1) | jnp.isnan(x) for x in scores]))
    sums = [jnp.sum(jnp.where(defined, x, 0)) for x in scores]
    count = jnp.sum(defined).astype(scores[0].dtype)
    return undefined_unless(valid, divide(sums[0], count if truth_dice is None else sums[1]))
