"""Registered modalities of the head: order of tissues, diseases, the second scanner, arteries, effects."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.phantoms import head_anatomy, head_study
from medgan_jax.phantoms.head import head_slices
from medgan_jax.phantoms.head_modalities import mixture, shares

NUMBER, SIZE = 6, 96
EVERY = head_study.MODALITIES
KEYS = jax.random.split(jax.random.key(11), NUMBER)
# Few images of many programs: compiling costs more than drawing.
QUICK = {"xla_backend_optimization_level": 0}


# Of one program: whether ill, how much mass effect, whether by the second scanner.
WAYS = {
    "none": (False, 1.0, False),
    "tumour": (True, 1.0, False),
    "still": (True, 0.0, False),
    "second": (False, 1.0, True),
}


@functools.cache
def drawn():
    """The same subjects healthy, ill, and under the second scanner."""

    def draw(key):
        study = functools.partial(head_study.head_study, key, SIZE)

        def tumour(way):
            present, effect, second = way
            options = {"present": present, "mass_effect": effect, "second_scanner": second}
            return study(modalities=EVERY, disease="tumour", **options)

        ways = [jnp.array(each) for each in zip(*WAYS.values(), strict=True)]
        return jax.lax.map(tumour, ways), {
            "multiple_sclerosis": study(modalities=("t1", "flair", "myelin"), disease="multiple_sclerosis"),
            "contusion": study(modalities=("flair", "swi"), disease="contusion"),
        }

    every = jax.jit(lambda keys: jax.lax.map(draw, keys), compiler_options=QUICK)
    tumours, others = jax.tree.map(np.asarray, every(KEYS))
    ways = {name: {field: array[:, i] for field, array in tumours.items()} for i, name in enumerate(WAYS)}
    return ways | others


@functools.cache
def small():
    """The compiled (key, whether ill) -> study of 32 pixels without surroundings."""

    def draw(key, present):
        options = {"disease": "tumour", "brain_only": True, "modalities": ("t2", "ct")}
        return head_study.head_study(key, 32, present=present, **options)

    return jax.jit(jax.vmap(draw), compiler_options=QUICK)


@functools.cache
def effects():
    """Subtypes 0, 1 and 2 of the same subjects, at full and at a quarter of the strength."""

    def draw(key, subtype, strength):
        return head_study.head_effect(key, 64, subtype=subtype, strength=strength)

    several = jax.vmap(jax.vmap(draw, (0, None, None)), (None, 0, 0))
    every = jax.jit(several, compiler_options=QUICK)
    subtypes, strengths = jnp.array([0, 1, 2, 1]), jnp.array([1.0, 1.0, 1.0, 0.25])
    return jax.tree.map(np.asarray, every(KEYS[:4], subtypes, strengths))


def channel(which, modality, modalities=EVERY):
    return drawn()[which]["image"][..., modalities.index(modality)]


def means(modality, which="none"):
    """Mean of each tissue over all subjects."""
    labels = drawn()[which]["labels"]
    return {
        name: float(channel(which, modality)[labels == label].mean())
        for name, label in head_study.LABELS.items()
        if np.any(labels == label)
    }


def test_shapes_and_types():
    study = drawn()["tumour"]
    assert study["image"].shape == (NUMBER, SIZE, SIZE, len(EVERY)) and study["image"].dtype == np.float32
    assert study["labels"].dtype == np.int32 and study["tumour_mask"].shape == (NUMBER, SIZE, SIZE, 3)
    assert all(study[name].dtype == bool for name in study if name.endswith("mask"))
    assert np.isfinite(study["image"]).all()


def test_subjects_are_those_of_the_head_and_no_two_are_alike():
    labels = drawn()["none"]["labels"]
    slices = jax.jit(functools.partial(head_slices, size=SIZE), compiler_options=QUICK)
    plain = np.asarray(slices(KEYS)["labels"])
    agree = labels == plain
    # Arteries and the sinus's air are drawn over the others' tissue.
    assert agree[(labels != head_study.ARTERY) & (labels != head_anatomy.SKULL)].mean() > 0.999
    for i in range(NUMBER):
        assert all(np.mean(labels[i] != labels[j]) > 0.05 for j in range(i))


def test_tissues_have_the_order_of_each_mr_contrast():
    flair, t1c, mra, gre = (means(name) for name in ("flair", "t1c", "mra", "gre"))
    assert flair["cortex"] > 1.1 * flair["white_matter"] > 1.3 * flair["ventricle"]
    assert t1c["white_matter"] > t1c["cortex"]
    assert mra["artery"] > 1.5 * mra["white_matter"] > 1.3 * mra["ventricle"]
    assert gre["deep_grey"] < gre["cortex"]
    for contrast in (flair, t1c, gre):
        assert contrast["skull"] < 0.6 * contrast["cortex"]


def test_attenuation_is_in_hounsfield_units_and_air_and_bone_differ_only_there():
    ct, t1 = means("ct"), means("t1")
    assert abs(ct["white_matter"] - 29) < 6 and abs(ct["cortex"] - 37) < 7 and ct["air"] < -950
    assert ct["cortex"] - ct["white_matter"] > 4 and ct["ventricle"] < 20
    # Compact bone is as dark as air on MR; the marrow between its tables is bright.
    dark, labels = channel("none", "t1") < 0.3 * t1["cortex"], drawn()["none"]["labels"]
    bone, air = labels == head_anatomy.SKULL, labels == head_anatomy.AIR
    attenuation = channel("none", "ct")
    assert ct["skull"] > 500 and np.mean(dark[bone]) > 0.25 and np.mean(dark[air]) > 0.95
    assert attenuation[dark & bone].mean() > 500 and attenuation[dark & air].mean() < -950
    white = drawn()["none"]["labels"] == head_anatomy.WHITE_MATTER
    noise = [channel("none", "ct")[i][white[i]].std() for i in range(NUMBER)]
    assert 2 < np.mean(noise) < 9


def test_uptake_and_myelin_follow_grey_and_white_matter():
    pet, myelin = means("pet"), means("myelin")
    assert pet["deep_grey"] > 1.3 * pet["white_matter"] and pet["cortex"] > 1.2 * pet["white_matter"]
    assert myelin["white_matter"] > 1.4 * myelin["cortex"] > 1.5 * myelin["air"]
    # A point spread of 5 to 6 mm leaves no detail finer than it: neighbours are alike.
    image = channel("none", "pet")
    step = np.abs(np.diff(image, axis=1)).mean() / np.abs(image - image.mean((1, 2), keepdims=True)).mean()
    sharp = channel("none", "t1")
    assert step < 0.6 * np.abs(np.diff(sharp, axis=1)).mean() / np.abs(sharp - sharp.mean()).mean()


def test_regions_of_a_tumour_are_nested_and_bright_where_they_are_in_patients():
    mask = drawn()["tumour"]["tumour_mask"]
    assert not np.any(mask[..., 1] & ~mask[..., 0]) and not np.any(mask[..., 2] & ~mask[..., 1])
    area = mask.sum((1, 2)) / SIZE**2
    assert np.all((area[:, 0] > 0.005) & (area[:, 0] < 0.12)) and np.any(area[:, 2] > 0)
    brain = drawn()["tumour"]["brain_mask"] & ~mask[..., 0]
    for modality, region, low, high in (("flair", 0, 1.2, 4), ("t1", 0, 0.3, 0.95), ("t2", 1, 1.1, 4)):
        image = channel("tumour", modality)
        ratio = np.mean(image[mask[..., region]]) / np.mean(image[brain])
        assert low < ratio < high, (modality, ratio)
    after, before = channel("tumour", "t1c"), channel("tumour", "t1")
    enhancing = mask[..., 2]
    assert after[enhancing].mean() > 1.3 * after[brain].mean() > before[enhancing].mean()
    # On CT it is hardly to be seen: less than two standard deviations of the noise from the brain.
    ct = channel("tumour", "ct")
    assert abs(ct[mask[..., 0]].mean() - ct[brain].mean()) < 12


def test_a_tumour_pushes_the_brain_but_not_the_skull_and_adds_nothing_else_without_mass_effect():
    healthy, still, pushed = (drawn()[which] for which in ("none", "still", "tumour"))
    outside = ~still["tumour_mask"][..., 0]
    np.testing.assert_array_equal(still["labels"][outside], healthy["labels"][outside])
    np.testing.assert_array_equal(pushed["bone_mask"], healthy["bone_mask"])
    moved = (pushed["labels"] != healthy["labels"]) & ~pushed["tumour_mask"][..., 0]
    assert np.all(moved.sum((1, 2)) > 30)


def test_lesions_are_bright_on_flair_and_have_lost_their_myelin():
    ill, modalities = drawn()["multiple_sclerosis"], ("t1", "flair", "myelin")
    lesion, white = ill["lesion_mask"], ill["labels"] == head_anatomy.WHITE_MATTER
    t1, flair, myelin = (channel("multiple_sclerosis", name, modalities) for name in modalities)
    assert lesion.any((1, 2)).mean() > 0.7 and lesion.mean() < 0.03
    assert flair[lesion].mean() > 1.2 * flair[white].mean()
    assert t1[lesion].mean() < 0.95 * t1[white].mean() and myelin[lesion].mean() < 0.85 * myelin[white].mean()
    same = ~lesion
    np.testing.assert_array_equal(ill["labels"][same], drawn()["none"]["labels"][same])


def test_contusions_bleed_and_lie_in_the_brain():
    ill, modalities = drawn()["contusion"], ("flair", "swi")
    blood = ill["labels"] == head_study.HAEMORRHAGE
    swi, flair = channel("contusion", "swi", modalities), channel("contusion", "flair", modalities)
    brain = ill["brain_mask"] & ~ill["lesion_mask"]
    assert swi[blood].mean() < 0.6 * swi[brain].mean()
    assert flair[ill["lesion_mask"] & ~blood].mean() > 1.15 * flair[brain].mean()
    assert np.all(ill["brain_mask"][ill["lesion_mask"]])


def test_the_second_scanner_shows_the_same_subjects_otherwise():
    first, second = drawn()["none"], drawn()["second"]
    np.testing.assert_array_equal(first["labels"], second["labels"])
    air = first["labels"] == head_anatomy.AIR
    assert second["image"][..., 0][air].mean() > 1.5 * channel("none", "t1")[air].mean()
    # T1 by spin echo: less contrast between grey and white matter.
    tissue = [first["labels"] == label for label in (head_anatomy.WHITE_MATTER, head_anatomy.CORTEX)]
    ratios = [np.divide(*(image[where].mean() for where in tissue))
              for image in (channel("none", "t1"), second["image"][..., 0])]  # fmt: skip
    assert ratios[0] > ratios[1] + 0.05


def test_without_its_surroundings_only_the_brain_is_left_and_presence_can_be_traced():
    cases = small()(KEYS[:2], jnp.array([True, True]))
    controls = small()(KEYS[:2], jnp.array([False, False]))
    assert cases["tumour_mask"].any() and not controls["tumour_mask"].any()
    outside = ~np.asarray(cases["brain_mask"])
    assert np.asarray(cases["image"])[..., 0][outside].max() < 0.12
    assert np.asarray(cases["image"])[..., 1][outside].max() < -900
    mixed = small()(KEYS[:2][::-1], jnp.array([False, True]))
    np.testing.assert_allclose(mixed["image"][1], cases["image"][0], atol=1e-2)


def test_effects_are_known_and_their_subtypes_differ():
    drawn_effects = effects()
    effect, mask = drawn_effects["effect_map"][..., 0], drawn_effects["effect_mask"]
    assert np.abs(effect[0]).max() < 1e-6 and not mask[0].any() and mask[1:].any((2, 3)).all()
    rows = np.arange(64)[:, None] - 32.0
    height = [(np.abs(each) * rows).sum() / np.abs(each).sum() for each in effect[1:3]]
    assert height[0] < height[1] - 6
    assert np.abs(effect[3]).sum() < 0.8 * np.abs(effect[1]).sum()
    added = drawn_effects["image"][1, ..., 0] - drawn_effects["image"][0, ..., 0]
    assert np.corrcoef(added.ravel(), effect[1].ravel())[0, 1] > 0.6


def test_shares_are_those_of_painting_one_over_the_other():
    covers = [
        (jnp.array([1.0, 0.5]), "white"),
        (jnp.array([0.0, 0.5]), "grey"),
        (jnp.array([0.25, 0.0]), "white"),
    ]
    parts = shares(covers)
    np.testing.assert_allclose(parts["white"], [1.0, 0.25])
    np.testing.assert_allclose(parts["grey"], [0.0, 0.5])
    np.testing.assert_allclose(parts["air"], [0.0, 0.25])
    images = mixture([{"white": 2.0, "grey": 4.0, "air": -8.0}], parts)
    np.testing.assert_allclose(images, [[2.0, 0.5]])


def test_impossible_requests_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="unknown modality 'xray'"):
        head_study.head_study(key, modalities=("t1", "xray"))
    with pytest.raises(ValueError, match="unknown disease 'cold'"):
        head_study.head_study(key, disease="cold")
    with pytest.raises(ValueError, match="at least 16"):
        head_study.head_effect(key, 8, subtype=1)
