"""Coarse acquisitions against numpy, scipy.ndimage and scipy.interpolate, and what must survive them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.interpolate import LinearNDInterpolator

from medgan_jax.physics import resolution

BUNDLE = resolution.fibre_bundle((40, 36), 3.5, seed=1)


truncate = jax.jit(resolution.truncate_kspace, static_argnames=("factor", "axes", "same_grid"))
signals_of = jax.jit(resolution.fibre_signals, static_argnames=("bundle", "gain", "noise"))
from_fibres = jax.jit(resolution.from_fibres, static_argnames="bundle")


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_truncation_keeps_the_centre_of_kspace_alone():
    volume = noise(0, 8, 12, 10, 1)
    found = np.asarray(truncate(volume, (2, 3), (-4, -3)))
    kept = np.fft.fftshift(np.fft.fftn(volume[..., 0]))
    mask = np.zeros((8, 12, 10))
    mask[2:6, 4:8] = 1
    expected = np.fft.ifftn(np.fft.ifftshift(kept * mask))
    # The lowest frequency kept of an even number has no mirror: numpy's image has an imaginary part there.
    np.testing.assert_allclose(found[..., 0].mean(), volume.mean(), atol=1e-6)
    assert np.linalg.norm(found[..., 0] - expected.real) < 0.3 * np.linalg.norm(expected)
    image = noise(1, 15, 21, 1)
    found = truncate(image, (5, 3), (-3, -2))
    mask = np.zeros((15, 21))
    mask[6:9, 7:14] = 1
    expected = np.fft.ifft2(np.fft.ifftshift(np.fft.fftshift(np.fft.fft2(image[..., 0])) * mask)).real
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-5)


def test_truncation_onto_a_small_grid_samples_that_on_the_same_grid():
    image = noise(2, 15, 21, 2)
    small = truncate(image, 3, (-3, -2), same_grid=False)
    same = truncate(image, 3, (-3, -2))
    assert small.shape == (5, 7, 2)
    np.testing.assert_allclose(small, same[::3, ::3], atol=1e-5)


def test_blur_is_that_of_scipy_within_the_border():
    image = noise(3, 30, 26, 1)
    found = resolution.blur(image, (1.2, 0.8), (-3, -2))
    expected = ndimage.gaussian_filter(image[..., 0], (1.2, 0.8), truncate=8)
    np.testing.assert_allclose(found[8:-8, 8:-8, 0], expected[8:-8, 8:-8], atol=1e-4)


@pytest.mark.parametrize("factor", [2, 3])
def test_coarse_samples_do_not_shift_and_keep_constants(factor):
    ramp = jnp.broadcast_to(jnp.arange(24.0)[:, None, None, None], (24, 6, 6, 1))
    for coarse in (
        resolution.thick_slices(ramp, factor, -4),
        resolution.blur_and_decimate(ramp, factor, (-4,)),
    ):
        assert coarse.shape == (24 // factor, 6, 6, 1)
        centres = ramp.reshape(-1, factor, 6, 6, 1).mean(1)
        np.testing.assert_allclose(coarse[2:-2], centres[2:-2], atol=1e-3)
        np.testing.assert_allclose(resolution.thick_slices(jnp.ones((24, 2, 2, 1)), factor, -4), 1, atol=1e-6)


def test_a_thin_slice_is_spread_by_the_profile():
    volume = np.zeros((45, 1, 1, 1), np.float32)
    volume[22] = 1
    response = [
        np.asarray(resolution.thick_slices(np.roll(volume, s, 0), 3, -4, width=3.0))[7] for s in (-1, 0, 1)
    ]
    response = np.ravel(response)
    np.testing.assert_allclose(response[0], response[2], rtol=1e-5)
    np.testing.assert_allclose(response[0] / response[1], 2 ** -((2 / 3) ** 2), rtol=1e-4)


def test_fibres_average_their_cells_and_interpolate_between_centres():
    image = noise(4, 2, 40, 36, 1)
    signals = signals_of(image, BUNDLE)
    fibres = len(BUNDLE.centres)
    expected = ndimage.mean(image[1, ..., 0], BUNDLE.cell, np.arange(fibres))
    np.testing.assert_allclose(signals[1, :, 0], expected, atol=1e-5)
    found = np.asarray(from_fibres(signals, BUNDLE))
    grid = np.stack(np.mgrid[:40, :36], axis=-1)
    reference = LinearNDInterpolator(BUNDLE.centres, np.asarray(signals)[1, :, 0])(grid)
    inside = np.isfinite(reference)
    assert inside.mean() > 0.8
    np.testing.assert_allclose(found[1, ..., 0][inside], reference[inside], atol=1e-4)


def test_fibre_density_is_hexagonal_and_each_cell_has_pixels():
    assert abs(len(BUNDLE.centres) / (40 * 36 / (3.5**2 * np.sqrt(3) / 2)) - 1) < 0.15
    assert np.bincount(BUNDLE.cell.ravel()).min() >= 1
    np.testing.assert_allclose(BUNDLE.weights.sum(-1), 1, atol=1e-5)
    with pytest.raises(ValueError, match="at least 2"):
        resolution.fibre_bundle((10, 10), 1.0)


def test_fibre_noise_and_gradients():
    image = jnp.ones((40, 36, 1))
    noisy = signals_of(image, BUNDLE, gain=0.1, noise=0.05, key=jax.random.key(0))
    np.testing.assert_allclose(np.std(noisy), np.hypot(0.1, 0.05), rtol=0.25)
    with pytest.raises(ValueError, match="random key"):
        resolution.fibre_signals(image, BUNDLE, gain=0.1)
    there = jax.grad(lambda x: jnp.sum(from_fibres(signals_of(x, BUNDLE), BUNDLE)))(image)
    np.testing.assert_allclose(jnp.sum(there), 40 * 36, rtol=1e-4)


def test_axes_and_sides_that_do_not_fit_are_refused():
    for call in (resolution.truncate_kspace, resolution.blur_and_decimate):
        with pytest.raises(ValueError, match="multiple"):
            call(jnp.ones((9, 8, 1)), 2, (-3,))
        with pytest.raises(ValueError, match="no spatial axis"):
            call(jnp.ones((9, 8, 2)), 2, (-1,))
