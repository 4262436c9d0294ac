"""Skin lesions: kinds that differ by structure alone, masks that hold, photographs with several lesions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import label

from medgan_jax.phantoms import skin

SIZE, NUMBER = 64, 24
QUICK = {"xla_backend_optimization_level": 0}
KEYS = functools.partial(jax.random.split, num=NUMBER)


@functools.cache
def dermoscopy():
    draw = jax.vmap(
        lambda key, kind, hair: skin.dermoscopy_image(key, SIZE, kind=kind, hair=hair), (0, None, None)
    )
    return jax.jit(draw, compiler_options=QUICK)


@functools.cache
def lesions(kind, hair=True):
    return jax.tree.map(np.asarray, dermoscopy()(KEYS(jax.random.key(1)), kind, hair))


@functools.cache
def photographs():
    draw = jax.jit(jax.vmap(lambda key: skin.skin_photograph(key, SIZE)), compiler_options=QUICK)
    return jax.tree.map(np.asarray, draw(KEYS(jax.random.key(1))))


def roughness(mask):
    """Perimeter over that of the disc of equal area."""
    border = mask & ~(np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1))
    return border.sum() / np.sqrt(mask.sum())


def test_shapes_types_and_ranges():
    for drawn in (lesions(skin.NEVUS), photographs()):
        assert drawn["image"].shape == (NUMBER, SIZE, SIZE, 3) and drawn["image"].dtype == np.float32
        assert drawn["image"].min() >= 0 and drawn["image"].max() <= 1
        assert drawn["lesion_mask"].shape == (NUMBER, SIZE, SIZE) and drawn["lesion_mask"].dtype == bool
    assert lesions(skin.NEVUS)["labels"].dtype == np.int32
    assert photographs()["centres"].shape == (NUMBER, skin.MOLES, 2)


def test_same_key_same_lesion_and_no_two_alike():
    turned = dermoscopy()(KEYS(jax.random.key(1))[::-1], skin.NEVUS, True)
    np.testing.assert_allclose(turned["image"][::-1], lesions(skin.NEVUS)["image"], atol=1e-5)
    images = lesions(skin.NEVUS)["image"][:8]
    assert all(np.abs(images[i] - images[j]).mean() > 0.02 for i in range(8) for j in range(i))


def test_kinds_share_skin_size_and_darkness_and_differ_in_border():
    nevus, melanoma = lesions(skin.NEVUS), lesions(skin.MELANOMA)
    skin_seen = ~nevus["lesion_mask"] & ~melanoma["lesion_mask"]
    difference = np.abs(nevus["image"] - melanoma["image"]).max(-1)
    assert np.mean(difference[skin_seen] < 0.03) > 0.9
    areas = [each["lesion_mask"].mean((1, 2)) for each in (nevus, melanoma)]
    assert abs(np.log(areas[0].mean() / areas[1].mean())) < 0.1
    darkness = [each["image"].mean((1, 2, 3)) for each in (nevus, melanoma)]
    assert abs(darkness[0].mean() - darkness[1].mean()) < 0.5 * darkness[0].std()
    rough = [np.mean([roughness(mask) for mask in each["lesion_mask"]]) for each in (nevus, melanoma)]
    assert rough[1] > 1.04 * rough[0]


def test_lesions_are_darker_than_skin():
    for kind in skin.KINDS.values():
        drawn = lesions(kind, False)
        for image, labels in zip(drawn["image"], drawn["labels"], strict=True):
            assert image[labels == skin.LESION].mean() < 0.92 * image[labels == skin.SKIN].mean()


def test_hair_lies_over_the_same_lesion():
    with_hair, without = lesions(skin.NEVUS), lesions(skin.NEVUS, False)
    np.testing.assert_array_equal(with_hair["lesion_mask"], without["lesion_mask"])
    assert not without["hair_mask"].any() and 0.3 < with_hair["hair_mask"].any((1, 2)).mean() < 0.9
    hair = with_hair["hair_mask"]
    assert with_hair["image"][hair].mean() < without["image"][hair].mean() - 0.1


def test_photographs_have_as_many_lesions_as_they_say():
    drawn = photographs()
    assert np.ptp(drawn["valid"].sum(1)) >= 2 and drawn["valid"].sum(1).max() <= skin.MOLES
    assert drawn["pigmented_mask"].any() and (drawn["lesion_mask"] & ~drawn["pigmented_mask"]).any()
    for mask, valid, centres in zip(drawn["lesion_mask"], drawn["valid"], drawn["centres"], strict=True):
        assert label(mask, np.ones((3, 3)))[1] >= valid.sum() * 0.6
        seen = np.rint(centres[valid]).astype(int)
        seen = seen[((seen >= 0) & (seen < SIZE)).all(1)]
        if len(seen):
            assert mask[tuple(seen.T)].mean() >= 0.5


def test_no_threshold_finds_lesions_on_a_photograph():
    drawn = photographs()
    best = 0
    for channel in range(3):
        for level in np.linspace(0.1, 0.7, 25):
            found = drawn["image"][..., channel] < level
            both = (found & drawn["lesion_mask"]).sum((1, 2))
            best = max(
                best,
                np.mean(2 * both / np.maximum((found.sum((1, 2)) + drawn["lesion_mask"].sum((1, 2))), 1)),
            )
    assert best < 0.6


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="kind 7"):
        skin.dermoscopy_image(jax.random.key(0), kind=7)
    with pytest.raises(ValueError, match="32"):
        skin.skin_photograph(jax.random.key(0), 16)


def test_frequencies_are_of_all_kinds():
    assert len(skin.FREQUENCIES) == len(skin.KINDS) and abs(sum(skin.FREQUENCIES) - 1) < 1e-6
    assert jax.eval_shape(skin.TASKS[1].draw, jax.random.key(0))["target"].shape == ()
    assert jax.eval_shape(skin.TASKS[0].draw, jax.random.key(0))["target"].dtype == jnp.float32
