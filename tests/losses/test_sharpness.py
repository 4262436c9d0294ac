"""Local binary patterns against scikit-image, and what the sharpness map says of blur."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import local_binary_pattern

from medgan_jax.losses import sharpness


def test_codes_are_those_of_scikit_image_without_a_threshold():
    image = np.random.default_rng(0).uniform(0, 1, (24, 20))
    ours = np.asarray(
        sharpness.local_binary_patterns(jnp.asarray(image, jnp.float32)[None], threshold=-1e-6)
    )[0]
    theirs = local_binary_pattern(image, 8, 1, method="uniform")
    # Its border sees zeros outside, ours the border again.
    assert (ours == theirs)[1:-1, 1:-1].mean() > 0.995


def test_a_neighbour_counts_only_if_brighter_by_the_threshold():
    image = np.zeros((1, 5, 5), np.float32)
    image[0, 2, 2] = -0.01
    assert int(sharpness.local_binary_patterns(jnp.asarray(image), threshold=0.016)[0, 2, 2]) == 0
    image[0, 2, 2] = -0.1
    assert int(sharpness.local_binary_patterns(jnp.asarray(image), threshold=0.016)[0, 2, 2]) == 8


def test_the_blurred_half_is_less_sharp():
    image = np.random.default_rng(0).uniform(0, 1, (64, 64)).astype(np.float32)
    image[:, 32:] = ndimage.gaussian_filter(image, 3)[:, 32:]
    found = np.asarray(sharpness.lbp_sharpness(jnp.asarray(image)[None, ..., None], window=9))[0, ..., 0]
    assert (found.min(), found.max()) == pytest.approx((0, 1))
    assert found[:, :24].mean() > found[:, 40:].mean() + 0.4


def test_the_window_s_share_by_hand():
    image = np.random.default_rng(0).uniform(0, 1, (12, 12)).astype(np.float32)
    scaled = (image - image.min()) / np.ptp(image)
    codes = np.asarray(sharpness.local_binary_patterns(jnp.asarray(scaled)[None]))[0]
    share = np.array(
        [
            [np.mean(codes[max(0, i - 2) : i + 3, max(0, j - 2) : j + 3] >= 6) for j in range(12)]
            for i in range(12)
        ]
    )
    expected = (share - share.min()) / np.ptp(share)
    found = sharpness.lbp_sharpness(jnp.asarray(image)[None, ..., None], window=5)
    assert np.allclose(found[0, ..., 0], expected, atol=1e-5)


