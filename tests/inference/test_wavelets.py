"""Wavelet shrinkage keeps what is smooth or strong and takes noise away."""

import jax
import numpy as np
import pytest

from medgan_jax.inference import wavelets

wavelet_shrinkage = jax.jit(wavelets.wavelet_shrinkage)


@pytest.mark.parametrize("shape", [(2, 32, 32, 1), (1, 9, 14, 3), (1, 8, 12, 10, 1), (1, 4, 4, 1)])
def test_nothing_is_lost_at_a_threshold_of_zero(shape):
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(wavelet_shrinkage(images, 0.0), images, atol=1e-5)


def test_a_constant_stays_and_noise_goes():
    random = np.random.default_rng(1)
    flat = np.full((1, 32, 32, 1), 0.7, np.float32)
    np.testing.assert_allclose(wavelet_shrinkage(flat, 1.0), flat, atol=1e-5)
    noisy = flat + 0.1 * random.normal(size=flat.shape).astype(np.float32)
    left = np.std(np.asarray(wavelet_shrinkage(noisy, 0.3)))
    assert left < 0.2 * np.std(noisy)


def test_an_edge_survives_what_removes_noise():
    clean = np.zeros((1, 32, 32, 1), np.float32)
    clean[:, :, 16:] = 1.0
    noisy = clean + 0.1 * np.random.default_rng(2).normal(size=clean.shape).astype(np.float32)
    made = np.asarray(wavelet_shrinkage(noisy, 0.25))
    assert np.square(made - clean).mean() < 0.3 * np.square(noisy - clean).mean()
    assert made[0, :, 15].mean() < 0.2 and made[0, :, 16].mean() > 0.8


def test_a_shift_of_the_image_shifts_the_result():
    image = np.random.default_rng(3).normal(size=(1, 64, 64, 1)).astype(np.float32)
    one, other = (np.asarray(wavelet_shrinkage(x, 0.5)) for x in (image, np.roll(image, 3, axis=2)))
    inner = slice(16, 48)
    np.testing.assert_allclose(other[:, inner, 19:51], one[:, inner, 16:48], atol=1e-5)
