"""Short-axis hearts: anatomy by position, contraction, infarcts seen in motion alone, missing slices."""

import functools

import jax
import numpy as np
import pytest

from medgan_jax.phantoms import cardiac as phantom

NUMBER, SIZE = 8, 64
KEYS = functools.partial(jax.random.split, num=NUMBER)


@functools.cache
def compiled(modality):
    def draw(key, position, contraction, infarct, noise):
        options = dict(position=position, contraction=contraction, infarct=infarct, noise=noise)
        return phantom.cardiac_slice(key, SIZE, modality=modality, **options)

    return jax.jit(jax.vmap(draw, in_axes=(0, None, None, None, None)))


@functools.cache
def subjects(modality="mr", position=0.35, contraction=0.0, infarct=False, noise=0.0):
    drawn = compiled(modality)(KEYS(jax.random.key(7)), position, contraction, infarct, noise)
    return jax.tree.map(np.asarray, drawn)


def areas(name, **options):
    return (subjects(**options)["labels"] == phantom.LABELS[name]).sum((1, 2))


def test_shapes_types_and_ranges():
    drawn = subjects()
    assert drawn["image"].shape == (NUMBER, SIZE, SIZE, 1) and drawn["image"].dtype == np.float32
    assert drawn["complex"].shape == (NUMBER, SIZE, SIZE, 2) and drawn["labels"].dtype == np.int32
    assert drawn["image"].min() >= 0 and drawn["image"].max() <= 1


def test_a_key_gives_the_same_subject_again_and_no_two_are_alike():
    again = compiled("mr")(KEYS(jax.random.key(7))[::-1], 0.35, 0.0, False, 0.0)
    np.testing.assert_allclose(subjects()["image"][::-1], again["image"], atol=1e-5)
    labels = subjects()["labels"]
    assert min(np.mean(labels[i] != labels[j]) for i in range(NUMBER) for j in range(i)) > 0.02


def test_the_heart_contracts_and_its_wall_keeps_its_area():
    rest, tight = areas("cavity"), areas("cavity", contraction=1.0)
    assert np.all(tight < 0.75 * rest) and np.all(tight > 0.2 * rest)
    wall = areas("myocardium", contraction=1.0) / areas("myocardium")
    assert np.all((wall > 0.9) & (wall < 1.35))


def test_an_infarct_is_invisible_at_rest_and_moves_less():
    healthy, ill = subjects(), subjects(infarct=True)
    np.testing.assert_array_equal(healthy["image"], ill["image"])
    assert ill["infarct_mask"].any((1, 2)).all() and not healthy["infarct_mask"].any()
    assert np.all(areas("cavity", contraction=1.0, infarct=True) > areas("cavity", contraction=1.0))


def test_late_enhancement_shows_the_scar():
    drawn = subjects("late_enhancement", infarct=True)
    image, scar = drawn["image"][..., 0], drawn["infarct_mask"]
    muscle = (drawn["labels"] == phantom.MYOCARDIUM) & ~scar
    assert image[scar].mean() > 1.8 * image[muscle].mean()


def test_tissues_have_the_order_of_each_modality():
    for modality in ("mr", "ct"):
        drawn = subjects(modality)
        means = {
            name: drawn["image"][..., 0][drawn["labels"] == label].mean()
            for name, label in phantom.LABELS.items()
        }
        assert means["cavity"] > means["right_ventricle"] > means["myocardium"], modality
    assert 200 < means["cavity"] < 420 and 60 < means["myocardium"] < 200


def test_cavities_shrink_towards_the_apex_and_the_right_ventricle_ends_before_it():
    sizes = [areas("cavity", position=position).mean() for position in (0.15, 0.5, 0.8, 0.97)]
    assert np.all(np.diff(sizes) < 0)
    assert areas("right_ventricle", position=0.35).min() > 0
    assert areas("right_ventricle", position=0.97).max() == 0
    assert areas("myocardium", position=1.2).max() == 0 and areas("cavity", position=-0.2).max() == 0


def test_the_base_opens_and_ends_are_named():
    assert subjects(position=0.02)["basal"].all() and not subjects(position=0.35)["basal"].any()
    assert subjects(position=0.95)["apical"].all() and not subjects(position=0.35)["apical"].any()


def test_phase_is_smooth_and_the_image_is_the_magnitude():
    drawn = subjects()
    magnitude = np.minimum(np.linalg.norm(drawn["complex"], axis=-1), 1)
    np.testing.assert_allclose(magnitude, drawn["image"][..., 0], atol=1e-5)
    assert np.mean(magnitude == 1) < 0.02
    phase = np.arctan2(drawn["complex"][..., 1], drawn["complex"][..., 0])[drawn["image"][..., 0] > 0.2]
    assert np.abs(phase).std() > 0.05 and np.abs(phase).max() < np.pi / 4 + 0.1


def test_a_beat_ends_where_it_began_and_gives_the_infarct_of_its_first_frame():
    draw = jax.jit(lambda key: phantom.cardiac_cine(key, 48, 8, infarct=True))
    cine = jax.tree.map(np.asarray, draw(jax.random.key(0)))
    assert cine["image"].shape == (8, 48, 48, 1) and cine["infarct_mask"].shape == (48, 48)
    assert cine["contraction"][0] == 0 and cine["contraction"].max() > 0.9
    cavity = (cine["labels"] == phantom.CAVITY).sum((1, 2))
    assert cavity.argmax() == 0 and cavity.argmin() == cine["contraction"].argmax()
    area = cine["infarct_mask"].sum() * (phantom.FIELD_OF_VIEW_MM / 48) ** 2
    np.testing.assert_allclose(cine["indices"][0], area, rtol=1e-5)


def test_indices_of_an_ellipse_are_those_of_the_ellipse():
    rows, columns = np.indices((128, 128)) + 0.5
    mask = ((rows - 60) / 30) ** 2 + ((columns - 70) / 12) ** 2 < 1
    area, perimeter, row, column, major, minor, turn, share = phantom.infarct_indices(mask, 0.5)
    np.testing.assert_allclose(area, np.pi * 15 * 6, rtol=0.01)
    np.testing.assert_allclose([row, column, major, minor], [30, 35, 30, 12], rtol=0.02)
    assert abs(turn) < 0.01 and abs(share - 100 * mask.mean()) < 1e-3
    assert 0.85 < perimeter / 69.1 < 1.15
    assert not np.any(phantom.infarct_indices(np.zeros((8, 8), bool), 1.0))


def test_missing_slices_leave_an_end_uncovered():
    def draw(basal, apical):
        return phantom.cardiac_stack(jax.random.key(1), 32, 10, missing_basal=basal, missing_apical=apical)

    stacks = jax.jit(jax.vmap(draw))(np.array([0, 2, 0]), np.array([0, 0, 2]))
    assert stacks["image"].shape == (3, 10, 32, 32, 1)
    np.testing.assert_array_equal(stacks["covered"], [[True, True], [False, True], [True, False]])
    assert np.all(np.diff(stacks["positions"], axis=1) > 0)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="unknown modality 'us'"):
        phantom.cardiac_slice(jax.random.key(0), 64, modality="us")
    with pytest.raises(ValueError, match="at least 16"):
        phantom.cardiac_slice(jax.random.key(0), 8)
    with pytest.raises(ValueError, match="at least 2 frames"):
        phantom.cardiac_cine(jax.random.key(0), 32, 1)
    with pytest.raises(ValueError, match="at least 4 slices"):
        phantom.cardiac_stack(jax.random.key(0), 32, 3)
