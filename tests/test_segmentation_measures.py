"""Measures and classical methods of segmentation on masks whose scores are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax import baselines, measures

TRUE = np.zeros((2, 8, 8, 2), np.float32)
TRUE[0, :4, :, 0] = 1
TRUE[0, 0, 0, 1] = 1
TRUE[1, 4:, :, 0] = 1


def values(metrics, outputs, batch):
    return {metric.name: np.asarray(metric.per_case(outputs, batch)) for metric in metrics}


def test_overlap_of_each_structure_and_their_mean():
    predicted = TRUE.copy()
    predicted[0, :2, :, 0] = 0
    metrics = measures.structure_overlap(
        "mask", "y", ("first", "second"), ("iou", "precision", "sensitivity")
    )
    found = values(metrics, {"mask": predicted}, {"y": TRUE})
    assert found["dsc_first"] == pytest.approx([2 * 16 / 48, 1])
    assert found["iou_first"] == pytest.approx([0.5, 1])
    assert found["precision_first"] == pytest.approx([1, 1])
    assert found["sensitivity_first"] == pytest.approx([0.5, 1])
    # The second structure is absent from the second case, which its mean leaves out.
    assert found["dsc_second"][0] == 1 and np.isnan(found["dsc_second"][1])
    assert found["dsc"] == pytest.approx([(2 / 3 + 1) / 2, 1])


def test_shape_in_parts_of_the_diagonal():
    predicted = TRUE.copy()
    predicted[0, 7, 7, 0] = 1
    found = {
        metric.name: metric.summary(metric.per_case({"mask": predicted}, {"y": TRUE}))
        for metric in measures.structure_shape("mask", "y", ("first", "second"))
    }
    assert found["components_first"] == 1.5
    assert found["hd95_second"] == pytest.approx(0)
    shifted = np.roll(TRUE, 1, axis=1)
    (distance, _) = measures.structure_shape("mask", "y", ("first",))
    value = distance.summary(distance.per_case({"mask": shifted[:1, ..., :1]}, {"y": TRUE[:1, ..., :1]}))
    # One row of seven steps, of a diagonal of seven times the root of two.
    assert value == pytest.approx(100 / (7 * 2**0.5), rel=1e-5)


def test_objects_by_their_components():
    labels = np.zeros((1, 8, 8, 1), np.int32)
    labels[0, :3, :3], labels[0, 5:, 5:] = 3, 9
    mask = (labels > 0).astype(np.float32)
    mask[0, 0, 7] = 1
    found = {
        metric.name: metric.summary(metric.per_case({"mask": mask}, {"labels": labels}))
        for metric in measures.object_scores("mask", "labels", smallest=2)
    }
    assert found == {"f_score": 1, "dsc": 1, "oh": 0}
    joined = np.ones_like(mask)
    (f_score, *_) = measures.object_scores("mask", "labels", smallest=2)
    assert f_score.summary(f_score.per_case({"mask": joined}, {"labels": labels})) == pytest.approx(2 / 3)


def test_attribution_and_gap():
    effect = np.arange(8.0).reshape(2, 2, 2, 1)
    found = values(
        measures.attribution("map", "effect", "subtype", (1, 2)),
        {"map": np.stack([-3 * effect[0], effect[1]])},
        {"effect": effect, "subtype": np.array([1, 2])},
    )
    assert found["ncc"] == pytest.approx([1, -1], abs=1e-5)
    assert found["ncc_subtype_1"][0] == pytest.approx(1, abs=1e-5) and np.isnan(found["ncc_subtype_1"][1])
    gap = measures.score_gap("a", "b")
    assert gap.summary(
        gap.per_case({"a": np.array([0.9, 0.7]), "b": np.array([0.1, 0.3])}, {})
    ) == pytest.approx(0.6)


def outputs(mask):
    return {"mask": mask}


def test_best_threshold_finds_channel_and_side():
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (2, 8, 8, 3)).astype(np.float32)
    images[..., 1] = 0.5 - 0.3 * TRUE[..., 0]
    batch = {"x": images, "y": TRUE[..., :1]}
    method = baselines.best_threshold("x", "y", outputs)
    found = method.apply(method.fit([batch]), batch, None)["mask"]
    assert (np.asarray(found) == TRUE[..., :1]).all()


def test_mean_shape_is_the_share_of_cases():
    method = baselines.mean_shape("y", outputs)
    found = method.apply(method.fit([{"y": TRUE}]), {"y": TRUE[:1]}, None)["mask"]
    assert found.shape == (1, 8, 8, 2)
    assert (np.asarray(found[..., 0]) == 0.5).all()


def test_difference_of_gaussians_finds_dark_lines():
    image = np.ones((1, 32, 32, 3), np.float32)
    image[:, :, 15:17, 1] = 0.5
    line = (image[..., 1:2] < 1).astype(np.float32)
    batch = {"x": image, "y": line, "inside": np.ones_like(line)}
    method = baselines.difference_of_gaussians("x", "y", outputs, region="inside")
    score = np.asarray(method.apply(method.fit([batch]), batch, None)["mask"])
    assert score[line > 0].min() > score[line == 0].max()


def test_difference_of_means_is_the_same_for_every_image():
    groups = [[{"image": np.full((2, 2, 1), value)} for value in pair] for pair in ((1.0, 3.0), (0.0, 1.0))]
    method = baselines.difference_of_means("x", *groups, lambda x, change: {"map": change}, scale=2.0)
    found = method.apply((), {"x": jnp.zeros((3, 2, 2, 1))}, None)["map"]
    assert found.shape == (3, 2, 2, 1)
    assert (np.asarray(found) == 3).all()
