"""The synthetic set of VA-GAN: squares where the code puts them, on noise of its scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.phantoms.squares import squares_image


def drawn(subtype, count=16, size=112, **options):
    keys = jax.random.split(jax.random.key(1), count)
    draw = jax.jit(jax.vmap(lambda key: squares_image(key, size, subtype=subtype, **options)))
    return jax.tree.map(np.asarray, draw(keys))


def test_each_subtype_has_a_square_in_the_middle_and_one_on_its_side():
    for subtype, sign in ((1, 1), (2, -1)):
        masks = drawn(subtype)["effect_mask"]
        assert masks[:, 52:60, 52:60].all()
        second = slice(56 + 32 - 4, 56 + 32 + 4) if sign > 0 else slice(56 - 32 - 4, 56 - 32 + 4)
        other = slice(56 - 32 - 4, 56 - 32 + 4) if sign > 0 else slice(56 + 32 - 4, 56 + 32 + 4)
        assert masks[:, second, second].all() and not masks[:, other, other].any()
        # Squares of 20 pixels that may overlap by the jitter's corner alone.
        assert np.all(masks.sum((1, 2)) == 2 * 400)
        assert len({mask.tobytes() for mask in masks}) > 12


def test_class_0_is_noise_alone_and_of_the_same_noise():
    without, with_squares = drawn(0), drawn(1)
    assert not without["effect_mask"].any() and not without["effect_map"].any()
    np.testing.assert_allclose(without["image"].min((1, 2, 3)), -1, atol=1e-6)
    np.testing.assert_allclose(without["image"].max((1, 2, 3)), 1, atol=1e-6)
    for index in range(16):
        rest = (with_squares["image"] - with_squares["effect_map"])[index, ..., 0]
        slope, _ = np.polyfit(without["image"][index, ..., 0].ravel(), rest.ravel(), 1)
        assert slope > 0
        correlation = np.corrcoef(without["image"][index].ravel(), rest.ravel())[0, 1]
        assert correlation > 1 - 1e-5


def test_squares_are_twice_the_noise_and_scale_with_the_contrast():
    for contrast in (1.0, 0.25):
        case = drawn(1, contrast=contrast)
        height = case["effect_map"].max((1, 2, 3))
        noise = (case["image"] - case["effect_map"]).std((1, 2, 3))
        np.testing.assert_allclose(height / noise, 2 * contrast, rtol=1e-4)


def test_noise_is_smooth_over_two_and_a_half_pixels():
    image = drawn(0, 64)["image"][..., 0]
    centred = image - image.mean((1, 2), keepdims=True)
    # White noise through a Gaussian of sigma has the correlation exp(-d^2 / 4 sigma^2).
    for distance in (1, 3, 5):
        found = (centred[:, distance:] * centred[:, :-distance]).mean() / (centred**2).mean()
        assert found == pytest.approx(np.exp(-(distance**2) / (4 * 2.5**2)), abs=0.05)


def test_half_the_size_halves_every_length():
    case = drawn(1, size=56)
    assert np.all(case["effect_mask"].sum((1, 2)) == 2 * 100) and case["image"].shape == (16, 56, 56, 1)


def test_the_subtype_may_be_traced_and_small_images_are_refused():
    traced = jax.jit(lambda subtype: squares_image(jax.random.key(0), 56, subtype=subtype)["effect_mask"])
    assert not traced(jnp.int32(0)).any() and traced(jnp.int32(2)).sum() == 200
    with pytest.raises(ValueError, match="at least 28"):
        squares_image(jax.random.key(0), 16, subtype=1)
