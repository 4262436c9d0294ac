"""Three-dimensional echocardiography: contraction, speckle statistics, determinism."""

import functools

import jax
import numpy as np
import pytest

from medgan_jax.phantoms import cardiac_echo as phantom

NUMBER, SIZE = 4, 32


@functools.cache
def compiled():
    def draw(key, contraction, frame, speckle):
        return phantom.cardiac_echo(key, SIZE, contraction=contraction, frame=frame, speckle=speckle)

    return jax.jit(jax.vmap(draw, in_axes=(0, None, None, None)))


@functools.cache
def subjects(contraction=0.0, frame=0, speckle=True):
    keys = jax.random.split(jax.random.key(0), NUMBER)
    return jax.tree.map(np.asarray, compiled()(keys, contraction, frame, speckle))


def test_shapes_types_and_ranges():
    drawn = subjects()
    assert drawn["image"].shape == (NUMBER, SIZE, SIZE, SIZE, 1) and drawn["image"].dtype == np.float32
    assert drawn["labels"].dtype == np.int32 and drawn["image"].min() >= 0 and drawn["image"].max() <= 1


def test_a_key_gives_the_same_subject_again_and_no_two_are_alike():
    keys = jax.random.split(jax.random.key(0), NUMBER)
    np.testing.assert_allclose(
        subjects()["image"][::-1], compiled()(keys[::-1], 0.0, 0, True)["image"], atol=1e-4
    )
    labels = subjects()["labels"]
    assert min(np.mean(labels[i] != labels[j]) for i in range(NUMBER) for j in range(i)) > 0.01


def test_volumes_and_ejection_fractions_are_those_of_hearts():
    rest, tight = subjects()["cavity_ml"], subjects(1.0)["cavity_ml"]
    assert np.all((rest > 50) & (rest < 260))
    fraction = 1 - tight / rest
    assert np.all((fraction > 0.35) & (fraction < 0.65))


def test_frames_change_speckle_alone():
    first, second = subjects(), subjects(frame=1)
    np.testing.assert_array_equal(first["labels"], second["labels"])
    assert np.mean(first["image"] != second["image"]) > 0.2
    np.testing.assert_array_equal(subjects(speckle=False)["image"], subjects(frame=1, speckle=False)["image"])


def test_blood_is_darker_than_muscle():
    drawn = subjects(speckle=False)
    image, labels = drawn["image"][..., 0], drawn["labels"]
    assert image[labels == phantom.CAVITY].mean() < image[labels == phantom.MYOCARDIUM].mean() - 0.15


def test_speckle_is_fully_developed():
    envelope = np.asarray(phantom._envelope(jax.random.key(0), (32, 32, 32)))
    np.testing.assert_allclose(envelope.mean() / envelope.std(), 1.91, rtol=0.03)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="at least 16"):
        phantom.cardiac_echo(jax.random.key(0), 8)
