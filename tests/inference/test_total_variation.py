"""Total variation against scikit-image, its own optimality, and sampling that determines an image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.restoration import denoise_tv_chambolle

from medgan_jax.inference import total_variation
from medgan_jax.physics import fourier


@pytest.fixture(scope="module")
def square():
    """A square of ones, and the same with noise."""
    clean = np.zeros((32, 32), np.float32)
    clean[8:20, 8:24] = 1
    return clean, (clean + 0.2 * np.random.default_rng(0).normal(size=clean.shape)).astype(np.float32)


def objective(x, y, weight):
    down, across = np.diff(x, axis=0, append=x[-1:]), np.diff(x, axis=1, append=x[:, -1:])
    return 0.5 * np.sum((x - y) ** 2) + weight * np.hypot(down, across).sum()


def test_denoising_reaches_the_optimum_of_scikit_image(square):
    _, noisy = square
    ours = np.asarray(total_variation.denoise(jnp.asarray(noisy)[None, ..., None], 0.2, steps=200))[0, ..., 0]
    theirs = denoise_tv_chambolle(noisy, weight=0.2, eps=1e-9, max_num_iter=2000)
    assert objective(ours, noisy, 0.2) <= objective(theirs, noisy, 0.2) * 1.001
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < 5e-3


def test_channels_keep_their_edges_together_and_any_rank_is_taken(square):
    clean, noisy = square
    both = jnp.stack([jnp.asarray(noisy), jnp.asarray(2 * noisy)], axis=-1)[None]
    first, second = np.moveaxis(np.asarray(total_variation.denoise(both, 0.2))[0], -1, 0)
    assert np.allclose(second, 2 * first, atol=1e-4)
    volume = np.repeat(noisy[None, :, :, None], 3, axis=0)[None]
    assert (
        np.abs(np.asarray(total_variation.denoise(jnp.asarray(volume), 0.2))[0, 1, ..., 0] - clean).mean()
        < 0.06
    )


def test_a_piecewise_constant_image_comes_back_from_a_quarter_of_its_frequencies(square):
    clean, _ = square
    mask = (np.random.default_rng(1).uniform(size=(32, 32)) < 0.2).astype(np.float32)
    mask[12:20, 12:20] = 1
    measured = mask * fourier.fft2c(jnp.asarray(clean)[None])
    found = np.asarray(jax.jit(lambda y: total_variation.reconstruct(y, mask, 1e-3, steps=150))(measured))[0]
    zero_filled = np.abs(np.asarray(fourier.ifft2c(measured))[0])
    assert np.abs(np.abs(found) - clean).mean() < 0.2 * np.abs(zero_filled - clean).mean()
