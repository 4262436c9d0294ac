"""Landmarks, Jacobians, local correlation, and clinical quantities against NumPy, SciPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass

from medgan_jax.metrics import clinical, registration


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 5.0))
def test_tre_agrees_with_numpy(seed, scale):
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(2, 3, 5, 3)).astype(np.float32)
    spacing = np.array([3.0, 1.0, 0.5])
    distance = np.linalg.norm((a - b) * spacing, axis=-1)
    reductions = {
        "mean": distance.mean(1),
        "rms": np.sqrt((distance**2).mean(1)),
        "median": np.median(distance, 1),
        "max": distance.max(1),
    }
    for name, expected in reductions.items():
        np.testing.assert_allclose(
            registration.tre(a, b, spacing=spacing, reduction=name), expected, rtol=1e-4
        )
        scaled = registration.p2p_error(a, b, spacing=scale * spacing, reduction=name)
        np.testing.assert_allclose(scaled, scale * expected, rtol=1e-4)


def test_absent_landmarks_do_not_count_and_bad_conventions_do_not_pass():
    a = jnp.zeros((1, 3, 2)).at[0, 2].set(jnp.nan)
    b = jnp.zeros((1, 3, 2)).at[0, 0].set(jnp.array([3.0, 4.0]))
    assert float(registration.tre(a, b, spacing=(1, 1), reduction="mean")[0]) == pytest.approx(2.5)
    assert np.isnan(jax.jit(lambda x, y: registration.tre(x, y, spacing=(1, 0), reduction="mean"))(a, b)[0])
    with pytest.raises(ValueError, match="reduction"):
        registration.tre(a, b, spacing=(1, 1), reduction="sum")
    with pytest.raises(ValueError, match="does not fit"):
        registration.tre(a, b, spacing=(1, 1, 1), reduction="mean")
    with pytest.raises(TypeError):
        registration.tre(a, b, spacing=(1, 1))


def test_gradient_of_tre_is_finite_at_equality():
    points = jnp.ones((1, 4, 2))
    gradient = jax.grad(lambda x: registration.tre(x, points, spacing=(1, 1), reduction="rms")[0])(points)
    assert bool(jnp.all(jnp.isfinite(gradient)))


def test_centroids_agree_with_scipy():
    generator = np.random.default_rng(0)
    masks = (generator.random((2, 6, 7, 8, 3)) < 0.3).astype(np.float32)
    masks[1, ..., 2] = 0
    value = registration.centroids(masks)
    np.testing.assert_allclose(value[0, 1], center_of_mass(masks[0, ..., 1]), rtol=1e-5)
    assert np.isnan(value[1, 2]).all()


@pytest.mark.parametrize("rank", [2, 3])
def test_jacobian_of_linear_maps_and_folds(rank):
    generator = np.random.default_rng(rank)
    matrix = np.eye(rank) + 0.2 * generator.normal(size=(rank, rank))
    grid = np.stack(np.meshgrid(*[np.arange(6.0)] * rank, indexing="ij"), axis=-1)
    field = (grid @ (matrix - np.eye(rank)).T)[None].astype(np.float32)
    np.testing.assert_allclose(registration.jacobian_determinant(field), np.linalg.det(matrix), rtol=1e-4)
    mirrored = (-2 * grid[..., :1] * np.eye(rank)[0])[None].astype(np.float32)
    assert float(registration.fold_fraction(mirrored)[0]) == 1.0
    assert float(registration.fold_fraction(0 * field)[0]) == 0.0
    np.testing.assert_allclose(registration.sd_log_jacobian(field, floor=1e-3), 0, atol=1e-5)
    assert np.isnan(jax.jit(registration.fold_fraction)(field * np.nan)[0])


def test_jacobian_agrees_with_numpy_gradients():
    field = np.random.default_rng(3).normal(size=(1, 7, 8, 9, 3)).astype(np.float32)
    gradients = np.stack([np.stack(np.gradient(field[0, ..., c]), -1) for c in range(3)], -2)
    expected = np.linalg.det(gradients + np.eye(3))[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(registration.jacobian_determinant(field)[0], expected, rtol=1e-4, atol=1e-4)
    value = registration.sd_log_jacobian(field, floor=0.01)[0]
    np.testing.assert_allclose(value, np.log(np.maximum(expected, 0.01)).std(), rtol=1e-4)


def test_local_correlation_by_windows_and_on_constant_images():
    generator = np.random.default_rng(4)
    a, b = generator.random((2, 1, 12, 11, 1)).astype(np.float32)
    windows = [np.lib.stride_tricks.sliding_window_view(x[0, ..., 0], (9, 9)).reshape(-1, 81) for x in (a, b)]
    r = [np.corrcoef(p, q)[0, 1] for p, q in zip(*windows, strict=True)]
    value = registration.local_ncc(a, b, window=9, eps=0.0)[0]
    np.testing.assert_allclose(value, np.mean(np.square(r)), rtol=1e-3)
    constant = jnp.full_like(a, 0.4)
    metric = lambda x, y: registration.local_ncc(x, y, window=9, eps=1e-6)[0]  # noqa: E731
    assert float(metric(constant, b)) == pytest.approx(0, abs=1e-5)
    assert bool(jnp.all(jnp.isfinite(jax.grad(metric)(constant, constant))))
    assert float(registration.local_ncc(2 * a + 1, a, window=9, eps=0.0)[0]) == pytest.approx(1.0, abs=1e-3)


def test_areas_volumes_and_ejection_fraction():
    mask = np.zeros((2, 4, 10, 10, 1), np.uint8)
    mask[0, :, 2:7, 2:6] = 1
    assert float(clinical.area(mask[:, 0], spacing=(2.0, 0.5))[0]) == pytest.approx(20.0)
    value = clinical.volume(mask, spacing=(8.0, 2.0, 0.5), slice_gap=2.0)
    np.testing.assert_allclose(value, [4 * 20 * 10 / 1000, 0])
    np.testing.assert_allclose(
        clinical.ejection_fraction(jnp.array([120.0, 0.0]), jnp.array([48.0, 0.0])), [60, np.nan]
    )
    assert np.isnan(jax.jit(lambda m: clinical.area(m, spacing=(1.0, 1.0)))(0.5 * mask[:, 0])[0])
    assert np.isnan(clinical.area(mask[:, 0], spacing=(1.0, -1.0))[0])


def test_infarct_error_is_per_patient_and_not_per_slice():
    a, b = np.zeros((2, 3, 8, 8, 1), np.uint8)
    a[0, :2, :2], a[1, :4, :4], b[2, :3] = 1, 1, 1
    np.testing.assert_allclose(clinical.area_error(a, b, spacing=(1, 1)), [4, 16, 24])
    value = clinical.area_mae(a, b, spacing=(1, 1), patients=np.array([0, 0, 2]), n_patients=3)
    np.testing.assert_allclose(value, [10, np.nan, 24])
    heart = np.zeros_like(a)
    heart[:, :4, :4] = 1
    np.testing.assert_allclose(clinical.infarct_share(a, heart), [25, 100, 0])


def test_cup_to_disc_ratio_is_vertical():
    cup, disc = np.zeros((2, 1, 20, 20, 1))
    cup[:, 8:12, 2:18], disc[:, 5:15, 8:12] = 1, 1
    assert float(clinical.cup_to_disc_ratio(cup, disc)[0]) == pytest.approx(0.4)
    assert np.isnan(clinical.cup_to_disc_ratio(cup, 0 * disc)[0])


def test_identification_needs_the_nearest_centroid_within_the_tolerance():
    reference = jnp.array([[[0.0, 0.0], [0.0, 30.0], [0.0, 60.0], [jnp.nan, jnp.nan]]])
    predicted = jnp.array([[[0.0, 5.0], [0.0, 46.0], [jnp.nan, jnp.nan], [0.0, 90.0]]])
    hits = clinical.identification(predicted, reference, spacing=(1, 1), tolerance=20)
    np.testing.assert_allclose(hits[0], [1, 0, 0, np.nan])
    value = clinical.identification_rate(predicted, reference, spacing=(1, 1), tolerance=20)
    assert float(value[0]) == pytest.approx(1 / 3)
    assert float(clinical.identification_rate(predicted, reference, spacing=(1, 5), tolerance=20)[0]) == 0.0


def test_centreline_error_of_shifted_lines_does_not_depend_on_sampling():
    t = np.linspace(0, 20, 21)
    line = np.stack([t, 0 * t, 0 * t], -1)[None].astype(np.float32)
    sparse = line[:, [0, 20]] + np.array([0, 0.5, 0], np.float32)
    value = clinical.centreline_error(line, sparse, spacing=(1, 2, 1))
    assert float(value[0]) == pytest.approx(1.0, abs=1e-5)
    assert float(clinical.centreline_overlap(line, sparse, spacing=(1, 2, 1), radius=1.01)[0]) == 1.0
    assert float(clinical.centreline_overlap(line, sparse, spacing=(1, 2, 1), radius=0.9)[0]) == 0.0
    assert np.isnan(clinical.centreline_error(line * np.nan, sparse, spacing=(1, 2, 1))[0])
