"""What an observer can still see or resolve: the channelised Hotelling observer, and edge sharpness by the
MTF."""

from dataclasses import dataclass

import numpy as np
from scipy import signal, special

from medgan_jax.errors import UserError


def laguerre_gauss_channels(shape: tuple[int, int], *, width: float, count: int) -> np.ndarray:
    """Laguerre-Gauss channels `(count, H, W)` of unit norm about the image's centre, for a signal of known
    place.

    `width` in pixels is about that of the signal. `exp(-pi r^2 / a^2) L_j(2 pi r^2 / a^2)` (Gallas and
    Barrett 2003).
    """
    y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    scaled = 2 * np.pi * (x**2 + y**2) / width**2
    channels = np.stack([np.exp(-scaled / 2) * special.eval_laguerre(j, scaled) for j in range(count)])
    return channels / np.linalg.norm(channels, axis=(1, 2), keepdims=True)


@dataclass(frozen=True)
class Detectability:
    """An observer's performance on held-out images: area under its ROC curve, and d' = sqrt(2) z(area)."""

    auc: float
    d_prime: float
    n_train: int
    n_test: int


def channelised_hotelling_observer(present, absent, *, channels: np.ndarray, train: int) -> Detectability:
    """Detectability of a known signal in images with it `(N, H, W)` and without it `(M, H, W)`.

    The images' channel outputs `(count,)` have a template `S^-1 (mean present - mean absent)`, S the mean of
    the two covariances, from the first `train` images of either set; the rest are scored (Myers and Barrett
    1987). Testing on the training images flatters. The area under the ROC is in [0, 1], higher is better, 0.5
    is chance. Follows human readers in noise-limited tasks.
    """
    present, absent, channels = (np.asarray(x, float) for x in (present, absent, channels))
    shapes = (absent.shape[1:], channels.shape[1:])
    if present.ndim != 3 or any(shape != present.shape[1:] for shape in shapes):
        raise UserError("images must be (N, H, W) and channels (count, H, W) of one size")
    if not all(np.isfinite(x).all() for x in (present, absent, channels)):
        raise UserError("the images or channels hold NaN or Inf")
    if not len(channels) < train < min(len(present), len(absent)):
        raise UserError(
            f"train must exceed the {len(channels)} channels and leave images to test: "
            f"got {train} of {len(present)} and {len(absent)}"
        )
    with_signal, without = (
        x.reshape(len(x), -1) @ channels.reshape(len(channels), -1).T for x in (present, absent)
    )
    covariance = (np.cov(with_signal[:train], rowvar=False) + np.cov(without[:train], rowvar=False)) / 2
    template = np.linalg.solve(
        np.atleast_2d(covariance), with_signal[:train].mean(0) - without[:train].mean(0)
    )
    hits, alarms = with_signal[train:] @ template, without[train:] @ template
    area = float(np.mean((hits[:, None] > alarms) + 0.5 * (hits[:, None] == alarms)))
    clipped = np.clip(area, 0.5 / hits.size, 1 - 0.5 / hits.size)
    return Detectability(area, float(np.sqrt(2) * special.ndtri(clipped)), train, min(hits.size, alarms.size))


@dataclass(frozen=True)
class Mtf:
    """Modulation transfer function: frequencies in cycles per mm, values from 1 at zero, and where it falls
    to a half."""

    frequencies: np.ndarray
    values: np.ndarray
    mtf50: float


def mtf_from_edge(region, *, spacing: float, oversampling: int = 4) -> Mtf:
    """MTF `|FFT(LSF)|` of a slanted straight edge in a region `(H, W)` with square pixels of `spacing` mm.

    `mtf50`, the frequency where it falls to a half, is in cycles/mm, in [0, inf), higher is better (sharper).
    The edge may run along either axis and must be tilted by a few degrees, so that rows sample it at
    different places (ISO 12233): a line fitted to the centroids of the rows' derivatives places every pixel
    relative to the edge; bins of `1 / oversampling` pixel give the edge spread, its derivative, tapered at
    the ends, the line spread, whose Fourier transform, less the transfer of binning and differencing, is the
    MTF. `mtf50` is NaN if it never falls to 0.5. Sharpening by a non-linear network need not show at other
    contrasts: measure at the contrast of the task.
    """
    _check_sampling(spacing, oversampling)
    region = np.asarray(region, float)
    if region.ndim != 2 or min(region.shape) < 8:
        raise UserError(f"an edge needs a region (H, W) of at least 8 x 8 pixels, not {region.shape}")
    if not np.isfinite(region).all() or np.ptp(region) == 0:
        raise UserError("the region holds NaN, Inf or nothing but one value: there is no edge in it")
    if np.abs(np.diff(region.mean(0))).max() < np.abs(np.diff(region.mean(1))).max():
        region = region.T
    slope, offset = _edge_line(region)
    rows, columns = np.mgrid[: region.shape[0], : region.shape[1]]
    distance = (columns - offset - slope * rows) / np.hypot(1, slope)
    return _mtf_from_distances(distance.ravel(), region.ravel(), spacing, oversampling)


