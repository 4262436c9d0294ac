"""The abdomen in CT, MR and PET: registered modalities, organs, lesions, the spleen's range, volumes."""

import functools

import jax
import numpy as np
import pytest

from medgan_jax.phantoms import abdomen as phantom

NUMBER, SIZE = 8, 64


@functools.cache
def compiled():
    def draw(key, lesions, noise, level):
        options = dict(lesions=lesions, noise=noise, level=level)
        return {
            name: phantom.abdomen_slice(key, SIZE, modality=name, **options) for name in ("ct", "mr", "pet")
        }

    return jax.jit(jax.vmap(draw, in_axes=(0, None, None, None)))


@functools.cache
def subjects(lesions=True, noise=0.0, level=-0.15):
    keys = jax.random.split(jax.random.key(2), NUMBER)
    return jax.tree.map(np.asarray, compiled()(keys, lesions, noise, level))


def tissue(modality, label, **options):
    drawn = subjects(**options)[modality]
    return drawn["image"][..., 0][drawn["labels"] == phantom.LABELS[label]]


def test_shapes_types_and_ranges():
    for name, drawn in subjects().items():
        assert drawn["image"].shape == (NUMBER, SIZE, SIZE, 1) and drawn["image"].dtype == np.float32, name
        assert drawn["labels"].dtype == np.int32 and np.isfinite(drawn["image"]).all()
    assert subjects()["mr"]["image"].min() >= 0 and subjects()["mr"]["image"].max() <= 1
    assert subjects()["pet"]["image"].min() >= 0


def test_a_key_gives_the_same_subject_again_and_no_two_are_alike():
    keys = jax.random.split(jax.random.key(2), NUMBER)
    again = compiled()(keys[::-1], True, 0.0, -0.15)
    np.testing.assert_allclose(subjects()["ct"]["image"][::-1], again["ct"]["image"], atol=0.5)
    labels = subjects()["ct"]["labels"]
    assert min(np.mean(labels[i] != labels[j]) for i in range(NUMBER) for j in range(i)) > 0.05


def test_modalities_show_the_same_body():
    drawn = subjects()
    for name in ("mr", "pet"):
        np.testing.assert_array_equal(drawn["ct"]["labels"], drawn[name]["labels"])


def test_organs_have_their_hounsfield_units():
    assert 40 < np.median(tissue("ct", "liver")) < 130
    assert 40 < np.median(tissue("ct", "spleen")) < 140
    assert -130 < np.median(tissue("ct", "fat")) < -60
    assert np.median(tissue("ct", "bone")) > 120
    np.testing.assert_allclose(subjects()["ct"]["image"][:, 0], -1000, atol=1)


def test_lesions_change_nothing_else():
    healthy, ill = subjects(lesions=False)["ct"], subjects()["ct"]
    elsewhere = ~ill["lesion_mask"]
    np.testing.assert_array_equal(healthy["labels"][elsewhere], ill["labels"][elsewhere])
    assert np.all(
        np.isin(
            healthy["labels"][ill["lesion_mask"]],
            [phantom.LABELS["liver"], phantom.LABELS["vessel"], phantom.LABELS["gallbladder"]],
        )
    )
    assert not healthy["lesion_mask"].any() and ill["lesion_mask"].any((1, 2)).mean() > 0.7


def test_malignant_lesions_take_up_tracer_and_no_other_does():
    drawn = subjects()["pet"]
    image, malignant = drawn["image"][..., 0], drawn["malignant_mask"]
    benign = drawn["lesion_mask"] & ~malignant
    assert malignant.any() and benign.any()
    assert image[malignant].mean() > 1.4 * image[benign].mean()
    ct = subjects()["ct"]["image"][..., 0]
    assert abs(ct[malignant].mean() - ct[benign].mean()) < 25


def test_centroids_are_within_their_lesions():
    drawn = subjects()["ct"]
    points = drawn["lesion_centroids"][drawn["lesion_valid"]]
    assert len(points) and points.shape[1] == 2 and np.all((points > 0) & (points < SIZE))


def test_spleens_range_from_small_to_large():
    keys = jax.random.split(jax.random.key(5), 24)
    draw = jax.jit(
        jax.vmap(lambda key: phantom.abdomen_slice(key, SIZE, spleen_range=1.5, level=-0.1)["labels"])
    )
    area = np.sum(np.asarray(draw(keys)) == phantom.LABELS["spleen"], axis=(1, 2))
    area = area * (phantom.torso.FIELD_OF_VIEW_MM / SIZE / 10) ** 2
    # Healthy ones have about 30 cm^2; a spleen is within any body, however narrow.
    assert area.min() > 8 and np.quantile(area, 0.1) < 45
    assert np.quantile(area, 0.95) > 3.5 * np.quantile(area, 0.1)


def test_noise_is_what_was_asked():
    liver = subjects()["ct"]["labels"] == phantom.LABELS["liver"]
    noise = (subjects(noise=1.0)["ct"]["image"] - subjects()["ct"]["image"])[..., 0]
    # Averaged over voxels that are twice as wide as those it was drawn on.
    assert 4 < noise[liver].std() < 22


def test_volumes_have_the_asked_shape_and_organs():
    draw = jax.jit(lambda key: phantom.abdomen_volume(key, 32, 24, thickness_mm=10.0))
    volume = jax.tree.map(np.asarray, draw(jax.random.key(0)))
    assert volume["image"].shape == (24, 32, 32, 1) and volume["lesion_centroids"].shape == (4, 3)
    share = {name: np.mean(volume["labels"] == label) for name, label in phantom.LABELS.items()}
    assert share["liver"] > share["spleen"] > 0.001 and share["kidney"] > 0.001


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="unknown modality 'us'"):
        phantom.abdomen_slice(jax.random.key(0), 64, modality="us")
    with pytest.raises(ValueError, match="at least 16"):
        phantom.abdomen_slice(jax.random.key(0), 8)
