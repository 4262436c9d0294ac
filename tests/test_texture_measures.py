"""Metrics of noise and edges on images whose noise and sharpness are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medgan_jax import texture_measures
from medgan_jax.metrics import image as image_metrics
from medgan_jax.metrics import texture

RNG = np.random.default_rng(0)


def hounsfield(x):
    return 1000 * x


def test_flattest_places_avoid_structure_and_air():
    picture = np.full((1, 32, 32), -1000.0, np.float32)
    picture[:, :, 8:] = 50 + 5 * RNG.normal(size=(1, 32, 24))
    picture[:, 16:, 8:] += np.where(np.arange(24) % 6 < 3, 300, 0)
    corners = texture.flattest_places(jnp.asarray(picture), size=8, count=3, between=(-150, 200))
    assert ((corners[..., 0] <= 8) & (corners[..., 1] >= 8)).all()
    squares = texture.squares_at(jnp.asarray(picture), corners, 8)
    assert squares.shape == (1, 3, 8, 8)
    row, column = np.asarray(corners)[0, 1]
    assert np.array_equal(squares[0, 1], picture[0, row : row + 8, column : column + 8])


def test_equal_noise_has_no_distance_and_half_of_it_half_the_ratio():
    clean = np.full((2, 64, 64, 1), 0.05, np.float32)
    noise = 0.02 * RNG.normal(size=(3, *clean.shape)).astype(np.float32)
    distance, ratio = texture_measures.noise_texture(
        "out", "truth", to_hu=hounsfield, pixel_mm=2.0, side_mm=32
    )
    batch = {"truth": jnp.asarray(clean + noise[0])}
    same, half, none = (
        {"out": jnp.asarray(clean + each)} for each in (noise[0], 0.5 * noise[0], 0 * noise[0])
    )
    assert np.allclose(distance.per_case(same, batch), 0, atol=1e-4)
    assert np.allclose(ratio.per_case(half, batch), 0.5, atol=1e-3)
    assert np.allclose(distance.per_case(none, batch), 1, atol=1e-3)
    # Blurred noise of the same strength is another texture.
    soft = ndimage.gaussian_filter(noise[1], (0, 1.5, 1.5, 0))
    soft = {"out": jnp.asarray(clean + soft * noise[0].std() / soft.std())}
    assert (np.asarray(distance.per_case(soft, batch)) > 0.5).all()


def test_a_blurred_edge_has_a_lower_mtf():
    rows, columns = np.mgrid[:64, :64]
    edge = np.clip(0.5 + (32.3 - rows - 0.1 * (columns - 32)), 0, 1)
    pictures = np.stack([ndimage.gaussian_filter(edge, width) for width in (0.6, 1.5)])[..., None]
    (metric,) = texture_measures.edge_sharpness("out", "edge", pixel_mm=0.5, reach_mm=6, along_mm=10)
    batch = {"edge": jnp.array([[32.0, 32.0, 0.1]])}
    sharp, blurred = (
        metric.summary(jax.tree.map(np.asarray, metric.per_case({"out": jnp.asarray(each)[None]}, batch)))
        for each in pictures
    )
    # A Gaussian's transfer is a half at 0.1874 / deviation, here with that of the pixel.
    assert blurred == pytest.approx(0.1874 / (1.5 * 0.5), rel=0.1)
    assert sharp > 1.6 * blurred
    flat = {"region": np.ones((2, 12, 10))}
    assert np.isnan(metric.summary(flat))


def test_gradients_of_a_blurred_image_are_far_from_those_of_the_sharp_one():
    sharp = (RNG.uniform(size=(2, 12, 12, 12, 1)) > 0.5).astype(np.float32)
    soft = ndimage.gaussian_filter(sharp, (0, 1, 1, 1, 0))
    (metric,) = texture_measures.gradient_statistics("out", "truth")
    batch = {"truth": jnp.asarray(sharp)}
    assert np.allclose(metric.per_case({"out": jnp.asarray(sharp[:, ::-1])}, batch), 0, atol=0.05)
    assert (np.asarray(metric.per_case({"out": jnp.asarray(soft)}, batch)) > 0.5).all()
    assert np.allclose(metric.per_case({"out": jnp.zeros_like(batch["truth"])}, batch), 1)
    slopes = image_metrics.gradient_distance(jnp.zeros((1, 4, 4, 1)), jnp.ones((1, 4, 4, 1)))
    assert np.isnan(slopes).all()


def test_cases_of_one_group_alone_and_only_the_window():
    whole, *_ = texture_measures.windowed_fidelity("out", "truth", to_hu=hounsfield, window=(-160, 240))
    group = texture_measures.only(whole, "dose", 2.0, "psnr_2")
    batch = {"truth": jnp.full((2, 16, 16, 1), 0.1), "dose": jnp.array([1.0, 2.0])}
    outputs = {"out": jnp.array([5.0, 0.06])[:, None, None, None] * jnp.ones((2, 16, 16, 1))}
    values = jax.tree.map(np.asarray, group.per_case(outputs, batch))
    # 40 of 400 HU; the other case is cut off at 240.
    assert group.summary(values) == pytest.approx(20, abs=1e-3)
    assert values["value"][0] == pytest.approx(20 * np.log10(400 / 140), abs=1e-3)
    assert np.isnan(group.summary({"value": np.ones(2), "counts": np.zeros(2, bool)}))
