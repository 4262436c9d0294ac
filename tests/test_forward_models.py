"""What prepares batches without a scanner: domains, photographs, magnitudes, and masks of numbered objects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax import forward_models

rng = np.random.default_rng(0)
KEY = jax.random.key(0)


def test_named_fields_are_mapped_and_the_others_kept():
    prepare = forward_models.in_range(lambda x: 2 * x - 1, x="image", z="absent")
    batch = prepare({"image": jnp.array([0.0, 1.0]), "label": jnp.array([3])}, KEY)
    assert {name: value.tolist() for name, value in batch.items()} == {"x": [-1, 1], "label": [3]}


@pytest.mark.parametrize("turn", [False, True])
def test_both_domains_have_the_range_of_one_and_the_labels_of_the_source(turn):
    images = rng.uniform(0, 255, (2, 6, 4, 4, 3)).astype(np.float32)
    prepare = forward_models.two_domains(lambda x: x / 255, turn=turn)
    batch = prepare({"source": {"image": images[0], "label": np.arange(6)}, "target": images[1]}, KEY)
    assert set(batch) == {"source", "target", "label"}
    assert batch["label"].tolist() == list(range(6))
    for name, known in zip(("source", "target"), images, strict=True):
        found = np.asarray(batch[name])
        assert np.allclose(np.sort(found.reshape(6, -1)), np.sort(known.reshape(6, -1) / 255), atol=1e-6)
        assert np.allclose(found, known / 255, atol=1e-6) == (not turn)


def test_a_test_case_of_two_domains_is_never_turned():
    image = rng.uniform(0, 255, (3, 4, 4, 1)).astype(np.float32)
    batch = forward_models.two_domains(lambda x: x / 255, turn=True)({"image": image, "label": np.arange(3)}, KEY)
    assert set(batch) == {"x", "label"}
    assert np.allclose(batch["x"], image / 255, atol=1e-6)


def test_photographs_are_standardised_where_they_are_bright():
    image = rng.uniform(0.3, 0.9, (2, 8, 8, 3)).astype(np.float32)
    image[:, :3] = 0.1
    prepare = forward_models.photographs(lambda x: x / 2, 0.1, y="vessels")
    batch = prepare({"image": 2 * image, "vessels": np.array([0, 7, 255])}, KEY)
    assert np.allclose(batch["image"], image)
    assert batch["y"].tolist() == [0, 1, 1]
    x = np.asarray(batch["x"])[:, 3:]
    assert np.allclose(x.mean((1, 2)), 0, atol=1e-4)
    assert np.allclose(x.std((1, 2)), 1, atol=1e-3)


def test_a_photograph_of_one_brightness_and_a_dark_one_stay_finite():
    image = jnp.stack([jnp.full((4, 4, 1), 0.5), jnp.zeros((4, 4, 1))])
    assert np.asarray(forward_models.standardised(image, 0.1)).tolist() == [[[[0.0]] * 4] * 4] * 2


def test_each_image_is_divided_by_its_own_largest():
    moving = jnp.array([[[[1.0], [4.0]]], [[[0.0], [0.0]]]])
    prepare = forward_models.each_largest_is_one("moving")
    batch = prepare({"moving": moving, "mask": moving}, KEY)
    assert batch["moving"].tolist() == [[[[0.25], [1.0]]], [[[0.0], [0.0]]]]
    assert batch["mask"] is moving


def test_numbers_of_objects_become_masks_and_images_without_labels_stay_apart():
    label = np.array([0, 5, 2, 0]).reshape(1, 2, 2, 1)
    known, other = {"image": np.ones((1, 2, 2, 1)), "label": label}, np.zeros((1, 2, 2, 1))
    prepare = forward_models.partly_annotated(lambda x: 2 * x - 1)
    batch = prepare({"annotated": known, "unannotated": other}, KEY)
    assert batch["glands"].ravel().tolist() == [0, 1, 1, 0]
    assert (batch["y"].sum(-1) == 1).all()
    assert (float(batch["x"].max()), float(batch["u"].max())) == (1, -1)
    assert "u" not in prepare(known, KEY)
