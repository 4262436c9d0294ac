"""The MR forward model against numpy.fft and its own algebra: adjoints, projections, consistency."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.physics import fourier
from medgan_jax.physics.masks import make_mask

PLANE, VOLUME = (12, 15), (6, 8, 9)
AXES = {2: (-2, -1), 3: (-3, -2, -1)}


undersample = jax.jit(fourier.undersample, static_argnames=("noise", "axes"))
zero_filled = jax.jit(fourier.zero_filled, static_argnames="axes")
sense_forward = jax.jit(fourier.sense_forward, static_argnames="axes")
sense_adjoint = jax.jit(fourier.sense_adjoint, static_argnames="axes")
hard_data_consistency = jax.jit(fourier.hard_data_consistency, static_argnames="axes")
soft_data_consistency = jax.jit(fourier.soft_data_consistency, static_argnames="axes")
fftnc = jax.jit(fourier.fftnc, static_argnames="axes")


def random_complex(seed, shape):
    random = np.random.default_rng(seed)
    return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)


def random_mask(seed, shape):
    return (np.random.default_rng(seed).uniform(size=shape) < 0.4).astype(np.float32)


def inner(a, b):
    return complex(np.vdot(np.asarray(b, np.complex128), np.asarray(a, np.complex128)))


@pytest.mark.parametrize("shape", [PLANE, VOLUME, (3, 7, 10)])
def test_transform_is_the_centred_orthonormal_one_of_numpy(shape):
    axes = tuple(range(-min(len(shape), 3), 0))
    x = random_complex(0, shape)
    expected = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(x, axes), axes=axes, norm="ortho"), axes)
    np.testing.assert_allclose(fftnc(x, axes), expected, atol=1e-5)
    np.testing.assert_allclose(fourier.ifftnc(fftnc(x, axes), axes), x, atol=1e-5)


def test_plane_transform_leaves_leading_axes_alone_and_keeps_energy():
    x = random_complex(1, (2, 3, *PLANE))
    k = fourier.fft2c(x)
    np.testing.assert_allclose(k[1, 2], fourier.fft2c(x[1, 2]), atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(k), np.linalg.norm(x), rtol=1e-5)
    np.testing.assert_allclose(fourier.ifft2c(k), x, atol=1e-5)


def test_constant_image_has_all_its_energy_at_the_centre():
    k = np.abs(fourier.fft2c(jnp.ones(PLANE)))
    assert np.unravel_index(k.argmax(), k.shape) == (PLANE[0] // 2, PLANE[1] // 2)
    np.testing.assert_allclose(k.max(), np.sqrt(np.prod(PLANE)), rtol=1e-5)


def test_channels_go_to_complex_and_back():
    x = random_complex(2, PLANE)
    channels = fourier.to_channels(x)
    assert channels.shape == (*PLANE, 2) and channels.dtype == jnp.float32
    np.testing.assert_array_equal(fourier.to_complex(channels), x)
    np.testing.assert_allclose(fourier.magnitude(channels)[..., 0], np.abs(x), rtol=1e-6)
    with pytest.raises(ValueError, match="two channels"):
        fourier.to_complex(jnp.ones((4, 4, 3)))


def test_half_precision_is_transformed_in_single():
    x = jnp.ones((4, 4), jnp.bfloat16)
    assert fourier.fft2c(x).dtype == jnp.complex64
    assert fourier.to_complex(jnp.ones((4, 4, 2), jnp.bfloat16)).dtype == jnp.complex64


def test_magnitude_has_a_finite_gradient_at_zero():
    gradient = jax.grad(lambda c: jnp.sum(fourier.magnitude(c)))(jnp.zeros((2, 2, 2)))
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("shape", [PLANE, VOLUME])
def test_zero_filling_is_the_adjoint_and_their_product_a_projection(shape):
    axes, mask = AXES[len(shape)], random_mask(3, shape)
    x, y = random_complex(4, shape), random_complex(5, shape)
    left = inner(undersample(x, mask, axes=axes), y)
    right = inner(x, fourier.adjoint(y, mask, axes=axes))
    assert abs(left - right) < 1e-5 * np.linalg.norm(x) * np.linalg.norm(y)
    once = zero_filled(x, mask, axes=axes)
    np.testing.assert_allclose(zero_filled(once, mask, axes=axes), once, atol=1e-5)


@pytest.mark.parametrize("shape", [PLANE, VOLUME])
def test_coils_have_unit_energy_and_an_exact_adjoint(shape):
    axes, mask = AXES[len(shape)], random_mask(6, shape)
    coils = fourier.coil_sensitivities(shape, 5)
    np.testing.assert_allclose(jnp.sum(jnp.abs(coils) ** 2, -1), 1, rtol=1e-5)
    x, y = random_complex(7, shape), random_complex(8, (*shape, 5))
    left = inner(sense_forward(x, coils, mask, axes=axes), y)
    right = inner(x, sense_adjoint(y, coils, mask, axes=axes))
    assert abs(left - right) < 1e-5 * np.linalg.norm(x) * np.linalg.norm(y)
    everything = jnp.ones(shape)
    k = sense_forward(x, coils, everything, axes=axes)
    np.testing.assert_allclose(sense_adjoint(k, coils, everything, axes=axes), x, atol=1e-5)


def test_each_coil_sees_its_own_side_best():
    strength = np.abs(fourier.coil_sensitivities((32, 32), 4))
    sides = [strength[16, -1], strength[-1, 16], strength[16, 0], strength[0, 16]]
    assert sorted(np.argmax(sides, axis=1)) == [0, 1, 2, 3]


def test_coil_arguments_are_checked():
    with pytest.raises(ValueError, match="coils want a shape"):
        fourier.coil_sensitivities((8,), 4)
    with pytest.raises(ValueError, match="from the end"):
        fourier.sense_forward(jnp.ones((4, 4)), jnp.ones((4, 4, 2)), jnp.ones((4, 4)), axes=(0, 1))


def test_noise_has_the_stated_deviation_and_falls_on_samples_only():
    image, mask = 3.0 * jnp.ones((2, 64, 64)), random_mask(9, (64, 64))
    key = jax.random.key(0)
    clean = undersample(image, mask)
    noise = np.asarray(undersample(image, mask, noise=0.1, key=key) - clean)
    np.testing.assert_array_equal(noise[:, mask == 0], 0)
    np.testing.assert_allclose(np.sqrt(np.mean(np.abs(noise[:, mask == 1]) ** 2)), 0.3, rtol=0.05)
    np.testing.assert_allclose(noise.real[:, mask == 1].std(), 0.3 / np.sqrt(2), rtol=0.07)
    with pytest.raises(ValueError, match="key"):
        fourier.undersample(image, mask, noise=0.1)


@pytest.mark.parametrize("shape", [PLANE, VOLUME])
def test_hard_consistency_keeps_the_samples_and_nothing_else(shape):
    axes, mask = AXES[len(shape)], random_mask(10, shape)
    x, measured = random_complex(11, shape), random_complex(12, shape) * mask
    k = fftnc(hard_data_consistency(x, measured, mask, axes=axes), axes)
    np.testing.assert_allclose(k, np.where(mask == 1, measured, fftnc(x, axes)), atol=2e-5)


def test_hard_consistency_of_coils_restores_a_truth_and_moves_towards_it():
    mask, coils = random_mask(13, PLANE), fourier.coil_sensitivities(PLANE, 4)
    truth, guess = random_complex(14, PLANE), random_complex(15, PLANE)
    y = sense_forward(truth, coils, mask)
    np.testing.assert_allclose(
        hard_data_consistency(truth, y, mask, coils=coils), truth, atol=1e-5
    )
    closer = hard_data_consistency(guess, y, mask, coils=coils)
    assert np.linalg.norm(closer - truth) < np.linalg.norm(guess - truth)


def test_soft_consistency_follows_its_equation_between_its_limits():
    mask = random_mask(16, PLANE)
    x, y = random_complex(17, PLANE), random_complex(18, PLANE) * mask
    k, v = np.asarray(fourier.fft2c(x)), 2.5
    expected = (1 - mask) * k + mask * (k + v * y) / (1 + v)
    result = fourier.fft2c(soft_data_consistency(x, y, mask, v))
    np.testing.assert_allclose(result, expected, atol=2e-5)
    np.testing.assert_allclose(soft_data_consistency(x, y, mask, 0.0), x, atol=1e-5)
    np.testing.assert_allclose(
        soft_data_consistency(x, y, mask, 1e7), hard_data_consistency(x, y, mask), atol=1e-4
    )


def test_operators_can_be_compiled_batched_and_differentiated():
    mask = jnp.asarray(np.stack([random_mask(s, PLANE) for s in (19, 20)]))
    x, y = random_complex(21, (2, *PLANE)), random_complex(22, (2, *PLANE))

    def distance(channels, v):
        consistent = jax.vmap(fourier.soft_data_consistency, (0, 0, 0, None))
        out = consistent(fourier.to_complex(channels), y, mask, v)
        return jnp.sum(jnp.abs(out - x) ** 2)

    channels = fourier.to_channels(x) + 0.1
    gradient, slope = jax.jit(jax.grad(distance, argnums=(0, 1)))(channels, 1.0)
    assert np.all(np.isfinite(gradient)) and np.isfinite(slope)
    step = 1e-2
    numeric = (distance(channels, 1 + step) - distance(channels, 1 - step)) / (2 * step)
    np.testing.assert_allclose(slope, numeric, rtol=1e-2)
    batched = hard_data_consistency(x, y, mask)
    np.testing.assert_allclose(batched[1], hard_data_consistency(x[1], y[1], mask[1]), atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (15, 16), (6, 8, 10)])
def test_effective_rate_counts_what_a_real_image_reveals(shape):
    axes, mask = AXES[len(shape)], random_mask(23, shape)
    # A sample is determined where no real image is invisible: compare with the mask's mirror by brute force.
    mirrored = np.zeros(shape, bool)
    for index in np.argwhere(mask):
        centred = index - np.array(shape) // 2
        mirrored[tuple((-centred + np.array(shape) // 2) % shape)] = True
    expected = np.mean(mirrored | (mask == 1))
    np.testing.assert_allclose(fourier.effective_rate(mask, axes=axes), expected, rtol=1e-6)


def test_thirty_percent_of_gaussian_lines_determine_about_forty_two():
    rates = [fourier.effective_rate(make_mask("gaussian1d", (256, 256), 0.3, seed)) for seed in range(20)]
    np.testing.assert_allclose(np.mean(rates), 0.42, atol=0.01)
