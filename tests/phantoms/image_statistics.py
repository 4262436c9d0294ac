"""Statistics of images that phantoms and real sets are compared by."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import uniform_filter

# Shares of the pixels at which histograms are compared.
SHARES = np.arange(0.05, 1, 0.1)


def spectrum_slope(image: np.ndarray) -> float:
    """Slope of log power over log frequency, radially averaged, from 0.03 to 0.35 cycles a pixel."""
    power = np.abs(np.fft.fftshift(np.fft.fft2(image - image.mean()))) ** 2
    side = len(image)
    radius = np.rint(np.hypot(*(np.indices(power.shape) - side // 2))).astype(int)
    radial = np.bincount(radius.ravel(), power.ravel()) / np.bincount(radius.ravel())
    frequency = np.arange(len(radial)) / side
    fitted = (frequency >= 0.03) & (frequency <= 0.35)
    return np.polyfit(np.log(frequency[fitted]), np.log(radial[fitted]), 1)[0]


def gradient_kurtosis(image: np.ndarray) -> float:
    """Fourth over squared second central moment of the differences between neighbouring pixels."""
    difference = np.concatenate([np.diff(image, axis=axis).ravel() for axis in (0, 1)])
    difference = difference - difference.mean()
    return np.mean(difference**4) / np.mean(difference**2) ** 2


def soft_tissue_noise(image: np.ndarray) -> float:
    """Standard deviation in HU in the flattest squares of soft tissue, a sixteenth of the sides long."""
    side = len(image) // 16
    windows = sliding_window_view(image, (side, side))[:: side // 2, :: side // 2].reshape(-1, side, side)
    level = windows.mean((1, 2))
    soft = windows[(level > -20) & (level < 120)]
    # What remains after a mean over neighbours is anatomy rather than noise.
    busy = uniform_filter(soft, (0, 3, 3)).std((1, 2))
    return np.median(soft[np.argsort(busy)[:4]].std((1, 2)))


def histogram(image: np.ndarray) -> np.ndarray:
    """Values `(channels, shares)` of `(..., channels)` below which the `SHARES` of the pixels lie."""
    return np.quantile(image.reshape(-1, image.shape[-1]), SHARES, axis=0).T


def wasserstein(one: np.ndarray, other: np.ndarray) -> float:
    """Wasserstein distance of two of these histograms, the mean over channels."""
    return np.abs(one - other).mean()


def among(histograms: np.ndarray) -> np.ndarray:
    """Distances of all pairs of histograms."""
    return np.array([wasserstein(one, other) for i, one in enumerate(histograms) for other in histograms[:i]])


def between(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distances of histograms of one kind from those of another."""
    return np.array([wasserstein(one, other) for one in some for other in others])
