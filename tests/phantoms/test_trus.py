"""Transrectal ultrasound and its pairs with MR: the known deformation, landmarks, shadows, speckle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.phantoms import trus
from medgan_jax.phantoms.pelvis import LABELS, TISSUES
from medgan_jax.physics import deformation

NUMBER = 4
KEYS = jax.random.split(jax.random.key(2), NUMBER)


@functools.cache
def program():
    """Frames of keys and a number of calcifications."""
    return jax.jit(jax.vmap(lambda key, stones: trus.trus_image(key, 96, calcifications=stones), (0, None)))


@functools.cache
def frames():
    """The same subjects without and with calcifications."""
    return [jax.tree.map(np.asarray, program()(KEYS, stones)) for stones in (0, 3)]


@functools.cache
def pairs(size=64, slices=1):
    draw = jax.jit(jax.vmap(lambda key: trus.mr_trus_pair(key, size, slices, lesion=True)))
    return jax.tree.map(np.asarray, draw(KEYS[: 2 if slices > 1 else NUMBER]))


def overlap(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_shapes_types_and_ranges():
    frame = frames()[0]
    assert frame["image"].shape == (NUMBER, 96, 96, 1) and frame["landmarks"].shape == (NUMBER, 12, 2)
    assert frame["image"].min() >= 0 and frame["image"].max() <= 1
    assert np.all(frame["image"][~frame["sector_mask"]] == 0)
    volume = pairs(32, 12)
    assert volume["mr"].shape == volume["trus"].shape == (2, 12, 32, 32, 1)
    assert volume["displacement"].shape == (2, 12, 32, 32, 3) and volume["mr_landmarks"].shape == (2, 12, 3)


def test_a_key_gives_the_same_frame_again_and_no_two_are_alike():
    again = program()(KEYS[::-1], 0)
    np.testing.assert_array_equal(again["prostate_mask"][::-1], frames()[0]["prostate_mask"])
    np.testing.assert_allclose(again["image"][::-1], frames()[0]["image"], atol=1e-3)
    masks = frames()[0]["prostate_mask"]
    assert all(overlap(masks[i], masks[j]) < 0.98 for i in range(NUMBER) for j in range(i))


@pytest.mark.parametrize(("size", "slices"), [(64, 1), (32, 12)])
def test_the_known_deformation_never_folds_and_brings_mr_onto_ultrasound(size, slices):
    pair = pairs(size, slices)
    field = jnp.asarray(pair["displacement"])
    inside = (slice(None),) + (slice(2, -2),) * (field.ndim - 2)
    assert float(deformation.jacobian_determinant(field)[inside].min()) > 0
    millimetres = np.linalg.norm(pair["displacement"] * pair["spacing"][0], axis=-1)
    assert millimetres.max() < 15 and np.all(millimetres.reshape(len(field), -1).max(1) > 1.5)
    pulled = deformation.warp(pair["mr_labels"][..., None], field, interpolation="nearest")[..., 0]
    assert np.mean(np.asarray(pulled) == pair["trus_labels"]) > 0.999
    before = overlap(pair["mr_prostate_mask"], pair["trus_prostate_mask"])
    after = overlap(np.isin(pulled, (8, 9, 10, 11)), pair["trus_prostate_mask"])
    assert after > 0.999 and before < 0.97


@pytest.mark.parametrize(("size", "slices"), [(64, 1), (32, 12)])
def test_landmarks_follow_the_deformation(size, slices):
    """The error of the truth is under 0.1 voxel; with the wrong sign it is about twice that of none."""
    pair = pairs(size, slices)
    field = jnp.asarray(pair["displacement"])

    def error(displacement):
        moved = deformation.warp_points(pair["trus_landmarks"], displacement)
        return np.linalg.norm(np.asarray(moved) - pair["mr_landmarks"], axis=-1).mean()

    still = error(0 * field)
    assert error(field) < 0.1 and still > 0.5
    assert error(-field) > 1.7 * still


def test_border_landmarks_lie_on_the_border_and_shadows_hide_some():
    clear, shadowed = frames()
    for case in range(NUMBER):
        mask = clear["prostate_mask"][case]
        middle = np.argwhere(mask).mean(0)
        for landmark in clear["landmarks"][case]:
            inner, outer = middle + 0.88 * (landmark - middle), middle + 1.12 * (landmark - middle)
            assert mask[tuple(np.rint(inner).astype(int))] and not mask[tuple(np.rint(outer).astype(int))]
    assert clear["visible"].mean() > 0.9
    hidden = (clear["visible"] & ~shadowed["visible"]).sum(1)
    assert hidden.sum() >= 2 and hidden.max() <= 6
    np.testing.assert_array_equal(clear["labels"], shadowed["labels"])


def test_the_gland_is_darker_than_its_surroundings_and_speckled():
    frame = frames()[0]
    image, gland = frame["image"][..., 0], frame["prostate_mask"] & frame["sector_mask"]
    fat = (frame["labels"] == LABELS["fat"]) & frame["sector_mask"]
    inside, outside = image[gland], image[fat]
    assert 0.03 < outside.mean() - inside.mean() < 0.4
    # In decibels compressed speckle has an SD of 5.6 dB.
    assert 0.6 * 5.6 < trus.DYNAMIC_RANGE * inside.std() < 2.2 * 5.6


def test_every_tissue_has_its_acoustics():
    assert list(trus.ACOUSTICS) == list(TISSUES)


def test_sizes_agree():
    shares = [drawn.mean((1, 2)) for drawn in (frames()[0]["prostate_mask"], pairs()["trus_prostate_mask"])]
    np.testing.assert_allclose(*shares, rtol=0.05)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="32 x 32"):
        trus.trus_image(KEYS[0], 16)
