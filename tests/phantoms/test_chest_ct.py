"""Chest CT: HU of tissues, registration of options, true calcium scores, noise and spectrum, volumes."""

import functools

import jax
import numpy as np
import pytest

from medgan_jax.phantoms import chest_ct as phantom
from medgan_jax.phantoms import torso

NUMBER, SIZE = 6, 128


@functools.cache
def compiled():
    def draw(key, level, contrast, nodules, count, faint, noise):
        options = dict(
            contrast=contrast, nodules=nodules, calcifications=count, low_contrast=faint, noise=noise
        )
        return phantom.chest_ct_slice(key, SIZE, level=level, **options)

    return jax.jit(jax.vmap(draw, in_axes=(0, *(None,) * 6)))


@functools.cache
def subjects(level=0.25, contrast=False, nodules=False, count=0, faint=False, noise=0.0):
    keys = jax.random.split(jax.random.key(1), NUMBER)
    return jax.tree.map(np.asarray, compiled()(keys, level, contrast, nodules, count, faint, noise))


def tissue(drawn, label):
    return drawn["image"][..., 0][drawn["labels"] == phantom.LABELS[label]]


def test_shapes_and_types():
    drawn = subjects()
    assert drawn["image"].shape == (NUMBER, SIZE, SIZE, 1) and drawn["image"].dtype == np.float32
    assert drawn["labels"].dtype == np.int32 and drawn["agatston"].shape == (NUMBER,)


def test_a_key_gives_the_same_subject_again_and_no_two_are_alike():
    keys = jax.random.split(jax.random.key(1), NUMBER)
    again = compiled()(keys[::-1], 0.25, False, False, 0, False, 0.0)
    np.testing.assert_allclose(subjects()["image"][::-1], again["image"], atol=0.05)
    labels = subjects()["labels"]
    assert min(np.mean(labels[i] != labels[j]) for i in range(NUMBER) for j in range(i)) > 0.03


def test_tissues_have_their_hounsfield_units():
    drawn = subjects()
    air = drawn["image"][:, 0, :, 0]
    np.testing.assert_allclose(air, -1000, atol=1)
    for label, low, high in (("lung", -900, -650), ("heart", 20, 80), ("fat", -140, 20), ("bone", 150, 900)):
        assert low < np.median(tissue(drawn, label)) < high, label


def test_contrast_medium_brightens_blood_and_leaves_lungs_and_labels():
    plain, enhanced = subjects(), subjects(contrast=True)
    np.testing.assert_array_equal(plain["labels"], enhanced["labels"])
    assert np.mean(tissue(enhanced, "vessel")) > np.mean(tissue(plain, "vessel")) + 100
    assert abs(np.median(tissue(enhanced, "lung")) - np.median(tissue(plain, "lung"))) < 5


def test_nodules_lie_in_every_subject_and_change_nothing_else():
    plain, ill = subjects(), subjects(nodules=True)
    assert ill["nodule_mask"].any((1, 2)).all() and not plain["nodule_mask"].any()
    elsewhere = ~ill["nodule_mask"]
    np.testing.assert_array_equal(plain["labels"][elsewhere], ill["labels"][elsewhere])


def test_low_contrast_discs_are_5_to_15_hounsfield_units():
    faint = subjects(faint=True)
    mask = faint["low_contrast_mask"]
    change = (faint["image"] - subjects()["image"])[..., 0]
    assert mask.any((1, 2)).all()
    assert 3 < np.median(np.abs(change[mask])) < 15 and np.abs(change).max() <= 15.1


def test_calcium_scores_grow_with_the_number_of_inserts_and_agree_with_the_image():
    scores = np.stack([subjects(count=number)["agatston"] for number in range(7)])
    assert np.all(scores[0] == 0) and np.all(np.diff(scores, axis=0) > 0)
    drawn = subjects(count=6)
    area = drawn["calcification_mask"].sum((1, 2)) * torso.spacing_mm(SIZE) ** 2
    # Weights lie between 1 and 4.
    assert np.all(drawn["agatston"] > 0.6 * area) and np.all(drawn["agatston"] < 5.5 * area)
    assert np.all(drawn["image"].max((1, 2, 3)) > 130)


def test_noise_in_soft_tissue_is_what_was_asked_and_correlated():
    noise = (subjects(noise=20.0)["image"] - subjects()["image"])[..., 0]
    heart = subjects()["labels"] == phantom.HEART
    assert 15 < noise[heart].std() < 27
    neighbours = np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1]
    assert abs(neighbours) > 0.05


def test_lungs_are_as_large_as_lungs():
    share = subjects()["lung_mask"].mean((1, 2))
    assert np.all((share > 0.12) & (share < 0.45))


def test_a_slice_of_a_volume_is_the_slice_at_its_level():
    key = jax.random.split(jax.random.key(1), NUMBER)[0]
    draw = jax.jit(lambda key: phantom.chest_ct_volume(key, SIZE, 5, level=0.25, calcifications=6, noise=0.0))
    volume = jax.tree.map(np.asarray, draw(key))
    assert volume["image"].shape == (5, SIZE, SIZE, 1)
    plane, drawn = volume["labels"][2], subjects()["labels"][0]
    soft = (plane != phantom.CALCIFICATION) & (drawn != phantom.CALCIFICATION)
    assert np.mean(plane[soft] != drawn[soft]) < 0.01
    assert volume["agatston"] > 0


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="at least 16"):
        phantom.chest_ct_slice(jax.random.key(0), 8)