def mtf_from_disc(
    region, *, centre: tuple[float, float], radius: float, spacing: float, oversampling: int = 4
) -> Mtf:
    """MTF from the rim of a disc of known centre (row, column) and radius, in pixels, of a region `(H, W)`.

    As `mtf_from_edge`, averaged over all directions: for the round inserts of a Catphan. Pixels within half a
    radius of the rim are used, so the disc must be uniform and stand alone.
    """
    _check_sampling(spacing, oversampling)
    region = np.asarray(region, float)
    if region.ndim != 2 or not np.isfinite(region).all() or not radius > 0:
        raise UserError("a disc needs a finite region (H, W) and a positive radius")
    rows, columns = np.mgrid[: region.shape[0], : region.shape[1]]
    distance = np.hypot(rows - centre[0], columns - centre[1]) - radius
    near = np.abs(distance) <= radius / 2
    if near.sum() < 64:
        raise UserError("the disc has too few pixels about its rim in this region")
    return _mtf_from_distances(distance[near], region[near], spacing, oversampling)


def _check_sampling(spacing: float, oversampling: int) -> None:
    if not (spacing > 0 and np.isfinite(spacing) and oversampling >= 1):
        raise UserError("spacing must be a positive distance in mm, and oversampling at least 1")


def _edge_line(region: np.ndarray) -> tuple[float, float]:
    """Column of the edge as `offset + slope * row`, refitted in a window about the first fit."""
    derivative = np.diff(region, axis=1)
    derivative *= np.sign(derivative.sum())
    columns = np.arange(derivative.shape[1]) + 0.5
    rows = np.arange(len(region))
    weight = np.maximum(derivative, 0)
    centre = np.full(len(region), columns[weight.sum(0).argmax()])
    half = region.shape[1]
    for _ in range(4):
        near = weight * (np.abs(columns - centre[:, None]) <= half)
        total = near.sum(1)
        used = total > 0
        slope, offset = np.polyfit(rows[used], (near @ columns)[used] / total[used], 1)
        centre, half = offset + slope * rows, max(6, region.shape[1] // 6)
    return float(slope), float(offset)


def _mtf_from_distances(distance: np.ndarray, values: np.ndarray, spacing: float, oversampling: int) -> Mtf:
    index = np.floor(distance * oversampling).astype(int)
    index -= index.min()
    counts = np.bincount(index)
    filled = counts > 0
    profile = np.bincount(index, values)[filled] / counts[filled]
    profile = np.interp(np.arange(counts.size), np.flatnonzero(filled), profile)
    line = np.diff(profile)
    line = np.roll(line, line.size // 2 - int(np.abs(line).argmax())) * signal.windows.tukey(line.size, 0.5)
    spectrum = np.abs(np.fft.rfft(line))
    per_pixel = np.fft.rfftfreq(line.size, 1 / oversampling)
    kept = per_pixel <= 1.0
    # Averaging in a bin and the difference of two bins each blur by one bin's width.
    transfer = np.sinc(per_pixel[kept] / oversampling) ** 2
    mtf = spectrum[kept] / spectrum[0] / transfer
    frequencies = per_pixel[kept] / spacing
    below = np.flatnonzero(mtf < 0.5)
    if not below.size or below[0] == 0:
        return Mtf(frequencies, mtf, float("nan"))
    i = below[0]
    share = (mtf[i - 1] - 0.5) / (mtf[i - 1] - mtf[i])
    return Mtf(frequencies, mtf, float(frequencies[i - 1] + share * (frequencies[i] - frequencies[i - 1])))
