"""FSIM, contrast, semantic score and noise power spectra against loops in NumPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter

from medgan_jax.metrics import perceptual, texture

GCF_WEIGHTS = (0.119910, 0.142034, 0.154123, 0.156178, 0.148199, 0.130186, 0.102138, 0.064057, 0.015941)


def scene(seed=0, shape=(48, 40)):
    return np.clip(gaussian_filter(np.random.default_rng(seed).random(shape), 1.5) * 6 - 2.5, 0, 1).astype(
        np.float32
    )


def contrast_factor(image):
    """The definition with loops; `image` on 0..1."""
    total, linear = 0.0, np.float64(image) ** 2.2
    for weight, size in zip(GCF_WEIGHTS, perceptual.SUPERPIXELS, strict=True):
        h, w = image.shape[0] // size, image.shape[1] // size
        if min(h, w) < 2:
            break
        light = np.array(
            [
                [linear[i * size : (i + 1) * size, j * size : (j + 1) * size].mean() for j in range(w)]
                for i in range(h)
            ]
        )
        light = 100 * np.sqrt(light)
        local = [
            np.mean(
                [
                    abs(light[i, j] - light[a, b])
                    for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))
                    if 0 <= a < h and 0 <= b < w
                ]
            )
            for i in range(h)
            for j in range(w)
        ]
        total += weight * np.mean(local)
    return total


def test_contrast_factor_agrees_with_its_definition():
    images = np.stack([scene(0), scene(1), np.full((48, 40), 0.5, np.float32)])[..., None]
    metric = jax.jit(lambda x: perceptual.global_contrast_factor(x, display_range=(0.0, 1.0)))
    np.testing.assert_allclose(
        metric(images), [contrast_factor(x[..., 0]) for x in images], rtol=1e-4, atol=1e-5
    )
    hounsfield = perceptual.global_contrast_factor(400 * images - 160, display_range=(-160.0, 240.0))
    np.testing.assert_allclose(hounsfield, metric(images), rtol=1e-3, atol=1e-3)
    flat = perceptual.global_contrast_factor(gaussian_filter(images, (0, 3, 3, 0)), display_range=(0.0, 1.0))
    assert float(flat[0]) < float(metric(images)[0])
    images[0, 0, 0] = np.nan
    assert np.isnan(metric(images)[0]) and not np.isnan(metric(images)[1])
    with pytest.raises(TypeError):
        perceptual.global_contrast_factor(images)


def test_contrast_factor_of_every_kind_of_input(mixed_images, agree):
    metric = lambda x, y: perceptual.global_contrast_factor(x, display_range=(0.0, 1.0))  # noqa: E731
    cases = {"global_contrast_factor": (metric, lambda x, y: contrast_factor(x[..., 0]))}
    agree(cases, mixed_images((13, 10)), rtol=1e-4, atol=1e-3)


def phase_congruency(image):
    """Kovesi's definition, one filter at a time, with the constants of FSIM."""
    rows, columns = image.shape
    steps = [(np.arange(n) - n // 2) / (n - n % 2) for n in image.shape]
    y, x = (np.fft.ifftshift(z) for z in np.meshgrid(*steps, indexing="ij"))
    radius, angle = np.hypot(x, y), np.arctan2(-y, x)
    radius[0, 0] = 1
    energy = amplitude = 0
    for turn in np.arange(4) * np.pi / 4:
        across = abs(np.angle(np.exp(1j * (angle - turn))))
        filters = []
        for wavelength in (6, 12, 24, 48):
            band = np.exp(-(np.log(radius * wavelength) ** 2) / (2 * np.log(0.55) ** 2))
            band *= np.exp(-((across * 1.2 * 4 / np.pi) ** 2) / 2) / (1 + (radius / 0.45) ** 30)
            band[0, 0] = 0
            filters.append(band)
        responses = [np.fft.ifft2(np.fft.fft2(image) * band) for band in filters]
        mean = sum(responses) / (abs(sum(responses)) + 1e-4)
        dots = [(z * np.conj(mean)).real - abs((z * np.conj(mean)).imag) for z in responses]
        kernels = [np.fft.ifft2(band).real * np.sqrt(rows * columns) for band in filters]
        pairs = sum((kernels[i] * kernels[j]).sum() for i in range(4) for j in range(i))
        noise = np.median(abs(responses[0]) ** 2) / np.log(2) / np.sum(filters[0] ** 2)
        tau = np.sqrt(noise * sum((k**2).sum() for k in kernels) + 2 * noise * pairs)
        energy += np.maximum(sum(dots) - tau * (np.sqrt(np.pi / 2) + 2 * np.sqrt(2 - np.pi / 2)) / 1.7, 0)
        amplitude += sum(abs(z) for z in responses)
    return np.divide(energy, amplitude, out=np.zeros_like(energy), where=amplitude > 1e-9)


def feature_similarity(x, y):
    kernel = np.outer((3, 10, 3), (1, 0, -1)) / 16
    phases, gradients = [], []
    for z in (255 * np.float64(x[..., 0]), 255 * np.float64(y[..., 0])):
        phases.append(phase_congruency(z))
        gradients.append(np.hypot(*(convolve(z, k, mode="constant") for k in (kernel, kernel.T))))
    ratio = lambda a, b, c: (2 * a * b + c) / (a**2 + b**2 + c)  # noqa: E731
    weight = np.maximum(*phases)
    if not weight.any():
        return np.nan
    return np.sum(ratio(*phases, 0.85) * ratio(*gradients, 160) * weight) / weight.sum()


def test_fsim_of_every_kind_of_input(mixed_images, agree):
    metric = lambda x, y: perceptual.fsim(x, y, data_range=1.0)  # noqa: E731
    agree({"fsim": (metric, feature_similarity)}, mixed_images((25, 22)), rtol=1e-3, atol=1e-4)


def test_fsim_is_one_at_equality_falls_with_blur_and_noise_and_is_symmetric():
    y = np.stack([scene(i) for i in range(4)])[..., None]
    metric = lambda a, b: perceptual.fsim(a, b, data_range=1.0)  # noqa: E731
    np.testing.assert_allclose(metric(y, y), 1.0, atol=1e-5)
    blurred = [metric(np.stack([gaussian_filter(i, (s, s, 0)) for i in y]), y) for s in (0.7, 1.5, 3.0)]
    noisy = [
        metric(y + s * np.random.default_rng(9).normal(size=y.shape).astype(np.float32), y)
        for s in (0.02, 0.1, 0.3)
    ]
    for row in (np.stack(blurred), np.stack(noisy)):
        assert (np.diff(row, axis=0) < 0).all() and (row > 0).all() and (row < 1).all()
    np.testing.assert_allclose(metric(y, y[::-1]), metric(y[::-1], y), rtol=1e-4)
    np.testing.assert_allclose(
        perceptual.fsim(255 * y, 255 * y[::-1], data_range=255.0), metric(y, y[::-1]), rtol=1e-3
    )


def test_fsim_of_recorded_pairs_and_bad_input():
    # What FSIM of an independent PyTorch library (piq 0.8.0) gives on these images; the last is
    # averaged down first.
    for shape, expected in (((49, 41), 0.8636), ((400, 400), 0.9478)):
        y = scene(0, shape)[None, ..., None]
        noise = 0.03 * np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
        x = np.clip(gaussian_filter(y, (0, 1.2, 1.2, 0)) + noise, 0, 1)
        assert float(perceptual.fsim(x, y, data_range=1.0)[0]) == pytest.approx(expected, abs=1e-4)
    x, y = x[:, :49, :41], y[:, :49, :41]
    assert np.isnan(perceptual.fsim(0 * x, 0 * y, data_range=1.0)[0])
    assert np.isnan(jax.jit(lambda a, b: perceptual.fsim(a, b, data_range=0.0))(x, y)[0])
    assert np.isnan(perceptual.fsim(x * np.nan, y, data_range=1.0)[0])
    with pytest.raises(ValueError, match="grey"):
        perceptual.fsim(np.repeat(x, 3, -1), np.repeat(y, 3, -1), data_range=1.0)


def test_semantic_score_is_one_for_the_truth_and_skips_absent_regions():
    truth, score = jnp.array([0.8, 0.9, jnp.nan]), perceptual.semantic_interpretability_score
    assert float(score(truth, truth)) == pytest.approx(1.0)
    assert float(score(jnp.array([0.4, 0.45, 1.0]), truth)) == pytest.approx(0.5)
    assert float(score(jnp.array([0.4, 0.6]), None)) == pytest.approx(0.5)


def test_noise_power_of_white_noise_is_flat_and_integrates_to_the_variance():
    noise = 7 * np.random.default_rng(0).normal(size=(2, 200, 16, 16)).astype(np.float32)
    spacing = (0.5, 0.25)
    spectrum = jax.jit(lambda x: texture.noise_power_spectrum(x, spacing=spacing, detrend=0))(noise)
    cell = 1 / (16 * spacing[0] * 16 * spacing[1])
    variance = noise - noise.mean((2, 3), keepdims=True)
    np.testing.assert_allclose(spectrum.sum((1, 2)) * cell, (variance**2).mean((1, 2, 3)), rtol=1e-4)
    direct = np.abs(np.fft.fft2(variance[0])) ** 2 * spacing[0] * spacing[1] / 256
    np.testing.assert_allclose(spectrum[0], direct.mean(0), rtol=1e-3, atol=1e-3)
    profile = texture.radial_profile(spectrum, spacing=spacing, bins=4)
    np.testing.assert_allclose(profile.values, 49 * 0.125, rtol=0.2)


def test_detrending_removes_cupping():
    y, x = np.mgrid[-1:1:24j, -1:1:24j]
    cup = 50 * (x**2 + y**2) + 20 * x + 3
    noise = np.random.default_rng(1).normal(size=(1, 20, 24, 24))
    options = {"spacing": (1.0, 1.0), "detrend": 2}
    np.testing.assert_allclose(
        texture.noise_power_spectrum(noise + cup, **options),
        texture.noise_power_spectrum(noise, **options),
        atol=1e-3,
    )
    with pytest.raises(ValueError, match="detrend"):
        texture.noise_power_spectrum(noise, spacing=(1, 1), detrend=3)


def test_smoothed_noise_is_far_in_distance_and_lower_in_peak():
    noise = np.random.default_rng(2).normal(size=(1, 40, 32, 32)).astype(np.float32)
    sharp = noise - gaussian_filter(noise, (0, 0, 2, 2))
    smooth = gaussian_filter(sharp, (0, 0, 1, 1))
    options = {"spacing": (0.7, 0.7), "detrend": 1, "bins": 8}
    assert float(texture.nps_distance(sharp, sharp, **options)[0]) == 0.0
    assert float(texture.nps_distance(0 * sharp, sharp, **options)[0]) == pytest.approx(1.0)
    assert 0.3 < float(texture.nps_distance(smooth, sharp, **options)[0]) < 1.0
    assert float(texture.nps_peak_frequency(smooth, **options)[0]) < float(
        texture.nps_peak_frequency(sharp, **options)[0]
    )
    assert np.isnan(texture.nps_distance(noise * np.nan, sharp, **options)[0])
