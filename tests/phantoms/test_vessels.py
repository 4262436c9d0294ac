"""Coronary arteries: lengths asked for, radii and narrowings as in adults, images that show them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.phantoms import vessels

NUMBER = 48
QUICK = {"xla_backend_optimization_level": 0}


@functools.cache
def centrelines():
    def draw(key, length, stenosis):
        return vessels.coronary_centreline(key, 64, length=length, stenosis=stenosis)

    return jax.jit(jax.vmap(draw), compiler_options=QUICK)


@functools.cache
def arteries(stenosis):
    keys = jax.random.split(jax.random.key(1), NUMBER)
    lengths = jnp.linspace(50, 250, NUMBER)
    return jax.tree.map(np.asarray, centrelines()(keys, lengths, jnp.full(NUMBER, stenosis)))


@functools.cache
def images(function, size):
    draw = jax.vmap(lambda key, stenosis: function(key, size, stenosis=stenosis))
    keys = jnp.tile(jax.random.split(jax.random.key(1), 4), 2)
    return jax.tree.map(np.asarray, jax.jit(draw, compiler_options=QUICK)(keys, jnp.arange(8) >= 4))


def test_shapes_and_code():
    drawn = arteries(False)
    assert drawn["centreline"].shape == (NUMBER, 64, 3) and drawn["code"].shape == (NUMBER, 64, 4)
    np.testing.assert_allclose(np.cumsum(drawn["code"][..., :3], axis=1), drawn["centreline"], atol=2e-3)
    np.testing.assert_array_equal(drawn["code"][..., 3], drawn["radii"])
    assert set(np.unique(drawn["artery"])) == {0, 1, 2}


def test_length_is_the_one_asked_for_and_points_are_evenly_spaced():
    drawn = arteries(False)
    steps = np.linalg.norm(np.diff(drawn["centreline"], axis=1), axis=-1)
    np.testing.assert_allclose(steps.sum(1), np.linspace(50, 250, NUMBER), rtol=0.03)
    assert (steps.std(1) / steps.mean(1) < 0.05).all()


def test_same_key_same_artery_wherever_it_stands_and_no_two_alike():
    keys = jax.random.split(jax.random.key(1), NUMBER)
    turned = centrelines()(keys[::-1], jnp.linspace(50, 250, NUMBER)[::-1], jnp.zeros(NUMBER, bool))
    np.testing.assert_allclose(turned["code"][::-1], arteries(False)["code"], atol=1e-4)
    lines = arteries(False)["centreline"] / np.linspace(50, 250, NUMBER)[:, None, None]
    assert all(np.abs(lines[i] - lines[j]).max() > 0.01 for i in range(NUMBER) for j in range(i))


def test_radii_are_those_of_adults_and_fall():
    radii = arteries(False)["radii"]
    assert 1.5 < radii[:, 0].mean() < 2.2 and radii.min() > 0.15
    assert (radii[:, -1] < 0.9 * radii[:, 0]).all()


def test_stenosis_narrows_the_same_artery_by_its_grade_at_its_place():
    healthy, narrow = arteries(False), arteries(True)
    np.testing.assert_array_equal(healthy["centreline"], narrow["centreline"])
    assert not healthy["stenosis_grade"].any()
    assert ((narrow["stenosis_grade"] >= 0.3) & (narrow["stenosis_grade"] <= 0.85)).all()
    lost = 1 - narrow["radii"] / healthy["radii"]
    place = lost.argmax(1) / 63
    np.testing.assert_allclose(place, narrow["stenosis_place"], atol=0.02)
    # Few points may straddle a short narrowing.
    assert np.median(np.abs(lost.max(1) - narrow["stenosis_grade"])) < 0.08


def test_angiogram_shows_the_tree_dark_and_the_truth_on_it():
    drawn = images(vessels.angiogram, 96)
    assert drawn["image"].shape == (8, 96, 96, 1) and drawn["labels"].dtype == np.int32
    assert drawn["image"].min() >= 0 and drawn["image"].max() <= 1
    for image, mask, line in zip(
        drawn["image"][..., 0], drawn["vessel_mask"], drawn["centreline"], strict=True
    ):
        assert 0.02 < mask.mean() < 0.2 and image[mask].mean() < image[~mask].mean()
        seen = np.rint(line[:20]).astype(int)
        seen = seen[((seen >= 0) & (seen < 96)).all(1)]
        assert mask[tuple(seen.T)].mean() > 0.9
    best = max(
        np.mean([2 * ((x < t) & m).sum() / ((x < t).sum() + m.sum())
                 for x, m in zip(drawn["image"][..., 0], drawn["vessel_mask"], strict=True)])
        for t in np.linspace(0.1, 0.8, 30)
    )  # fmt: skip
    assert best < 0.65


def test_stenosis_changes_the_angiogram_there_only():
    drawn = images(vessels.angiogram, 96)
    np.testing.assert_array_equal(drawn["centreline"][:4], drawn["centreline"][4:])
    assert (drawn["radii"][4:].min(1) < drawn["radii"][:4].min(1) + 1e-6).all()
    changed = np.abs(drawn["image"][4:] - drawn["image"][:4])[..., 0] > 0.02
    assert changed.any((1, 2)).sum() >= 3 and changed.mean() < 0.05


def test_volume_is_in_hounsfield_units_with_the_vessel_in_its_middle():
    drawn = images(vessels.vessel_volume, 24)
    assert drawn["image"].shape == (8, 24, 24, 24)
    lumen, fat = drawn["labels"] == vessels.LUMEN, drawn["labels"] == vessels.FAT
    assert -130 < drawn["image"][fat].mean() < -40 and 150 < drawn["image"][lumen].mean() < 500
    assert lumen[:4, 8:16, 8:16, 8:16].any((1, 2, 3)).all()
    assert (drawn["labels"][4:] == vessels.CALCIUM).any() and not (
        drawn["labels"][:4] == vessels.CALCIUM
    ).any()


def test_impossible_requests_are_refused():
    for call in (
        lambda key: vessels.coronary_centreline(key, 4),
        lambda key: vessels.coronary_centreline(key, length=300.0),
        lambda key: vessels.angiogram(key, 16),
        lambda key: vessels.vessel_volume(key, 8),
    ):
        with pytest.raises(ValueError, match=r"\d"):
            call(jax.random.key(0))
