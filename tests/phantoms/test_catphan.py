"""The quality-control disc: attenuation of its parts, line pairs, sizes of discs, place of the edge."""

import functools

import jax
import numpy as np
import pytest

from medgan_jax.phantoms import catphan as phantom

SIZE = 512
PIXEL = phantom.FIELD_OF_VIEW_MM / SIZE


@functools.cache
def disc():
    return jax.tree.map(np.asarray, jax.jit(lambda key: phantom.catphan_slice(key, SIZE))(jax.random.key(0)))


def test_shapes_and_types():
    drawn = disc()
    assert drawn["image"].shape == (SIZE, SIZE, 1) and drawn["image"].dtype == np.float32
    assert drawn["low_contrast_mask"].dtype == np.int32 and drawn["rods"].shape == (7, 2)


def test_rods_have_their_hounsfield_units():
    rows, columns = disc()["rods"].astype(int).T
    np.testing.assert_allclose(disc()["image"][rows, columns, 0], phantom.RODS_HU, atol=0.1)
    assert np.all(disc()["image"][0] == -1000)


def test_low_contrast_discs_have_their_contrast_and_diameter():
    image, mask = disc()["image"][..., 0], disc()["low_contrast_mask"]
    water = np.median(image[np.abs(image) < 20])
    for index, contrast in ((1, 10.0), (7, 5.0), (13, 3.0)):
        assert abs(np.median(image[mask == index]) - water - contrast) < 0.05
    diameters = [2 * np.sqrt((mask == i + 1).sum() * PIXEL**2 / np.pi) for i in range(4)]
    np.testing.assert_allclose(diameters, phantom.DIAMETERS_MM[:4], rtol=0.05)


def test_line_pairs_have_their_frequency_share_and_contrast():
    image, mask = disc()["image"][..., 0], disc()["line_pair_mask"]
    assert set(np.unique(mask)) == {0, *phantom.LINE_PAIRS_PER_CM}
    for frequency in (1, 2, 4):
        values = image[mask == frequency]
        assert np.quantile(values, 0.95) > 990 and 0.35 < np.mean(values > 500) < 0.65


def test_the_edge_is_where_it_is_said_to_be():
    row, column, angle = disc()["edge"]
    along = np.arange(-6, 7)
    line = disc()["image"][..., 0][
        np.rint(row + along * np.cos(angle) - 0.5).astype(int),
        np.rint(column + along * np.sin(angle) - 0.5).astype(int),
    ]
    assert line[:5].min() > phantom.EDGE_HU - 1 and line[-5:].max() < 20
    assert np.deg2rad(2) <= angle <= np.deg2rad(10)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="at least 32"):
        phantom.catphan_slice(jax.random.key(0), 16)
