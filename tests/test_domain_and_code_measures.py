"""Measures and trivial methods of classification, codes and textures against values by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax import baselines, measures
from medgan_jax.data.records import ArraySource, numbered, subset
from medgan_jax.inference.pca_gaussian import fit_pca_gaussian, pca_codes
from medgan_jax.losses import adversarial, perceptual
from medgan_jax.models.features import random_features, small_vgg
from medgan_jax.perceptual import feature_maps, fixed_features


def values(metrics, outputs, batch):
    """Each metric's mean or summary."""
    found = {}
    for metric in metrics:
        case = metric.per_case(outputs, batch)
        if metric.summary is None:
            found[metric.name] = float(case.mean())
        else:
            found[metric.name] = metric.summary(jax.tree.map(np.asarray, case))
    return found


def test_binary_classification_at_even_odds():
    score, label = jnp.array([2.0, -1.0, 0.5, -3.0, 0.1]), jnp.array([1, 1, 0, 0, 1])
    found = values(measures.binary_classification("s", "y", "p_"), {"s": score}, {"y": label})
    assert found["p_accuracy"] == pytest.approx(3 / 5)
    assert found["p_balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["p_precision"] == pytest.approx(2 / 3)
    assert found["p_recall"] == pytest.approx(2 / 3)
    assert found["p_auc"] == pytest.approx(4 / 6)


def test_bags_are_judged_by_members_and_by_their_mean():
    score, label = jnp.array([[3.0, -1.0], [-2.0, 1.0], [1.0, 1.0]]), jnp.array([1, 0, 0])
    found = values(measures.bag_classification("s", "y"), {"s": score}, {"y": label})
    assert found == pytest.approx({"accuracy": 2 / 6, "bag_accuracy": 2 / 3, "share": 4 / 6})


def test_class_recognition():
    outputs, batch = {"k": jnp.array([0, 2, 2, 1])}, {"y": jnp.array([0, 2, 1, 1])}
    found = values(measures.class_recognition("k", "y", 3), outputs, batch)
    assert found == pytest.approx({"accuracy": 3 / 4, "balanced_accuracy": (1 + 1 / 2 + 1) / 3})


def test_distance_of_maps_to_a_field_and_to_one_image():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 1)), jnp.float32)
    batch, halves = {"x": x}, lambda image: {"a": image[:, :1] / 2}
    to_field = measures.map_distance("d", "o", "x", halves, perceptual.feature_l2)
    np.testing.assert_allclose(to_field.per_case({"o": x + 1}, batch), [0.25, 0.25], rtol=1e-5)
    to_first = measures.map_distance("d", "o", x[:1], halves, perceptual.feature_l2)
    expected = [0, np.square((x[1] - x[0])[:1] / 2).mean()]
    np.testing.assert_allclose(to_first.per_case({"o": x}, batch), expected, rtol=1e-4, atol=1e-7)


def test_codes_that_follow_their_prior_are_at_no_distance():
    draw = np.random.default_rng(0).normal(size=(3, 200, 2)).astype(np.float32)
    metric = measures.code_distance("code", "prior", scale=1.0)
    near, far = (
        metric.summary(metric.per_case({"code": code, "prior": draw[0]}, {}))
        for code in (draw[1], draw[2] + 2)
    )
    assert abs(near) < 0.01
    assert far > 0.1


def test_nearest_class_mean():
    batches = [{"x": np.array([[0.0], [2.0], [10.0]]), "y": np.array([0, 0, 1])}]
    method = baselines.nearest_class_mean("x", "y", 3, lambda far: {"k": far.argmin(-1)})
    fitted = method.fit(batches)
    # A class without a training case is never chosen.
    assert method.apply(fitted, {"x": jnp.array([[4.0], [6.0], [99.0]])}, None)["k"].tolist() == [0, 1, 1]


def test_one_answer_for_cases_and_for_members():
    batch = {"x": jnp.zeros((2, 3, 4))}
    assert baselines.one_answer("all", "s", source="x").apply((), batch, None)["s"].tolist() == [1, 1]
    assert baselines.one_answer("all", "s", source="x", axes=2).apply((), batch, None)["s"].shape == (2, 3)


def test_codes_of_principal_components():
    random = np.random.default_rng(0)
    turned = np.linalg.qr(random.normal(size=(3, 3)))[0]
    images = (random.normal(size=(50, 3)) * [5, 2, 0.1] @ turned).reshape(50, 3, 1, 1)
    fitted = fit_pca_gaussian([images], 2)
    codes = pca_codes(fitted, jnp.asarray(images, jnp.float32))
    np.testing.assert_allclose(np.cov(codes.T), np.eye(2), atol=1e-3)
    kept = fitted["mean"] + np.tensordot(codes, fitted["directions"], axes=1)
    assert np.abs(kept - images).max() < 0.5
    method = baselines.principal_components(
        "x", 2, code="c", reconstruction="r", sample="s", more=lambda key, count: {"n": count}
    )
    outputs = method.apply(fitted, {"x": jnp.asarray(images, jnp.float32)}, jax.random.key(0))
    np.testing.assert_allclose(outputs["r"], kept, atol=1e-4)
    assert outputs["s"].shape == (50, 3, 1, 1)
    assert outputs["n"] == 50


def test_numbers_stay_with_their_records():
    source = numbered(subset(ArraySource({"image": np.arange(4.0)}, ids=list("abcd")), [3, 1]))
    assert [(source[n]["id"], int(source[n]["number"])) for n in range(2)] == [("d", 0), ("b", 1)]


def test_margin_loss_by_hand():
    scores = jnp.array([[2.0], [0.5], [-1.0]])
    assert float(adversarial.hinge(scores, 1)) == pytest.approx((0 + 0.5 + 2) / 3)
    assert float(adversarial.hinge(scores, -1)) == pytest.approx((3 + 1.5 + 0) / 3)


def test_fixed_features_say_what_they_are_and_depend_on_the_seed_alone():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 32, 32, 1)), jnp.float32)
    taps = ("relu1_2", "relu2_1")
    frozen = fixed_features("", "vgg19", taps, channels=1, base=4)
    assert frozen.description == "random small vgg[relu1_2,relu2_1] seed 0"
    assert frozen.module.blocks[0] == (4, 4)
    again = fixed_features("", "vgg19", taps, channels=1, base=4)
    jax.tree.map(np.testing.assert_array_equal, frozen.variables, again.variables)
    network = random_features(small_vgg(("relu1_1",), base=2), channels=1)
    maps = feature_maps(network)(images)
    expected = network.module.apply(network.variables, images, train=False)
    np.testing.assert_allclose(maps["relu1_1"], expected["relu1_1"], rtol=1e-5)
