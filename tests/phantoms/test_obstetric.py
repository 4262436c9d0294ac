"""Freehand frames of a fetal head: places, pose and landmarks agree, and frames show one solid object."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medgan_jax.phantoms import obstetric

SHAPE, NUMBER = (96, 72), 16
QUICK = {"xla_backend_optimization_level": 0}


@functools.cache
def program():
    draw = jax.vmap(lambda key, subject: obstetric.fetal_frame(key, SHAPE, subject=subject))
    return jax.jit(draw, compiler_options=QUICK)


@functools.cache
def frames():
    """Half of them of one subject, half of others, all at other poses."""
    keys = jax.random.split(jax.random.key(6), NUMBER)
    subjects = jnp.where(np.arange(NUMBER) < NUMBER // 2, keys[0], keys)
    return jax.tree.map(np.asarray, program()(keys, subjects))


def test_shapes_types_and_ranges():
    drawn = frames()
    assert drawn["image"].shape == (NUMBER, *SHAPE, 1) and drawn["image"].dtype == np.float32
    assert drawn["image"].min() >= 0 and drawn["image"].max() <= 1
    assert drawn["coordinates"].shape == (NUMBER, *SHAPE, 3) and drawn["labels"].dtype == np.int32
    assert (drawn["image"][..., 0][drawn["labels"] == obstetric.OUTSIDE] == 0).all()


def test_coordinates_follow_from_the_pose():
    drawn = frames()
    pixel = obstetric.HEIGHT / SHAPE[0]
    for places, pose in zip(drawn["coordinates"], drawn["pose"], strict=True):
        rotation = Rotation.from_rotvec(pose[3:]).as_matrix()
        np.testing.assert_allclose((places[1, 0] - places[0, 0]) / pixel, rotation[:, 0], atol=1e-3)
        np.testing.assert_allclose((places[0, 1] - places[0, 0]) / pixel, rotation[:, 1], atol=1e-3)
        np.testing.assert_allclose(places.mean((0, 1)), pose[:3], atol=1e-2)


def test_landmarks_are_where_they_say():
    drawn = frames()
    valid = drawn["landmark_valid"]
    assert 0.1 < valid.mean() < 0.9
    for i in range(NUMBER):
        for (row, column), place, seen in zip(
            drawn["landmarks"][i], drawn["landmark_places"][i], valid[i], strict=True
        ):
            if seen:
                row, column = round(float(row)), round(float(column))
                away = np.linalg.norm(drawn["coordinates"][i, row, column] - place)
                assert away < obstetric.LANDMARK_RADIUS + 1
                assert obstetric.LANDMARK in drawn["labels"][i, row - 1 : row + 2, column - 1 : column + 2]


def test_frames_of_a_subject_show_one_object_and_others_another():
    drawn = frames()
    np.testing.assert_array_equal(drawn["landmark_places"][1], drawn["landmark_places"][0])
    assert np.abs(drawn["landmark_places"][-1] - drawn["landmark_places"][0]).max() > 1
    same = program()(jax.random.split(jax.random.key(9), NUMBER), jnp.tile(jax.random.key(3), NUMBER))
    places, labels = np.asarray(same["coordinates"]), np.asarray(same["labels"])
    # The same ellipsoid in all: where one frame shows brain, none shows the fluid round it.
    brain, fluid = labels == obstetric.BRAIN, labels == obstetric.FLUID
    far = np.linalg.norm(places, axis=-1)
    assert far[brain].max() < 55 and far[fluid].min() > 30


def test_skull_is_bright_and_fluid_dark():
    drawn = frames()
    image = drawn["image"][..., 0]
    mean = {name: image[drawn["labels"] == label].mean() for name, label in obstetric.LABELS.items()}
    assert mean["skull"] > mean["brain"] > mean["fluid"] and mean["landmark"] > mean["brain"]
    assert mean["ventricle"] < mean["brain"]


def test_same_keys_same_frame():
    keys = jax.random.split(jax.random.key(6), NUMBER)
    subjects = jnp.where(np.arange(NUMBER) < NUMBER // 2, keys[0], keys)
    turned = program()(keys[::-1], subjects[::-1])["image"]
    np.testing.assert_allclose(turned[::-1], frames()["image"], atol=1e-4)


def test_too_small_a_frame_is_refused():
    with pytest.raises(ValueError, match="32"):
        obstetric.fetal_frame(jax.random.key(0), (160, 20), subject=jax.random.key(1))
