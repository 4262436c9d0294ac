"""Liver lesions: equal area, mean and histogram in all classes, different structure."""

import functools

import jax
import numpy as np
import pytest

from medgan_jax.phantoms import liver_lesions as phantom

NUMBER = 32


@functools.cache
def patches(lesion, noise=0.0):
    draw = jax.jit(
        jax.vmap(
            lambda key, lesion, noise: phantom.liver_lesion_patch(key, lesion, noise=noise), (0, None, None)
        )
    )
    keys = jax.random.split(jax.random.key(0), NUMBER)
    return jax.tree.map(np.asarray, draw(keys, lesion, noise))


def test_shapes_types_and_label():
    drawn = patches(phantom.METASTASIS)
    assert drawn["image"].shape == (NUMBER, 64, 64, 1) and drawn["image"].dtype == np.float32
    assert drawn["lesion_mask"].dtype == bool and np.all(drawn["label"] == phantom.METASTASIS)


def test_classes_have_equal_area_mean_and_spread():
    drawn = [patches(label) for label in phantom.LABELS.values()]
    areas = np.array([each["lesion_mask"].sum((1, 2)) for each in drawn])
    assert np.all(areas > 100) and np.abs(areas / areas[0] - 1).mean() < 0.1
    means = [each["image"][..., 0][each["lesion_mask"]].mean() for each in drawn]
    assert np.ptp(means) < 6


def test_lesions_are_darker_than_the_liver():
    drawn = patches(phantom.CYST)
    inside = drawn["lesion_mask"]
    assert drawn["image"][..., 0][inside].mean() < drawn["image"][..., 0][~inside].mean() - 25


def test_metastases_are_darkest_in_the_middle_and_haemangiomas_are_not():
    rows, columns = np.indices((64, 64)) - 31.5
    middle = np.hypot(rows, columns) < 5

    def depth_of_middle(label):
        drawn = patches(label)
        rim = drawn["lesion_mask"] & ~middle
        image = drawn["image"][..., 0]
        return image[np.broadcast_to(middle, rim.shape)].mean() - image[rim].mean()

    assert depth_of_middle(phantom.METASTASIS) < -8
    assert depth_of_middle(phantom.HAEMANGIOMA) > depth_of_middle(phantom.METASTASIS) + 5


def test_no_two_are_alike_and_noise_is_added_as_asked():
    images = patches(phantom.CYST)["image"].reshape(NUMBER, -1)
    assert np.abs(np.corrcoef(images) - np.eye(NUMBER)).max() < 0.995
    noise = patches(phantom.CYST, 12.0)["image"] - patches(phantom.CYST)["image"]
    assert 9 < noise.std() < 16


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="at least 16"):
        phantom.liver_lesion_patch(jax.random.key(0), 0, 8)
