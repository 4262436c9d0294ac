"""Chest radiographs: determinism, anatomy, registration of options, statistics."""

import functools

import jax
import numpy as np
import pytest

from medgan_jax.phantoms import chest_xray as phantom

NUMBER, SIZE = 8, 64


@functools.cache
def compiled():
    def draw(key, opacities, nodule):
        return phantom.chest_xray(key, SIZE, opacities=opacities, nodule=nodule)

    return jax.jit(jax.vmap(draw, in_axes=(0, None, None)))


@functools.cache
def subjects(opacities=False, nodule=False):
    keys = jax.random.split(jax.random.key(3), NUMBER)
    return jax.tree.map(np.asarray, compiled()(keys, opacities, nodule))


def share(label):
    return np.mean(subjects()["labels"] == phantom.LABELS[label], axis=(1, 2))


def test_shapes_types_and_ranges():
    drawn = subjects()
    assert drawn["image"].shape == (NUMBER, SIZE, SIZE, 1) and drawn["image"].dtype == np.float32
    assert drawn["labels"].shape == (NUMBER, SIZE, SIZE) and drawn["labels"].dtype == np.int32
    assert drawn["image"].min() >= 0 and drawn["image"].max() <= 1
    assert all(drawn[name].dtype == bool for name in drawn if name.endswith("_mask"))


def test_a_key_gives_the_same_subject_wherever_it_stands_in_a_batch():
    keys = jax.random.split(jax.random.key(3), NUMBER)
    turned = compiled()(keys[::-1], False, False)
    np.testing.assert_allclose(subjects()["image"][::-1], turned["image"], atol=1e-5)


def test_no_two_subjects_are_alike():
    labels = subjects()["labels"]
    assert min(np.mean(labels[i] != labels[j]) for i in range(NUMBER) for j in range(i)) > 0.04


def test_sizes_show_the_same_subject():
    fine = jax.jit(lambda key: phantom.chest_xray(key, 128, opacities=False))(
        jax.random.split(jax.random.key(3), NUMBER)[0]
    )["image"]
    coarse = np.asarray(fine).reshape(SIZE, 2, SIZE, 2).mean((1, 3))
    assert np.corrcoef(coarse.ravel(), subjects()["image"][0].ravel())[0, 1] > 0.99


def test_disease_changes_neither_anatomy_nor_anything_outside_it():
    healthy, ill, nodule = subjects(), subjects(True), subjects(False, True)
    for other in (ill, nodule):
        np.testing.assert_array_equal(healthy["labels"], other["labels"])
    assert nodule["nodule_mask"].any((1, 2)).all() and not healthy["nodule_mask"].any()
    assert ill["opacity_mask"].any((1, 2)).mean() > 0.5 and not healthy["opacity_mask"].any()
    changed = np.abs(nodule["image"] - healthy["image"])[..., 0]
    assert changed[nodule["nodule_mask"]].mean() > 5 * changed[~nodule["nodule_mask"]].mean()


def test_lungs_are_darker_than_heart_and_opacities_hide_that():
    def contrast(drawn):
        lung = np.isin(drawn["labels"], (phantom.RIGHT_LUNG, phantom.LEFT_LUNG))
        return drawn["image"][drawn["labels"] == phantom.HEART].mean() - drawn["image"][lung].mean()

    assert contrast(subjects()) > 0.15
    assert contrast(subjects(True)) < contrast(subjects())


def test_organs_have_the_proportions_of_a_chest():
    right, left, heart = (share(name) for name in ("right_lung", "left_lung", "heart"))
    assert np.all((right > 0.06) & (right < 0.35)) and np.all((heart > 0.03) & (heart < 0.2))
    # The heart takes from the left lung.
    assert np.mean(right > left) > 0.7
    masks = subjects()["labels"] == phantom.HEART
    lungs = np.isin(subjects()["labels"], (phantom.RIGHT_LUNG, phantom.LEFT_LUNG))
    ratio = [
        np.ptp(np.flatnonzero(h.any(0))) / np.ptp(np.flatnonzero(c.any(0)))
        for h, c in zip(masks, lungs, strict=True)
    ]
    assert 0.35 < np.mean(ratio) < 0.6


def test_sides_are_those_of_the_patient():
    right, left, heart = np.moveaxis(subjects()["centroids"][..., 1], -1, 0)
    assert np.all(right < heart) and np.all(heart < left)


def test_centroids_lie_within_the_image():
    assert np.all((subjects()["centroids"] > 0) & (subjects()["centroids"] < SIZE))


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="at least 16"):
        phantom.chest_xray(jax.random.key(0), 8)
