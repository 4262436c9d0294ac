"""Fidelity of a predicted image to a reference: errors, signal-to-noise ratios and structural similarity.

Every function takes `(prediction, reference)`, in this order, as `(B, H, W, C)` or `(B, D, H, W, C)`, and
returns one value per case, `(B,)`. Nothing is normalised, clipped or rescaled on the way: images must already
be in the units in which the number is reported (HU, or [0, 1]), and `data_range` is the range of those units,
never of the data at hand. Cases that hold NaN or Inf (inside the mask, where there is one) score NaN. `mask`
(non-zero is inside, broadcast over channels) restricts a metric to a region; mostly-air images inflate PSNR
and SSIM, so report the body mask as well.
"""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from medgan_jax.metrics.checks import (
    all_finite,
    as_float,
    case_axes,
    case_mean,
    case_sum,
    divide,
    finite_or_nan,
    image_pair,
    per_case,
    square_root,
    undefined_unless,
)


def mse(prediction: jax.Array, reference: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Mean squared error, `mean((x - y)^2)`: squared image units, in [0, inf), lower is better.

    Of each case, over its pixels and channels (Kazeminia et al. 2020, Table 1; Wang and Bovik 2009). Guards
    against pooling over the batch, which lets one bad case hide in the mean.
    """
    prediction, reference = image_pair(prediction, reference)
    return finite_or_nan(case_mean(jnp.square(prediction - reference), mask))


def rmse(prediction: jax.Array, reference: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Root mean squared error, `sqrt(mean((x - y)^2))`: image units (HU for CT), in [0, inf), lower is
    better.

    The root is taken per case (Kazeminia et al. 2020, Table 1): the root of a pooled error is another number.
    Its gradient at equality is defined as zero.
    """
    return square_root(mse(prediction, reference, mask=mask))


def mae(prediction: jax.Array, reference: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Mean absolute error, `mean(|x - y|)`: image units, in [0, inf), lower is better.

    Per case, as reported for synthetic CT in HU (Nie et al. 2018). Air around the body is easy to get right:
    report it inside a `mask` too. Its gradient at equality is zero.
    """
    prediction, reference = image_pair(prediction, reference)
    return finite_or_nan(case_mean(jnp.abs(prediction - reference), mask))


def nmse(prediction: jax.Array, reference: jax.Array) -> jax.Array:
    """Normalised mean squared error, `||x - y||^2 / ||y||^2` with `y` the reference.

    Dimensionless, in [0, inf), lower is better; NaN for a reference of zeros. The definition of fastMRI
    (Zbontar et al. 2018), over the whole image or volume of a case. Papers of the DAGAN family print its
    square root under the same name: see `nmse_dagan`.
    """
    prediction, reference = image_pair(prediction, reference)
    error = case_sum(jnp.square(prediction - reference))
    return finite_or_nan(divide(error, case_sum(jnp.square(reference))))


def nmse_dagan(prediction: jax.Array, reference: jax.Array) -> jax.Array:
    """What the code of DAGAN (Yang et al. 2018) reports as "NMSE": `||x - y|| / ||y||`, the root of `nmse`.

    Dimensionless, in [0, inf), lower is better. The paper's values are on images in [0, 1]: the number
    depends on the offset of the images, so [-1, 1] network outputs must be mapped to [0, 1] first.
    """
    return square_root(nmse(prediction, reference))


def nrmse(prediction: jax.Array, reference: jax.Array, *, denominator: str) -> jax.Array:
    """Normalised root mean squared error, `RMSE / d`, dimensionless, in [0, inf), lower is better.

    After Fienup 1997, whose normalisation is the first of three. There is no standard `d`, so `denominator`
    must be named: 'euclidean' (root mean square of the reference, then equal to `nmse_dagan`), 'min-max'
    (range of the reference) or 'mean' (mean of the reference), each per case and from the reference alone.
    NaN where `d` is zero. Names as in `skimage.metrics.normalized_root_mse`.
    """
    prediction, reference = image_pair(prediction, reference)
    scales = {
        "euclidean": lambda: square_root(case_mean(jnp.square(reference))),
        "min-max": lambda: _extent(reference),
        "mean": lambda: case_mean(reference),
    }
    if denominator not in scales:
        raise ValueError(f"denominator must be one of {sorted(scales)}, not {denominator!r}")
    return divide(rmse(prediction, reference), scales[denominator]())


def _extent(x: jax.Array) -> jax.Array:
    """Largest less smallest value of each case, `(B,)`."""
    rows = x.reshape(x.shape[0], -1, math.prod(x.shape[-2:]))
    # Across rows first, and the compiler kept from joining the two steps: twice as fast on a CPU.
    high, low = jax.lax.optimization_barrier((jnp.max(rows, axis=1), jnp.min(rows, axis=1)))
    return jnp.max(high, axis=1) - jnp.min(low, axis=1)


def psnr(
    prediction: jax.Array,
    reference: jax.Array,
    *,
    data_range: jax.Array | float,
    eps: float = 0.0,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Peak signal-to-noise ratio, `10 log10(R^2 / (MSE + eps))`: dB, higher is better, infinite at equality.

    `data_range` is R, a scalar or one value per case, in the units of the images: a guessed R is the
    commonest reason why two PSNR differ (4096 against 400 HU is 20.2 dB for the same error). The mean of dB
    over cases is not the dB of the mean error; fastMRI (Zbontar et al. 2018) takes R as the maximum of each
    reference volume. In (-inf, inf]. With `eps = 0` the value and its gradient are infinite at equality; a
    loss needs `eps > 0`.
    """
    error = mse(prediction, reference, mask=mask)
    data_range = jnp.broadcast_to(jnp.asarray(data_range, error.dtype), error.shape)
    value = 10 * jnp.log10(jnp.square(data_range) / (error + eps))
    return undefined_unless(_is_range(data_range) & ~jnp.isnan(error), value)


def _is_range(data_range: jax.Array) -> jax.Array:
    return (data_range > 0) & jnp.isfinite(data_range)


def snr_db(prediction: jax.Array, reference: jax.Array, *, eps: float = 0.0) -> jax.Array:
    """Signal-to-noise ratio of a reconstruction, `10 log10(||y||^2 / ||x - y||^2) = -10 log10 NMSE`.

    dB, in (-inf, inf], higher is better (Kazeminia et al. 2020, Table 1), infinite at equality, and so is the
    gradient, unless `eps > 0` is added to the NMSE. Not the SNR of imaging physics (mean of a region over the
    background's deviation), which is `roi_snr`.
    """
    return -10 * jnp.log10(nmse(prediction, reference) + eps)


@dataclass(frozen=True)
class Window:
    """The local window of SSIM: its shape, its size in pixels and the covariance estimate inside it.

    `kind` is 'gaussian' (with `sigma` pixels) or 'uniform'; `covariance` is 'population' (divide by N) or
    'sample' (divide by N - 1). `size` is odd; only windows that lie wholly inside the image count.
    """

    kind: str
    size: int
    sigma: float | None
    covariance: str

    def __post_init__(self):
        if self.kind not in ("gaussian", "uniform") or self.covariance not in ("population", "sample"):
            raise ValueError(f"unknown window {self}")
        if self.size < 3 or self.size % 2 == 0:
            raise ValueError(f"the window's size must be odd and at least 3, not {self.size}")
        if (self.kind == "gaussian") != (self.sigma is not None):
            raise ValueError("a gaussian window needs a sigma, a uniform one has none")

    def taps(self) -> list[float]:
        """Weights along one axis, which sum to one."""
        if self.kind == "uniform":
            return [1.0 / self.size] * self.size
        radius = self.size // 2
        weights = [2.718281828459045 ** (-0.5 * (i / self.sigma) ** 2) for i in range(-radius, radius + 1)]
        return [weight / sum(weights) for weight in weights]


WANG_2004 = Window("gaussian", 11, 1.5, "population")
UNIFORM_7 = Window("uniform", 7, None, "sample")


def window_mean(x: jax.Array, taps: list[float], axes: tuple[int, ...]) -> jax.Array:
    """Weighted mean over every window that fits, separably along `axes`; each axis shrinks by `len(taps) -
    1`.

    A sum of shifted slices rather than a convolution: XLA fuses it, and no accelerator rounds it to TF32.
    """
    for axis in axes:
        length = x.shape[axis] - len(taps) + 1
        slices = (jax.lax.slice_in_dim(x, i, i + length, axis=axis) for i in range(len(taps)))
        x = sum(tap * part for tap, part in zip(taps, slices, strict=True))
    return x


def _similarity_maps(x, y, c1, c2, window: Window) -> tuple[jax.Array, jax.Array]:
    """Luminance and contrast-structure terms of SSIM at every window that fits, of images `(B, C, [D], H,
    W)`.

    Channels stand before space here: rows are then contiguous, and filtering on a CPU is several times
    faster.
    """
    axes = tuple(range(2, x.ndim))
    # E[x^2] - E[x]^2 cancels catastrophically at -1000 HU; variances do not care about a shift.
    centre_x, centre_y = (jnp.mean(z, axes, keepdims=True) for z in (x, y))
    x, y = x - centre_x, y - centre_y
    stack = jnp.stack([x, y, x * x, y * y, x * y])
    mean_x, mean_y, xx, yy, xy = window_mean(stack, window.taps(), tuple(axis + 1 for axis in axes))
    count = window.size ** len(axes)
    factor = count / (count - 1) if window.covariance == "sample" else 1.0
    spread = factor * (xx - mean_x * mean_x + yy - mean_y * mean_y)
    covariance = factor * (xy - mean_x * mean_y)
    mean_x, mean_y = mean_x + centre_x, mean_y + centre_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance, (2 * covariance + c2) / (spread + c2)


def _channels_first(x: jax.Array) -> jax.Array:
    # A reshape says more than a transpose of an axis of one: the compiler keeps the layout of the latter.
    return x.reshape(x.shape[0], 1, *x.shape[1:-1]) if x.shape[-1] == 1 else jnp.moveaxis(x, -1, 1)


def _check_window_fits(shape: tuple[int, ...], size: int) -> None:
    if min(shape[1:-1]) < size:
        raise ValueError(f"an SSIM window of {size} pixels does not fit into images of {shape[1:-1]}")


@partial(jax.jit, static_argnames="window")
def ssim_map(
    prediction: jax.Array, reference: jax.Array, *, data_range: jax.Array | float, window: Window
) -> jax.Array:
    """SSIM at every position where the window fits, `(B, [D'], H', W', C)` with `H' = H - size + 1`."""
    x, y = image_pair(prediction, reference)
    _check_window_fits(x.shape, window.size)
    data_range = per_case(data_range, x)
    constants = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance, structure = _similarity_maps(_channels_first(x), _channels_first(y), *constants, window)
    return jnp.moveaxis(luminance * structure, 1, -1)


def ssim(
    prediction: jax.Array,
    reference: jax.Array,
    *,
    data_range: jax.Array | float,
    window: Window,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Structural similarity (Wang et al. 2004), mean over windows and channels: in [-1, 1], higher is better.

    `(2 m_x m_y + c1)(2 s_xy + c2) / ((m_x^2 + m_y^2 + c1)(s_x^2 + s_y^2 + c2))`, `c = (0.01 R)^2, (0.03
    R)^2`. The window must be named, because values differ in the second digit: `WANG_2004` (Gaussian of 11
    taps, sigma 1.5, population covariance) or `UNIFORM_7` (scikit-image's default, and fastMRI's: 7 x 7,
    sample covariance). Volumes are compared with a three-dimensional window; the mean over slices is
    `ssim_slicewise`. A `mask` counts the windows whose centre lies inside it.
    """
    prediction, reference = image_pair(prediction, reference)
    values = ssim_map(prediction, reference, data_range=data_range, window=window)
    if mask is not None:
        radius = window.size // 2
        inner = (slice(None), *(slice(radius, n - radius) for n in prediction.shape[1:-1]))
        mask = jnp.broadcast_to(jnp.asarray(mask), (*prediction.shape[:-1], jnp.shape(mask)[-1]))[inner]
    data_range = jnp.broadcast_to(jnp.asarray(data_range, values.dtype), values.shape[:1])
    return undefined_unless(_is_range(data_range), case_mean(values, mask))


def ssim_slicewise(
    prediction: jax.Array, reference: jax.Array, *, data_range: jax.Array | float, window: Window
) -> jax.Array:
    """Mean over slices, `mean_d SSIM(x_d, y_d)`, of `(B, D, H, W, C)`: in [-1, 1], higher is better.

    The convention of fastMRI (Zbontar et al. 2018), with `UNIFORM_7` and each volume's maximum as
    `data_range`. Differs from the SSIM of the volume, hence its own name.
    """
    prediction, reference = image_pair(prediction, reference)
    if prediction.ndim != 5:
        raise ValueError(f"slices are of volumes (B, D, H, W, C), not of {prediction.shape}")
    batch, depth = prediction.shape[:2]
    ranges = jnp.repeat(jnp.broadcast_to(jnp.asarray(data_range, prediction.dtype), (batch,)), depth)
    slices = (x.reshape(-1, *x.shape[2:]) for x in (prediction, reference))
    return jnp.mean(ssim(*slices, data_range=ranges, window=window).reshape(batch, depth), axis=1)


MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@partial(jax.jit, static_argnames=("window", "scales"))
def ms_ssim(
    prediction: jax.Array,
    reference: jax.Array,
    *,
    data_range: jax.Array | float,
    window: Window,
    scales: int,
) -> jax.Array:
    """Multi-scale SSIM (Wang, Simoncelli and Bovik 2003): in [0, 1], higher is better.

    `l_M^b_M prod_j cs_j^b_j` over scales halved by 2 x 2 average pooling, `b` the paper's five weights, each
    term the mean over windows and channels and clipped at zero. Five scales with 11 taps need a smallest side
    of 176 pixels. With fewer `scales` the first weights are taken and renormalised to the sum of all five: a
    different metric, so the number of scales is stated and never chosen from the image.
    """
    x, y = image_pair(prediction, reference)
    if not 1 <= scales <= len(MS_SSIM_WEIGHTS):
        raise ValueError(f"scales must be 1 to {len(MS_SSIM_WEIGHTS)}, not {scales}")
    if min(x.shape[1:-1]) < window.size * 2 ** (scales - 1):
        raise ValueError(
            f"{scales} scales with {window.size} taps need sides of at least "
            f"{window.size * 2 ** (scales - 1)} pixels, not {x.shape[1:-1]}"
        )
    total = sum(MS_SSIM_WEIGHTS)
    weights = [b * total / sum(MS_SSIM_WEIGHTS[:scales]) for b in MS_SSIM_WEIGHTS[:scales]]
    spread = per_case(data_range, x)
    x, y = _channels_first(x), _channels_first(y)
    result = 1.0
    for scale, weight in enumerate(weights):
        luminance, structure = _similarity_maps(x, y, (0.01 * spread) ** 2, (0.03 * spread) ** 2, window)
        last = scale == scales - 1
        result = result * _power(case_mean(luminance * structure if last else structure), weight)
        x, y = _halve(x), _halve(y)
    return undefined_unless(_is_range(spread.reshape(-1)), result)


def _power(x: jax.Array, exponent: float) -> jax.Array:
    """`max(x, 0)^exponent` with zero gradient where x is not positive; NaN stays NaN."""
    positive = ~(x <= 0)
    return jnp.where(positive, jnp.where(positive, x, 1) ** exponent, 0)


def _halve(x: jax.Array) -> jax.Array:
    """Average over blocks of two along every spatial axis of `(B, C, [D], H, W)`; an odd last row is
    dropped."""
    for axis in range(2, x.ndim):
        half = x.shape[axis] // 2
        x = jax.lax.slice_in_dim(x, 0, 2 * half, axis=axis)
        x = jnp.mean(x.reshape(*x.shape[:axis], half, 2, *x.shape[axis + 1 :]), axis=axis + 1)
    return x


def gradient_distance(prediction: jax.Array, reference: jax.Array) -> jax.Array:
    """Relative distance of the distributions of gradient magnitudes, `W1(|grad x|, |grad y|) / mean|grad y|`.

    Dimensionless, in [0, inf), lower is better: 0 where edges are as many and as steep as in the reference
    `y`, wherever they are; 1 for a constant image. The Wasserstein distance of sorted magnitudes, after the
    gradient statistics of natural images (Ruderman 1994): what blur takes away, and what a pixel error hardly
    sees. Forward differences in voxels; NaN for a constant reference.
    """
    prediction, reference = image_pair(prediction, reference)

    def magnitudes(x):
        slopes = 0
        for axis in range(1, x.ndim - 1):
            inner = [slice(0, side - 1) if other != axis else slice(None)
                     for other, side in enumerate(x.shape[1:-1], 1)]
            slopes = slopes + jnp.square(jnp.diff(x, axis=axis)[:, *inner, :])
        return jnp.sort(square_root(slopes).reshape(len(x), -1), axis=1)

    p, q = magnitudes(prediction), magnitudes(reference)
    valid = all_finite(prediction, reference)
    return undefined_unless(valid, divide(jnp.mean(jnp.abs(p - q), axis=1), jnp.mean(q, axis=1)))


def ncc(
    prediction: jax.Array, reference: jax.Array, *, remove_mean: bool = True, eps: float = 0.0
) -> jax.Array:
    """Normalised cross-correlation, `sum (a - mean a)(b - mean b) / (N sd_a sd_b)`: in [-1, 1], higher is
    better.

    Population deviations, so equal to Pearson's r over the pixels of a case; VA-GAN (Baumgartner et al. 2018)
    reports it. `remove_mean=False` gives the cosine. Undefined (NaN) when either image is constant, unless
    `eps > 0` is added to both variances: then a constant image scores 0 and the gradient there is finite.
    """
    a, b = image_pair(prediction, reference)
    if remove_mean:
        a, b = _without_mean(a), _without_mean(b)
    product = square_root(case_mean(a * a) + eps) * square_root(case_mean(b * b) + eps)
    return divide(case_mean(a * b), product)


def _without_mean(x: jax.Array) -> jax.Array:
    """Each case less its mean; taking off one pixel first makes a constant image exactly zero."""
    x = x - x[(slice(None), *(slice(0, 1),) * (x.ndim - 1))]
    return x - per_case(case_mean(x), x)


def _grey_or_colour(image: jax.Array) -> jax.Array:
    image = as_float(image)
    if image.ndim not in (4, 5):
        raise ValueError(f"images must be (B, H, W, C) or (B, D, H, W, C), not {image.shape}")
    return image


def _region_moments(image: jax.Array, region: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and population standard deviation of a case inside a region, `(B,)` each."""
    inside = jnp.broadcast_to(jnp.asarray(region) != 0, image.shape)
    top = jnp.max(jnp.where(inside, image, -jnp.inf), case_axes(image), keepdims=True)
    shifted = image - jnp.where(jnp.isfinite(top), top, 0)  # a constant region becomes exactly zero
    mean = case_mean(shifted, region)
    column = (-1,) + (1,) * (image.ndim - 1)
    variance = case_mean(jnp.square(shifted - jnp.nan_to_num(mean).reshape(column)), region)
    return mean + top.reshape(-1), square_root(variance)


def roi_snr(
    image: jax.Array, *, signal: jax.Array, background: jax.Array, rayleigh_correction: bool
) -> jax.Array:
    """SNR of imaging physics, `mean(signal region) / SD(background region)`: dimensionless, higher is better.

    In (-inf, inf), after Henkelman 1985; one image `(B, ..., C)` and two regions of it. The air background of
    a magnitude MR image is Rayleigh distributed, so its deviation is 0.655 of that of the noise:
    `rayleigh_correction=True` multiplies by 0.655 (single-coil magnitude images only). NaN where a region is
    empty or the background is constant.
    """
    image = _grey_or_colour(image)
    mean, _ = _region_moments(image, signal)
    _, deviation = _region_moments(image, background)
    value = divide(mean, deviation) * (0.655 if rayleigh_correction else 1.0)
    return finite_or_nan(value)


def cnr(image: jax.Array, *, first: jax.Array, second: jax.Array, background: jax.Array) -> jax.Array:
    """Contrast-to-noise ratio, `|m1 - m2| / SD(background)`, of two regions: in [0, inf), higher is better.

    Dimensionless (Bushberg et al. 2011). A denoiser that flattens the background raises it without showing
    anything more, so read it beside the noise power. NaN where a region is empty or the background constant;
    the gradient is zero there, and where the means are equal.
    """
    image = _grey_or_colour(image)
    means = [_region_moments(image, region)[0] for region in (first, second)]
    _, deviation = _region_moments(image, background)
    return finite_or_nan(divide(jnp.abs(means[0] - means[1]), deviation))
