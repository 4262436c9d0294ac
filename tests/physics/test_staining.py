"""Stained tissue against scikit-image's separation, recovery of stains, what normalisers aim at."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import color

from medgan_jax.physics import staining

A, B = staining.SCANNERS["A"], staining.SCANNERS["B"]


stains = jax.jit(staining.macenko_stains)
scan = jax.jit(staining.scan, static_argnames="scanner")


def tissue(seed=0, side=96):
    """Concentrations of haematoxylin (nuclei) and eosin (stroma with gaps), `(side, side, 2)`."""
    random = np.random.default_rng(seed)
    row, column = np.mgrid[:side, :side]
    nuclei = np.zeros((side, side))
    for y, x in random.uniform(0, side, (40, 2)):
        nuclei = np.maximum(nuclei, np.clip(4.5 - np.hypot(row - y, column - x), 0, 1))
    eosin = random.uniform(0.4, 1.2, (side, side)) * (np.sin(row / 9) * np.cos(column / 11) > -0.6)
    haematoxylin = nuclei * random.uniform(0.7, 1.4, (side, side))
    return np.stack([haematoxylin, eosin * (1 - 0.9 * nuclei)], axis=-1).astype(np.float32)


def unit(vectors):
    vectors = np.asarray(vectors, float)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def degrees(a, b):
    return np.degrees(np.arccos(np.clip(np.sum(unit(a) * unit(b), axis=-1), -1, 1)))


def test_staining_is_that_of_scikit_image():
    amounts = np.abs(np.random.default_rng(1).normal(size=(6, 7, 3))).astype(np.float32) / 3
    found = staining.stain(amounts, color.rgb_from_hed)
    # scikit-image keeps densities in units of -log(1e-6).
    expected = color.combine_stains(amounts / -np.log(1e-6), color.rgb_from_hed)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    separated = color.separate_stains(np.asarray(found, float), color.hed_from_rgb) * -np.log(1e-6)
    np.testing.assert_allclose(staining.unstain(found, color.rgb_from_hed), separated, atol=1e-4)


def test_concentrations_come_back():
    amounts = tissue()
    np.testing.assert_allclose(staining.unstain(staining.stain(amounts)), amounts, atol=1e-4)
    assert np.all(staining.stain(jnp.zeros((2, 2, 2))) == 1)


def test_scanners_show_one_tissue_in_two_colours():
    a, b = (np.asarray(scan(tissue(), scanner)) for scanner in (A, B))
    assert a.shape == b.shape == (96, 96, 3) and min(a.min(), b.min()) >= 0 and max(a.max(), b.max()) <= 1
    assert np.abs(a - b).mean() > 0.05
    empty = np.all(tissue() == 0, axis=-1)
    np.testing.assert_allclose(a[empty], np.broadcast_to(A.white, a[empty].shape), atol=1e-6)
    reds = [image[~empty][:, 0].mean() for image in (a, b)]
    assert reds[0] > reds[1] + 0.05


@pytest.mark.parametrize("name", sorted(staining.SCANNERS))
def test_macenko_finds_the_stains(name):
    """Stated error: both vectors within 6 degrees where tissue of one stain alone exists."""
    scanner = dataclasses.replace(staining.SCANNERS[name], white=(1.0, 1.0, 1.0))
    found = stains(scan(tissue(2), scanner))
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
    assert degrees(found, scanner.stains).max() < 6


def test_macenko_normalises_and_leaves_the_reference_as_it_is():
    clear = [dataclasses.replace(scanner, white=(1.0, 1.0, 1.0)) for scanner in (A, B)]
    a, b = (scan(tissue(3), scanner) for scanner in clear)
    normalise = jax.jit(staining.macenko)
    np.testing.assert_allclose(normalise(a, a), a, atol=0.03)
    before, after = (float(jnp.mean(jnp.abs(x - b))) for x in (a, normalise(a, b)))
    assert after < 0.4 * before
    other = scan(tissue(4), clear[1])
    assert float(jnp.mean(jnp.abs(normalise(a, other) - b))) < 0.5 * before


def test_macenko_refuses_an_empty_image_with_nan():
    assert np.all(np.isnan(stains(jnp.ones((8, 8, 3)))))


def test_reinhard_matches_the_moments():
    a, b = scan(tissue(5), A), scan(tissue(6), B)
    moved = jax.jit(staining.reinhard)(a, b)
    colours, wanted = (np.asarray(staining.opponent_colours(x)).reshape(-1, 3) for x in (moved, b))
    np.testing.assert_allclose(colours.mean(0), wanted.mean(0), atol=0.02)
    np.testing.assert_allclose(colours.std(0), wanted.std(0), atol=0.02)
    np.testing.assert_allclose(staining.reinhard(a, a), a, atol=1e-3)


def test_opponent_colours_of_grey_have_a_small_hue():
    greys = jnp.linspace(0.1, 1, 5)[:, None] * jnp.ones(3)
    colours = staining.opponent_colours(greys)
    np.testing.assert_allclose(colours[:, 1:], 0, atol=0.01)
    assert np.all(np.diff(colours[:, 0]) > 0)


def test_unstained_cube_holds_both_components_but_no_band_alone_does():
    amounts = tissue(7)
    cube = staining.hyperspectral(amounts, 16)
    assert cube.shape == (96, 96, 16) and float(cube.min()) > 0 and float(cube.max()) <= 1
    np.testing.assert_allclose(staining.unstain(cube, staining.tissue_spectra(16)), amounts, atol=1e-3)
    density = np.asarray(staining.optical_density(cube)).reshape(-1, 16)
    assert np.linalg.matrix_rank(density, tol=1e-2) == 2
    # Mean absorption is far weaker than that of the stained section.
    assert density.mean() < 0.6 * np.asarray(staining.optical_density(scan(amounts, A))).mean()
    noisy = staining.hyperspectral(amounts, 16, noise=0.01, key=jax.random.key(0))
    np.testing.assert_allclose(np.std(noisy - cube), 0.01, rtol=0.05)
    with pytest.raises(ValueError, match="random key"):
        staining.hyperspectral(amounts, 16, noise=0.01)


def test_grey_is_luminance():
    image = np.random.default_rng(8).uniform(size=(4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(staining.grey(image)[..., 0], image @ [0.299, 0.587, 0.114], rtol=1e-5)


def test_rendering_has_gradients_and_batches():
    amounts = jnp.stack([jnp.asarray(tissue(seed, 16)) for seed in (9, 10)])
    whole = scan(amounts, B)
    np.testing.assert_allclose(jax.vmap(lambda c: staining.scan(c, B))(amounts), whole, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda c: jnp.mean(staining.scan(c, B))))(amounts)
    assert np.all(np.isfinite(gradient)) and np.all(gradient < 0)
    found = jax.jit(jax.vmap(staining.macenko_stains))(whole)
    assert found.shape == (2, 2, 3)
