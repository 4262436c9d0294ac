"""The head in three dimensions: proportions, modalities, coats, diseases, thin stacks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.phantoms import head_volume

NUMBER, SIDES = 3, (48, 48, 48)
KEYS = jax.random.split(jax.random.key(5), NUMBER)
MODALITIES = ("t1", "t2", "flair", "ct")
# Few images of many programs: compiling costs more than drawing.
QUICK = {"xla_backend_optimization_level": 0}


@functools.cache
def drawn():
    """Heads with coats, brains, thin stacks and ill brains of the same subjects, as one program."""

    def draw(key):
        volume = functools.partial(head_volume.head_volume, key)

        def lesions(present):
            return volume(SIDES, modalities=("flair",), disease="lesions", present=present)

        both = {
            ("brain", "wide"): jax.lax.map(
                lambda width: volume(SIDES, ventricles=width), jnp.array([1.0, 1.6])
            ),
            ("lesions", "well"): jax.lax.map(lesions, jnp.array([True, False])),
        }
        return both, {
            "head": volume(SIDES, modalities=MODALITIES, coats=True),
            "stack": volume((8, 24, 48)),
            "tumour": volume(SIDES, modalities=("t1c", "flair"), disease="tumour"),
        }

    every = jax.jit(lambda keys: jax.lax.map(draw, keys), compiler_options=QUICK)
    both, single = jax.tree.map(np.asarray, every(KEYS))
    for names, pair in both.items():
        for i, name in enumerate(names):
            single[name] = {field: array[:, i] for field, array in pair.items()}
    return single


def test_shapes_and_types():
    head, stack = drawn()["head"], drawn()["stack"]
    assert head["image"].shape == (NUMBER, *SIDES, 4) and head["image"].dtype == np.float32
    assert head["labels"].dtype == np.int32 and head["tumour_mask"].shape == (NUMBER, *SIDES, 3)
    assert stack["image"].shape == (NUMBER, 8, 24, 48, 1)
    assert np.isfinite(head["image"]).all()


def test_brain_has_the_volume_and_tissues_of_an_adult():
    brain = drawn()["brain"]
    litres = brain["brain_mask"].sum((1, 2, 3)) * (0.2 / 48) ** 3 * 1000
    assert np.all((litres > 0.9) & (litres < 2.0))
    share = {name: (brain["labels"] == label).mean((1, 2, 3)) for name, label in head_volume.LABELS.items()}
    ratio = share["cortex"] / share["white_matter"]
    assert np.all((ratio > 0.5) & (ratio < 1.8))
    for name in ("csf", "deep_grey", "ventricle", "cerebellum", "brain_stem"):
        assert np.all(share[name] > 3e-4), name
    assert np.all(share["cerebellum"] < 0.25 * (share["cortex"] + share["white_matter"]))


def test_no_two_subjects_are_alike():
    labels = drawn()["brain"]["labels"]
    for i in range(NUMBER):
        assert all(np.mean(labels[i] != labels[j]) > 0.03 for j in range(i))


def test_coats_and_modalities_are_registered():
    head, brain = drawn()["head"], drawn()["brain"]
    inside = brain["brain_mask"]
    np.testing.assert_array_equal(head["labels"][inside], brain["labels"][inside])
    assert brain["image"][~inside].max() < 0.15 and not brain["labels"][~inside].any()
    bone = head["bone_mask"]
    t1, t2, flair, ct = np.moveaxis(head["image"], -1, 0)
    # Compact bone is dark on MR; the marrow between its tables is bright.
    dark = t1 < 0.35 * t1[inside].mean()
    assert ct[bone].mean() > 400 and np.mean(dark[bone]) > 0.15 and ct[bone & dark].mean() > 400
    white, fluid = head["labels"] == 5, head["labels"] == 7
    assert t1[white].mean() > 1.5 * t1[fluid].mean() and t2[fluid].mean() > 1.3 * t2[white].mean()
    assert flair[fluid].mean() < flair[white].mean()


def test_thin_stacks_and_coarse_voxels_show_the_same_subject():
    fine, stack = (drawn()[name]["image"][..., 0] for name in ("brain", "stack"))
    expected = fine.reshape(NUMBER, 8, 6, 24, 2, 48).mean((2, 4))
    assert all(np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.97 for a, b in zip(stack, expected, strict=True))


def test_ventricles_grow_and_nothing_else_is_lost():
    brain, wide = drawn()["brain"]["labels"], drawn()["wide"]["labels"]
    ventricle = head_volume.LABELS["ventricle"]
    assert np.all((wide == ventricle).sum((1, 2, 3)) > 1.3 * (brain == ventricle).sum((1, 2, 3)))
    other = (wide != ventricle) & (brain != ventricle)
    np.testing.assert_array_equal(wide[other], brain[other])


def test_lesions_are_bright_on_flair_and_absent_in_the_healthy():
    ill, well = drawn()["lesions"], drawn()["well"]
    lesion, white = ill["lesion_mask"], ill["labels"] == head_volume.LABELS["white_matter"]
    assert lesion.any() and not well["lesion_mask"].any()
    assert ill["image"][..., 0][lesion].mean() > 1.15 * ill["image"][..., 0][white].mean()
    np.testing.assert_array_equal(ill["labels"][~lesion], well["labels"][~lesion])


def test_regions_of_a_tumour_are_nested_and_enhance():
    tumour = drawn()["tumour"]
    mask = tumour["tumour_mask"]
    assert not np.any(mask[..., 1] & ~mask[..., 0]) and not np.any(mask[..., 2] & ~mask[..., 1])
    assert np.all(mask[..., 2].any((1, 2, 3)))
    brain = tumour["brain_mask"] & ~mask[..., 0]
    assert tumour["image"][..., 0][mask[..., 2]].mean() > 1.2 * tumour["image"][..., 0][brain].mean()
    assert tumour["image"][..., 1][mask[..., 0]].mean() > 1.2 * tumour["image"][..., 1][brain].mean()


def test_impossible_requests_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="unknown modality 'xray'"):
        head_volume.head_volume(key, modalities=("xray",))
    with pytest.raises(ValueError, match="unknown disease 'cold'"):
        head_volume.head_volume(key, disease="cold")
    with pytest.raises(ValueError, match="three sides"):
        head_volume.head_volume(key, (32, 32))
