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
def subjects():
    """The same subjects in every modality, with and without a lesion, compiled as one program."""

    def draw(key):
        one = functools.partial(pelvis.pelvis_slice, key, 128, level=0.0)
        slices = {modality: one(modality=modality) for modality in ("t2", "t1", "ct")}
        return slices | {
            "lesion": one(lesion=True),
            "gland": pelvis.prostate_mpmr(key, 64, aggressive=True),
        }

    return jax.tree.map(np.asarray, jax.jit(lambda keys: jax.lax.map(draw, keys))(KEYS))


@functools.cache
def small(level=None):
    return jax.jit(jax.vmap(lambda key: pelvis.pelvis_slice(key, 64, level=level)))


def at(name, label, modality="t2"):
    drawn = subjects()[modality]
    return drawn["image"][..., 0][drawn["labels"] == LABELS[label]]


def test_shapes_types_and_ranges():
    drawn = subjects()["t2"]
    assert drawn["image"].shape == (NUMBER, 128, 128, 1) and drawn["image"].dtype == np.float32
    assert drawn["labels"].dtype == np.int32 and drawn["landmarks"].shape == (NUMBER, 4, 2)
    assert drawn["image"].min() >= 0 and drawn["image"].max() <= 1
    assert np.all(np.isfinite(subjects()["ct"]["image"])) and subjects()["ct"]["image"].min() >= -1024
    assert subjects()["gland"]["image"].shape == (NUMBER, 64, 64, 3)


def test_a_key_gives_the_same_subject_again_wherever_it_stands_and_no_two_are_alike():
    first = small()(KEYS)
    np.testing.assert_array_equal(first["image"], small()(KEYS)["image"])
    np.testing.assert_allclose(first["image"][::-1], small()(KEYS[::-1])["image"], atol=1e-5)
    labels = np.asarray(first["labels"])
    assert all(np.mean(labels[i] != labels[j]) > 0.03 for i in range(NUMBER) for j in range(i))


def test_modalities_and_lesions_share_one_anatomy():
    drawn = subjects()
    for other in ("t1", "ct"):
        # Programs that round differently may disagree on a pixel that a border halves.
        assert np.mean(drawn["t2"]["labels"] != drawn[other]["labels"]) < 1e-4
    ill = drawn["lesion"]
    same = ~ill["lesion_mask"]
    assert np.mean((ill["labels"] != drawn["t2"]["labels"])[same]) < 1e-4
    assert np.all(drawn["t2"]["prostate_mask"][ill["lesion_mask"]])
    assert ill["lesion_mask"].any()


def test_organs_have_their_size_and_place():
    drawn = subjects()["t2"]
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
    above, within = (np.asarray(small(level)(KEYS)["labels"]) for level in (-35.0, 6.0))
    assert np.all((above == LABELS["bladder"]).sum((1, 2)) > 30)
    assert np.all((within == LABELS["bladder"]).sum((1, 2)) < 5)
    prostate = [np.isin(labels, pelvis.PROSTATE).sum((1, 2)) for labels in (above, within)]
    assert np.all(prostate[0] == 0) and np.all(prostate[1] > 15)


def test_tissues_keep_their_order_in_each_contrast():
    t2 = [np.median(at("t2", name)) for name in ("muscle", "transition_zone", "peripheral_zone")]
    assert t2[0] < t2[1] < t2[2]
    assert np.median(at("t1", "fat", "t1")) > 1.3 * np.median(at("t1", "peripheral_zone", "t1"))
    hounsfield = [np.median(at("ct", name, "ct")) for name in ("fat", "muscle", "bone")]
    np.testing.assert_allclose(hounsfield[:2], [-105, 55], atol=12)
    assert hounsfield[2] > 200


def test_air_and_bone_are_both_dark_in_mr_but_not_in_ct():
    drawn = subjects()
    ct, t2 = drawn["ct"]["image"], drawn["t2"]["image"]
    dense, air = ct > 600, ct < -800
    assert np.median(t2[dense]) < 0.15 and np.median(t2[air]) < 0.1
    gas = air[..., 0] & (drawn["ct"]["labels"] == LABELS["rectum"])
    assert gas.any((1, 2)).any()


def test_ct_noise_is_that_of_a_scanner():
    drawn = subjects()["ct"]
    muscle = drawn["labels"] == LABELS["muscle"]
    inside = np.all([np.roll(muscle, step, axis) for axis in (1, 2) for step in (-2, 0, 2)], axis=0)
    spread = [drawn["image"][case, ..., 0][inside[case]].std() for case in range(NUMBER)]
    assert 12 < np.median(spread) < 27


def test_the_gland_in_three_contrasts_shows_a_lesion_in_each():
    drawn = subjects()["gland"]
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
