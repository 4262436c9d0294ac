"""Intensity maps come back to the value and unit that they started from, on NumPy and JAX arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_jax.data import intensity
from medgan_jax.errors import UserError

HU = np.arange(-1024, 3072, dtype=np.int16)
MAPS = [
    intensity.Affine(0.001, -0.5, "HU"),
    intensity.Window(-1024, 3071, "HU", to=(-1, 1)),
    intensity.hu_window("full", to=(0, 1)),
    intensity.MinMax.fit(HU, "HU", to=(-1, 1)),
    intensity.MaxScale.fit(HU, "HU"),
    intensity.ZScore.fit(HU, None, "HU"),
    intensity.compose(
        [intensity.ZScore.fit(HU, HU > 0, "HU"), intensity.Affine(0.25, 0.5, "standard deviations")]
    ),
]


@pytest.mark.parametrize("each", MAPS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("library", [np, jnp])
def test_every_stored_hounsfield_value_survives(each, library):
    x = library.asarray(HU)
    y = each.forward(x)
    assert y.dtype == np.float32 and each.unit == "HU"
    np.testing.assert_array_equal(np.rint(np.asarray(each.inverse(y))), HU)
    np.testing.assert_allclose(np.asarray(jax.jit(each.forward)(HU)), np.asarray(y), rtol=1e-6, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.floats(-2000, 2000), st.floats(1, 4000), st.floats(-5000, 5000), st.booleans())
def test_window_is_linear_inside_and_clips_outside(low, width, value, symmetric):
    to = (-1.0, 1.0) if symmetric else (0.0, 1.0)
    window = intensity.Window(low, low + width, "HU", to)
    y = window.forward(np.array([value], np.float64))
    expected = np.interp(value, [low, low + width], to)
    np.testing.assert_allclose(y, expected, atol=1e-9)
    np.testing.assert_allclose(window.inverse(y), np.clip(value, low, low + width), atol=1e-6)
    assert window.clips


def test_windows_of_radiology():
    assert intensity.Window.level_width(40, 400, "HU", (-1, 1)) == intensity.hu_window("soft_tissue", (-1, 1))
    assert intensity.Window.level_width(-600, 1500, "HU", (0, 1)) == intensity.hu_window("lung", (0, 1))
    assert intensity.Window.level_width(40, 80, "HU", (0, 1)) == intensity.hu_window("brain", (0, 1))
    assert intensity.Window.level_width(400, 1800, "HU", (0, 1)) == intensity.hu_window("bone", (0, 1))
    soft = intensity.hu_window("soft_tissue", (-1, 1))
    np.testing.assert_array_equal(soft.forward(np.array([-1024, -160, 40, 240, 3000])), [-1, -1, 0, 1, 1])
    np.testing.assert_array_equal(soft.inverse(np.array([-1.5, 0.0, 1.5])), [-160, 40, 240])
    with pytest.raises(UserError, match="lung, soft_tissue"):
        intensity.hu_window("liver", (0, 1))


def test_fits_are_what_numpy_computes():
    x = np.random.default_rng(0).gamma(2.0, 300.0, (20, 30))
    mask = x > 200
    fitted = intensity.MinMax.fit(x, "raw", (-1, 1))
    y = fitted.forward(x)
    assert y.min() == -1 and y.max() == pytest.approx(1)
    assert not fitted.clips and fitted.inverse(fitted.forward(np.array([1e6]))) == pytest.approx(1e6)
    y = intensity.ZScore.fit(x, mask, "raw").forward(x)[mask]
    assert y.mean() == pytest.approx(0, abs=1e-9) and y.std() == pytest.approx(1)
    window = intensity.Window.fit_percentiles(x, 1, 99, "raw", (0, 1), mask)
    np.testing.assert_allclose((window.low, window.high), np.percentile(x[mask], [1, 99]))
    assert intensity.MaxScale.fit(-x, "raw").maximum == x.max()


def test_images_of_one_value_stay_invertible():
    for value in (0.0, 7.0):
        x = np.full((4, 4), value, np.float32)
        for each in (
            intensity.MinMax.fit(x, "raw", (-1, 1)),
            intensity.MaxScale.fit(x, "raw"),
            intensity.ZScore.fit(x, None, "raw"),
            intensity.Window.fit_percentiles(x, 1, 99, "raw", (0, 1)),
        ):
            y = each.forward(x)
            assert np.isfinite(y).all()
            np.testing.assert_allclose(each.inverse(y), x)


def test_maps_that_make_no_sense_are_refused():
    for make in (
        lambda: intensity.Window(10, 10, "HU", (0, 1)),
        lambda: intensity.Window(0, np.nan, "HU", (0, 1)),
        lambda: intensity.MinMax(0, 1, "HU", (1, -1)),
        lambda: intensity.Affine(0, 1, "HU"),
        lambda: intensity.MaxScale(0, "HU"),
        lambda: intensity.ZScore(0, -1, "HU"),
        lambda: intensity.ZScore.fit(np.ones(3), np.zeros(3), "HU"),
        lambda: intensity.MinMax.fit(np.array([1, np.nan]), "HU", (0, 1)),
        lambda: intensity.Window.fit_percentiles(np.ones(3), 99, 1, "HU", (0, 1)),
        lambda: intensity.compose([]),
        lambda: intensity.require_unit(MAPS[0], "raw", "a.png"),
    ):
        with pytest.raises(UserError):
            make()


def test_chain_runs_backwards_and_clips_if_a_part_does():
    chain = intensity.compose([intensity.hu_window("lung", (0, 1)), intensity.Affine(2, -1, "window")])
    assert chain.clips and chain.unit == "HU"
    x = np.array([-1350.0, -600.0, 150.0])
    np.testing.assert_allclose(chain.forward(x), [-1, 0, 1])
    np.testing.assert_allclose(chain.inverse(chain.forward(x)), x)
