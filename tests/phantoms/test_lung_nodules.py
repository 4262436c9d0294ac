"""Lung nodules: equal volume and histogram in both classes, spicules that join, borders, volumes."""

import functools

import jax
import numpy as np
import pytest

from medgan_jax.phantoms import lung_nodules as phantom

NUMBER = 24


@functools.cache
def compiled():
    def draw(key, malignant, border, noise):
        return phantom.lung_nodule_patch(key, malignant, border=border, noise=noise)

    return jax.jit(jax.vmap(draw, in_axes=(0, None, None, None)))


@functools.cache
def patches(malignant, border=False, noise=0.0):
    keys = jax.random.split(jax.random.key(0), NUMBER)
    return jax.tree.map(np.asarray, compiled()(keys, malignant, border, noise))


def test_shapes_types_and_label():
    drawn = patches(True)
    assert drawn["image"].shape == (NUMBER, 56, 56, 1) and drawn["image"].dtype == np.float32
    assert np.all(drawn["label"] == phantom.MALIGNANT) and np.all(patches(False)["label"] == phantom.BENIGN)


def test_a_key_gives_the_same_patch_again_and_no_two_are_alike():
    keys = jax.random.split(jax.random.key(0), NUMBER)
    again = compiled()(keys[::-1], True, False, 0.0)
    np.testing.assert_allclose(patches(True)["image"][::-1], again["image"], atol=0.01)
    images = patches(True)["image"].reshape(NUMBER, -1)
    assert np.abs(np.corrcoef(images) - np.eye(NUMBER)).max() < 0.97


def test_both_classes_have_the_same_nodule_and_as_much_tissue():
    benign, malignant = patches(False), patches(True)
    np.testing.assert_array_equal(benign["nodule_mask"], malignant["nodule_mask"])
    tissue = [np.mean(each["image"] > -450, axis=(1, 2, 3)) for each in (benign, malignant)]
    assert abs(np.mean(tissue[0]) - np.mean(tissue[1])) < 0.4 * np.std(tissue[0])


def test_strands_of_malignant_nodules_are_joined_to_them():
    def tissue_at_the_rim(drawn):
        rows, columns = np.indices((56, 56)) + 0.5
        shares = []
        for image, mask, centre in zip(
            drawn["image"][..., 0], drawn["nodule_mask"], drawn["centre"], strict=True
        ):
            distance = np.hypot(rows - centre[0], columns - centre[1])
            radius = np.sqrt(mask.sum() / np.pi)
            ring = (distance > radius + 1.5) & (distance < radius + 3)
            shares.append(np.mean(image[ring] > -550))
        return np.mean(shares)

    assert tissue_at_the_rim(patches(True)) > 1.5 * tissue_at_the_rim(patches(False))


def test_at_the_border_the_nodule_touches_the_wall():
    drawn, inner = patches(True, border=True), patches(True)
    assert inner["lung_mask"].all() and not drawn["lung_mask"].all((1, 2)).any()
    # The nodule belongs to the lung, and next to it lies the wall.
    assert drawn["lung_mask"][drawn["nodule_mask"]].all()
    assert drawn["image"][..., 0][~drawn["lung_mask"]].mean() > -100


def test_noise_is_what_was_asked():
    noise = patches(True, noise=20.0)["image"] - patches(True)["image"]
    assert 17 < noise.std() < 23


def test_volumes_have_the_asked_shape():
    shapes = jax.eval_shape(lambda key: phantom.lung_nodule_volume(key, True, 24), jax.random.key(0))
    assert shapes["image"].shape == (24, 24, 24, 1) and shapes["centre"].shape == (3,)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="at least 16"):
        phantom.lung_nodule_patch(jax.random.key(0), True, 8)
