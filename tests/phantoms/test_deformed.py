"""Pairs with a known deformation, and the hippocampus: exactness, folding, landmarks, proportions."""

import functools

import jax
import numpy as np
import pytest
from scipy import ndimage

from medgan_jax.phantoms.deformed import deformed_pair
from medgan_jax.phantoms.hippocampus import hippocampus_volume

KEYS = jax.random.split(jax.random.key(2), 4)
SHAPE = (48, 48)
# Few images of many programs: compiling costs more than drawing.
QUICK = {"xla_backend_optimization_level": 0}


@functools.cache
def slices():
    """The compiled (key, strength) -> pair of brain slices."""

    def draw(key, strength):
        return deformed_pair(key, SHAPE, strength=strength)

    return jax.jit(draw, compiler_options=QUICK)


@functools.cache
def pairs():
    return [jax.tree.map(np.asarray, slices()(key, 1.0)) for key in KEYS]


@functools.cache
def volumes():
    draw = functools.partial(deformed_pair, shape=(24, 32, 24), anatomy="hippocampus")
    every = jax.jit(lambda keys: jax.lax.map(draw, keys), compiler_options=QUICK)
    return jax.tree.map(np.asarray, every(KEYS[:2]))


@functools.cache
def crops():
    draw = functools.partial(hippocampus_volume, shape=(48, 64, 48))
    every = jax.jit(lambda keys: jax.lax.map(draw, keys), compiler_options=QUICK)
    return jax.tree.map(np.asarray, every(KEYS))


def overlap(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_shapes_of_pairs_in_two_and_three_dimensions():
    flat, solid = pairs()[0], volumes()
    assert flat["fixed"].shape == flat["moving"].shape == (*SHAPE, 1)
    assert flat["displacement"].shape == (*SHAPE, 2) and flat["fixed_landmarks"].shape == (50, 2)
    assert solid["displacement"].shape == (2, 24, 32, 24, 3) and solid["moving_landmarks"].shape == (2, 50, 3)
    assert flat["fixed_labels"].dtype == np.int32 and set(np.unique(solid["fixed_labels"])) == {0, 1, 2}


def test_the_displacement_pulls_the_moving_image_and_its_labels_onto_the_fixed_ones():
    for pair in pairs():
        places = np.indices(SHAPE) + np.moveaxis(pair["displacement"], -1, 0)
        pulled = ndimage.map_coordinates(pair["moving"][..., 0], places, order=1, mode="nearest")
        brain = pair["fixed_labels"] > 0
        fixed, moving = (pair[name][..., 0] for name in ("fixed", "moving"))
        alike = [np.corrcoef(image[brain], fixed[brain])[0, 1] for image in (pulled, moving)]
        assert alike[0] > 0.95 > alike[1] + 0.1
        labels = ndimage.map_coordinates(pair["moving_labels"], places, order=0, mode="nearest")
        assert np.mean(labels == pair["fixed_labels"]) > 0.99


def test_landmarks_correspond_and_lie_in_the_brain():
    for pair in pairs():
        at = pair["fixed_landmarks"].astype(int)
        expected = pair["fixed_landmarks"] + pair["displacement"][at[:, 0], at[:, 1]]
        np.testing.assert_allclose(pair["moving_landmarks"], expected, atol=1e-3)
        assert np.mean(pair["fixed_labels"][at[:, 0], at[:, 1]] > 0) > 0.98
        assert len(np.unique(at, axis=0)) > 35


def test_nothing_folds_and_the_strength_scales_the_movement():
    for pair, key in zip(pairs(), KEYS, strict=True):
        gradient = np.stack(np.gradient(pair["displacement"], axis=(0, 1)), axis=-1)
        assert np.linalg.det(np.eye(2) + gradient).min() > 0
        size = np.linalg.norm(pair["displacement"], axis=-1)
        assert 1.0 < size.max() < 0.2 * SHAPE[0]
        still = slices()(key, 0.0)
        np.testing.assert_allclose(still["displacement"], 0, atol=1e-4)
        np.testing.assert_array_equal(still["fixed_labels"], still["moving_labels"])
    solid = np.stack(np.gradient(volumes()["displacement"], axis=(1, 2, 3)), axis=-1)
    assert np.linalg.det(np.eye(3) + solid).min() > 0


def test_hippocampi_have_the_volumes_of_real_ones_and_no_brightness_of_their_own():
    drawn = crops()
    sizes = [(drawn["labels"] == part).sum((1, 2, 3)) for part in (1, 2)]
    # Decathlon task 4, 40 crops: anterior 1800 (230), posterior 1650 (180) cubic mm.
    assert 1200 < sizes[0].mean() < 2300 and 1200 < sizes[1].mean() < 2300
    image = drawn["image"][..., 0]
    inside, outside = image[drawn["labels"] > 0], image[drawn["labels"] == 0]
    assert np.mean(np.abs(outside - inside.mean()) < inside.std()) > 0.08
    front, back = (np.argwhere(drawn["labels"] == part)[:, 2].mean() for part in (1, 2))
    assert front > back + 10


def test_two_hippocampi_overlap_as_real_ones_do_before_registration():
    labels = crops()["labels"]
    scores = [
        overlap(labels[i] == part, labels[j] == part) for i in range(4) for j in range(i) for part in (1, 2)
    ]
    # 0.56 (0.14) between real crops.
    assert 0.35 < np.mean(scores) < 0.75


def test_impossible_requests_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="unknown anatomy 'knee'"):
        deformed_pair(key, anatomy="knee")
    with pytest.raises(ValueError, match="no hippocampus of shape"):
        deformed_pair(key, (32, 32), anatomy="hippocampus")
    with pytest.raises(ValueError, match="three sides"):
        hippocampus_volume(key, (32, 32))
