"""Trivial methods beside translations, against NumPy; and measures of masks against those of training."""

import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax import baselines, measures
from medgan_jax.game import Baseline
from medgan_jax.losses import pixel


def test_look_up_table_takes_the_median_of_each_interval():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4, 32, 32, 1)).astype(np.float32)
    # Skewed noise, so that the mean would be another table.
    y = (np.floor(4 * (x + 1)) + rng.exponential(1.0, x.shape)).astype(np.float32)
    method = baselines.look_up_table("a", "b", source="x", target="y", span=(-1, 1), bins=8)
    fitted = method.fit({"x": x[i : i + 2], "y": y[i : i + 2]} for i in (0, 2))
    medians = [np.median(y[(x >= -1 + k / 4) & (x < -1 + (k + 1) / 4)]) for k in range(8)]
    assert np.allclose(fitted, medians, atol=0.05)
    made = method.apply(jnp.asarray(fitted), {"x": jnp.asarray(x)}, None)
    assert np.allclose(made["a"], fitted[np.floor(4 * (x + 1)).astype(int)])
    assert np.array_equal(made["a"], made["b"])
    # Beyond the span, its ends.
    far = method.apply(jnp.asarray(fitted), {"x": jnp.array([[[-9.0], [9.0]]])}, None)["a"]
    assert np.allclose(far.ravel(), fitted[[0, -1]])


def test_intervals_that_training_does_not_have_lie_between_their_neighbours():
    x, y = np.array([[[[-0.9], [0.9]]]], np.float32), np.array([[[[0.0], [8.0]]]], np.float32)
    method = baselines.look_up_table("a", source="x", target="y", span=(-1, 1), bins=5)
    fitted = method.fit([{"x": x, "y": y}])
    assert np.allclose(np.diff(fitted), 2, atol=0.05)


def test_region_means_of_regions_that_training_lacks_are_the_mean_of_all():
    method = baselines.region_means("a", target="y", regions="where", count=3)
    fitted = method.fit([{"y": np.array([1.0, 3.0]), "where": np.array([0, 0])},
                         {"y": np.array([8.0]), "where": np.array([1])}])  # fmt: skip
    assert fitted.tolist() == [2, 8, 4]


def test_stain_normalisers_work_on_light_and_leave_alone_what_has_no_stain():
    def normalise(image, reference):
        return jnp.where(image.min() < 0.9, image * reference.mean(), jnp.nan)

    rng = np.random.default_rng(0)
    patches = [{"image": rng.uniform(0, 255, (8, 8, 3)).astype(np.float32)} for _ in range(3)]
    method = baselines.stain_normaliser("any", normalise, "a", source="x", reference=patches,
                                        light=lambda image: image / 255, patches=2)  # fmt: skip
    image = rng.uniform(0.1, 0.9, (1, 8, 8, 3)).astype(np.float32)
    made = method.apply((), {"x": jnp.asarray(2 * image - 1)}, None)["a"]
    reference = np.concatenate([patch["image"] for patch in patches[:2]]) / 255
    assert np.allclose(made[0], 2 * normalise(jnp.asarray(image[0]), jnp.asarray(reference)) - 1, atol=1e-5)
    white = jnp.ones((1, 8, 8, 3))
    assert np.allclose(method.apply((), {"x": white}, None)["a"], white)


def test_two_methods_side_by_side_are_fitted_to_the_same_batches():
    first = Baseline("first", lambda fitted, batch, key: {"a": fitted}, lambda batches: sum(batches))
    second = Baseline("second", lambda fitted, batch, key: {"b": batch})
    both = baselines.side_by_side(first, second)
    assert both.name == "first; second"
    assert both.apply(both.fit(iter([1, 2])), 5, None) == {"a": 3, "b": 5}


def test_no_deformation():
    method = baselines.no_deformation("x", warped="w", displacement="u")
    made = method.apply((), {"x": jnp.ones((2, 4, 5, 6, 1))}, None)
    assert made["u"].shape == (2, 4, 5, 6, 3)
    assert not made["u"].any()
    assert made["w"].all()


def test_masks_are_compared_with_the_nearest_of_training():
    masks = np.eye(4, dtype=np.float32).reshape(4, 2, 2, 1)
    training = [{"A": each} for each in masks[:3]]
    metric = measures.nearest_training_mask("near", lambda outputs, batch: outputs["m"], training, "A")
    both = masks[0] + masks[3]
    values = metric.per_case({"m": jnp.asarray(np.stack([masks[1], masks[3], both]))}, {})
    # A copy, one unlike all, and one that shares a pixel of its two with the first: 2 / 3.
    assert metric.summary(values) == pytest.approx((1 + 0 + 2 / 3) / 3)


def test_dice_at_the_threshold_that_is_best_on_validation_cases():
    metric = measures.dice_at_best("dice", "s", "m")
    truth = np.zeros((1, 4, 4, 1), np.float32)
    truth[0, :2] = 1
    score = 0.3 * truth + 0.1 * np.random.default_rng(0).random(truth.shape)
    values = metric.per_case({"s": jnp.asarray(score)}, {"m": jnp.asarray(truth)})
    threshold = metric.calibrate(values)
    assert 0 < threshold < 0.3
    assert metric.summary(values, threshold) == 1
    assert metric.summary(values, 0.5) == 0


def test_absolute_error_within_a_region_in_a_unit():
    metric = measures.absolute_error("a", "b", unit="HU", scale=1000, region=lambda batch: batch["mask"])
    outputs, batch = {"a": jnp.zeros((1, 2, 2, 1))}, {"b": jnp.array([1.0, 2, 3, 4]).reshape(1, 2, 2, 1)}
    found = metric.per_case(outputs, batch | {"mask": jnp.array([1, 0, 0, 1]).reshape(1, 2, 2, 1)})
    assert found.tolist() == [2500]
    assert np.isnan(metric.per_case(outputs, batch | {"mask": jnp.zeros((1, 2, 2, 1))})[0])


def test_balanced_error_and_summed_gradient_differences():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 2, 3, 4, 1))
    region = rng.integers(0, 2, a.shape)
    error = np.abs(a - b)
    expected = error[region == 1].mean() + error[region == 0].mean()
    found = pixel.balanced_l1(jnp.asarray(a), jnp.asarray(b), jnp.asarray(region))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    slopes = [np.abs(np.diff(a, axis=axis)) - np.abs(np.diff(b, axis=axis)) for axis in (1, 2)]
    summed = float(pixel.gradient_difference(jnp.asarray(a), jnp.asarray(b), summed=True))
    assert summed == pytest.approx(sum((each**2).sum() for each in slopes) / 2, rel=1e-5)
