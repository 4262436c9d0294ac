"""The procedural pelvis: determinism, registration of modalities, anatomy, contrasts, refusals."""

import functools

import jax
import numpy as np
import pytest

from medgan_jax.phantoms import pelvis
from medgan_jax.phantoms.pelvis import LABELS

NUMBER = 4
KEYS = jax.random.split(jax.random.key(1), NUMBER)


@functools.cache
def program():
    """Every modality of a slice, one compiled program of keys, level and lesion."""

    def draw(key, level, lesion):
        return pelvis.pelvis_modalities(key, 128, level=level, lesion=lesion)

    return jax.jit(jax.vmap(draw, (0, None, None)))


@functools.cache
def subjects(level=0.0, lesion=False):
    return jax.tree.map(np.asarray, program()(KEYS, level, lesion))


@functools.cache
def glands():
    draw = jax.jit(jax.vmap(lambda key: pelvis.prostate_mpmr(key, 64, aggressive=True)))
    return jax.tree.map(np.asarray, draw(KEYS))


def at(modality, label):
    return subjects()[modality][..., 0][subjects()["labels"] == LABELS[label]]


def test_shapes_types_and_ranges():
    drawn = subjects()
    assert drawn["t2"].shape == (NUMBER, 128, 128, 1) and drawn["t2"].dtype == np.float32
    assert drawn["labels"].dtype == np.int32 and drawn["landmarks"].shape == (NUMBER, 4, 2)
    for modality in ("t2", "t1"):
        assert drawn[modality].min() >= 0 and drawn[modality].max() <= 1
    assert np.all(np.isfinite(drawn["ct"])) and drawn["ct"].min() >= -1024
    assert glands()["image"].shape == (NUMBER, 64, 64, 3)
    shapes = jax.eval_shape(lambda key: pelvis.pelvis_slice(key, 48, modality="ct"), KEYS[0])
    assert shapes["image"].shape == (48, 48, 1) and shapes["level"].shape == ()


def test_a_key_gives_the_same_subject_again_wherever_it_stands_and_no_two_are_alike():
    again = program()(KEYS[::-1], 0.0, False)
    np.testing.assert_allclose(again["t2"][::-1], subjects()["t2"], atol=1e-5)
    labels = subjects()["labels"]
    assert all(np.mean(labels[i] != labels[j]) > 0.03 for i in range(NUMBER) for j in range(i))


def test_a_lesion_adds_nothing_else():
    ill, healthy = subjects(lesion=True), subjects()
    same = ~ill["lesion_mask"]
    np.testing.assert_array_equal(ill["labels"][same], healthy["labels"][same])
    assert np.all(healthy["prostate_mask"][ill["lesion_mask"]]) and ill["lesion_mask"].any()
    assert not healthy["lesion_mask"].any()


def test_organs_have_their_size_and_place():
    drawn = subjects()
    pixel = (pelvis.FIELD_OF_VIEW_MM / 128) ** 2
    gland, rectum = drawn["prostate_mask"], drawn["labels"] == LABELS["rectum"]
    assert np.all((gland.sum((1, 2)) * pixel > 600) & (gland.sum((1, 2)) * pixel < 1900))
    assert np.all((rectum.sum((1, 2)) * pixel > 300) & (rectum.sum((1, 2)) * pixel < 1600))
    body = drawn["body_mask"].mean((1, 2))
    assert np.all((body > 0.3) & (body < 0.62))
    for case in range(NUMBER):
        middles = [np.argwhere(mask[case]).mean(0) for mask in (gland, rectum)]
        np.testing.assert_allclose(drawn["landmarks"][case, 0], middles[0], atol=2.5)
        assert middles[1][0] > middles[0][0] + 6
        heads = np.argwhere(drawn["labels"][case] == LABELS["femoral_head"])
        for side, place in ((-1, 2), (1, 3)):
            head = heads[(heads[:, 1] - 64) * side > 0].mean(0)
            np.testing.assert_allclose(drawn["landmarks"][case, place], head, atol=3)


def test_bladder_lies_above_the_prostate():
    above, within = (subjects(level)["labels"] for level in (-35.0, 6.0))
    assert np.all((above == LABELS["bladder"]).sum((1, 2)) > 120)
    assert np.all((within == LABELS["bladder"]).sum((1, 2)) < 20)
    prostate = [np.isin(labels, pelvis.PROSTATE).sum((1, 2)) for labels in (above, within)]
    assert np.all(prostate[0] == 0) and np.all(prostate[1] > 60)


def test_tissues_keep_their_order_in_each_contrast():
    t2 = [np.median(at("t2", name)) for name in ("muscle", "transition_zone", "peripheral_zone")]
    assert t2[0] < t2[1] < t2[2]
    assert np.median(at("t1", "fat")) > 1.3 * np.median(at("t1", "peripheral_zone"))
    hounsfield = [np.median(at("ct", name)) for name in ("fat", "muscle", "bone")]
    np.testing.assert_allclose(hounsfield[:2], [-105, 55], atol=12)
    assert hounsfield[2] > 200


def test_air_and_bone_are_both_dark_in_mr_but_not_in_ct():
    ct, t2 = subjects()["ct"], subjects()["t2"]
    dense, air = ct > 600, ct < -800
    assert np.median(t2[dense]) < 0.15 and np.median(t2[air]) < 0.1
    assert (air[..., 0] & (subjects()["labels"] == LABELS["rectum"])).any()


def test_ct_noise_is_that_of_a_scanner():
    muscle = subjects()["labels"] == LABELS["muscle"]
    inside = np.all([np.roll(muscle, step, axis) for axis in (1, 2) for step in (-2, 0, 2)], axis=0)
    spread = [subjects()["ct"][case, ..., 0][inside[case]].std() for case in range(NUMBER)]
    assert 12 < np.median(spread) < 27


def test_the_gland_in_three_contrasts_shows_a_lesion_in_each():
    drawn = glands()
    lesion, other = drawn["lesion_mask"], drawn["labels"] == LABELS["peripheral_zone"]
    assert lesion.sum() > 50 and drawn["aggressive"].sum() >= NUMBER - 1
    ill, healthy = (np.median(drawn["image"][mask], axis=0) for mask in (lesion, other))
    assert ill[0] < 0.8 * healthy[0] and ill[1] < 0.7 * healthy[1] and ill[2] > 1.2 * healthy[2]


def test_volumes_hold_neighbouring_slices():
    draw = jax.jit(
        lambda key: pelvis.pelvis_volume(key, 64, 3, level=-10.0, field_of_view_mm=180.0, noise=0.0)
    )
    volume = jax.tree.map(np.asarray, draw(KEYS[0]))
    assert volume["image"].shape == (3, 64, 64, 1) and volume["landmarks"].shape == (4, 3)
    np.testing.assert_allclose(volume["landmarks"][0, 0], 1 + 10 / 3, atol=1e-4)
    apart = np.abs(volume["image"][2] - volume["image"][1]).mean()
    assert 0 < apart < 0.08


def test_impossible_options_are_refused():
    with pytest.raises(ValueError, match="unknown modality"):
        pelvis.pelvis_slice(KEYS[0], modality="pet")
    with pytest.raises(ValueError, match="16 x 16"):
        pelvis.pelvis_slice(KEYS[0], 8)
    with pytest.raises(ValueError, match="100 mm"):
        pelvis.pelvis_volume(KEYS[0], field_of_view_mm=50.0)
