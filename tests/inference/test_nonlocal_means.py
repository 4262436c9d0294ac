"""Non-local means: what it keeps, and noise that it takes away."""

import jax.numpy as jnp
import numpy as np

from medgan_jax.inference.nonlocal_means import nonlocal_means


def stripes():
    return np.tile((np.arange(32) // 4 % 2).astype(np.float32), (32, 1))[None, ..., None]


def test_a_pattern_that_repeats_is_kept_and_its_noise_averaged():
    clean = stripes()
    noisy = clean + 0.1 * np.random.default_rng(0).normal(size=clean.shape).astype(np.float32)
    found = np.asarray(nonlocal_means(jnp.asarray(noisy), 0.1))
    assert np.sqrt(np.mean((found - clean) ** 2)) < 0.04


def test_without_strength_nothing_changes():
    image = np.random.default_rng(0).normal(size=(1, 16, 16, 2)).astype(np.float32)
    assert np.allclose(nonlocal_means(jnp.asarray(image), 1e-3), image, atol=1e-5)


def test_a_constant_image_stays():
    assert np.allclose(nonlocal_means(jnp.full((1, 16, 16, 1), 3.0), 0.5), 3)
