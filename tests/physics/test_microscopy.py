"""Phase contrast and DIC against their weak limits, scipy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from medgan_jax.physics import microscopy


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def cell(height=1.0):
    row, column = np.mgrid[:64, :64] - 32
    return (height * np.sqrt(np.clip(1 - (row**2 + column**2) / 12.0**2, 0, None))).astype(np.float32)


phase_contrast = jax.jit(microscopy.phase_contrast, static_argnames="halo")
dic = jax.jit(microscopy.differential_interference_contrast)


def test_phase_delay_of_a_cell():
    np.testing.assert_allclose(
        microscopy.phase_delay(5.5, index_difference=0.05, wavelength=0.55), np.pi, rtol=1e-5
    )


def test_weak_phase_contrast_is_linear_and_loses_what_is_smooth():
    phase = 1e-3 * ndimage.gaussian_filter(noise(0, 96, 80), 2) * 10
    smooth = ndimage.gaussian_filter(phase, 6, truncate=8)
    for shift, amplitude in ((-np.pi / 2, 0.5), (np.pi / 2, 0.3)):
        found = phase_contrast(phase, halo=6.0, amplitude=amplitude, shift=shift)
        expected = 1 + 2 * np.sin(shift) * (phase - smooth) / amplitude
        np.testing.assert_allclose(found[40:56, 40:-40], expected[40:56, 40:-40], atol=3e-4)


def test_strong_phase_contrast_is_the_interference_of_complex_light():
    phase, absorption = cell(2.5), 0.1 * cell()
    light = np.exp(1j * phase - absorption)
    through = ndimage.gaussian_filter(light.real, 5, truncate=8) + 1j * ndimage.gaussian_filter(
        light.imag, 5, truncate=8
    )
    seen = light - through + 0.4 * np.exp(1j * 0.7) * through
    found = phase_contrast(phase, halo=5.0, amplitude=0.4, shift=0.7, absorption=absorption)
    np.testing.assert_allclose(found, np.abs(seen) ** 2 / 0.16, atol=2e-3)


def test_cells_are_dark_in_a_bright_halo_on_an_even_background():
    image = np.asarray(phase_contrast(cell(), halo=6.0))
    np.testing.assert_allclose(image[:3, :3], 1, atol=0.02)
    assert image[22:43, 32].min() < 0.7
    assert image[32, 46:50].max() > 1.1
    shifted = np.asarray(phase_contrast(cell() + 1.3, halo=6.0))
    np.testing.assert_allclose(shifted, image, atol=1e-4)


def test_dic_of_a_ramp_depends_on_the_slope_along_the_shear():
    row, column = np.mgrid[:20, :24].astype(np.float32)
    for angle in (0.0, 0.6, np.pi / 2, 2.5):
        found = dic(0.10 * column + 0.05 * row, shear=1.6, angle=angle, bias=1.2)
        slope = 1.6 * (0.10 * np.cos(angle) + 0.05 * np.sin(angle))
        np.testing.assert_allclose(found[3:-3, 3:-3], np.sin((slope + 1.2) / 2) ** 2, atol=1e-5)


def test_dic_is_lit_from_one_side_and_turns_with_the_shear():
    image = np.asarray(dic(cell(), shear=1.0, angle=0.0))
    assert image[32, 24] > 0.51 and image[32, 40] < 0.49
    np.testing.assert_allclose(image[:4], 0.5, atol=1e-5)
    np.testing.assert_allclose(dic(cell().T, shear=1.0, angle=np.pi / 2), image.T, atol=1e-5)
    other = np.asarray(dic(cell(), shear=-1.0, angle=0.0))
    np.testing.assert_allclose(image + other, 1, atol=1e-5)
    dim = dic(cell(), shear=1.0, angle=0.0, absorption=0.5)
    np.testing.assert_allclose(dim, image * np.exp(-1), atol=1e-5)


def test_both_have_gradients_and_batches():
    def total(phase, shear):
        image = microscopy.differential_interference_contrast(phase, shear=shear)
        return jnp.sum(jnp.square(image) + microscopy.phase_contrast(phase, halo=3.0))

    phases = jnp.asarray(noise(1, 3, 12, 10))
    value_and_gradient = jax.jit(jax.vmap(jax.value_and_grad(total, argnums=(0, 1)), (0, None)))
    _, (gradient, slope) = value_and_gradient(phases, 0.8)
    direction, step = noise(2, *phases.shape), 1e-2
    up, _ = value_and_gradient(phases + step * direction, 0.8)
    down, _ = value_and_gradient(phases - step * direction, 0.8)
    np.testing.assert_allclose(
        jnp.sum(gradient * direction, (1, 2)), (up - down) / (2 * step), rtol=0.02, atol=0.05
    )
    assert np.all(np.isfinite(slope))
