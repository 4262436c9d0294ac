"""The spine: order and spacing of vertebrae, curvature, centroids in their bodies, crops, heat maps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.phantoms import spine

NUMBER, SHAPE, SPACING = 6, (64, 64, 64), 4.0
KEYS = jax.random.split(jax.random.key(9), NUMBER)


@functools.cache
def crops():
    return jax.tree.map(np.asarray, jax.jit(lambda keys: jax.lax.map(spine.spine_volume, keys))(KEYS))


@functools.cache
def columns():
    """Fields of view that hold the whole column."""
    draw = functools.partial(spine.spine_volume, shape=(112, 48, 48), spacing=6.0)
    return jax.tree.map(np.asarray, jax.jit(lambda keys: jax.lax.map(draw, keys))(KEYS[:3]))


def test_shapes_and_types():
    drawn = crops()
    assert drawn["image"].shape == (NUMBER, *SHAPE, 1) and drawn["image"].dtype == np.float32
    assert drawn["labels"].shape == (NUMBER, *SHAPE) and drawn["labels"].dtype == np.int32
    assert drawn["centroids"].shape == (NUMBER, 24, 3) and drawn["visible"].dtype == bool
    assert drawn["image"].min() >= -1024 and np.isfinite(drawn["centroids"]).all()


def test_the_same_key_gives_the_same_subject_and_others_differ():
    again = jax.jit(spine.spine_volume)(KEYS[0])
    np.testing.assert_allclose(again["image"], crops()["image"][0], atol=0.5)
    labels = crops()["labels"]
    for i in range(NUMBER):
        assert all(np.mean(labels[i] != labels[j]) > 0.005 for j in range(i))


def test_crops_show_some_vertebrae_and_not_always_the_same():
    visible = crops()["visible"]
    assert np.all((visible.sum(1) >= 6) & (visible.sum(1) <= 16))
    assert len({int(np.argmax(each)) for each in visible}) > 2
    # What is visible is one run of neighbours.
    assert np.all(np.abs(np.diff(np.pad(visible.astype(int), ((0, 0), (1, 1))), axis=1)).sum(1) == 2)


def test_centroids_lie_within_the_bodies_that_they_name():
    drawn = crops()
    for labels, centroids, visible in zip(drawn["labels"], drawn["centroids"], drawn["visible"], strict=True):
        found = [
            labels[tuple(np.clip(np.rint(centroid), 0, 63).astype(int))] == number
            for number, centroid in enumerate(centroids, 1)
            if visible[number - 1] and number > 1 and np.all((centroid > 1) & (centroid < 62))
        ]
        assert np.mean(found) > 0.85


def test_a_column_has_its_length_its_order_and_its_curves():
    drawn = columns()
    assert drawn["visible"].all()
    millimetres = drawn["centroids"] * 6.0
    steps = -np.diff(millimetres[..., 0], axis=1)
    assert np.all(steps > 8)
    length = np.linalg.norm(np.diff(millimetres, axis=1), axis=-1)
    assert np.all((length.sum(1) > 430) & (length.sum(1) < 680))
    assert np.all(length[:, 19:].mean(1) > 1.4 * length[:, :6].mean(1))
    # Kyphosis: the middle of the chest lies behind neck and loin.
    behind = millimetres[..., 1]
    assert np.mean(behind[:, 12] - behind[:, 20]) > 15 and np.mean(behind[:, 12] - behind[:, 3]) > 5
    for labels in drawn["labels"]:
        assert set(range(1, 26)) - set(np.unique(labels)) <= {1}


def test_attenuation_is_in_hounsfield_units():
    drawn = crops()
    image = drawn["image"][..., 0]
    body = (drawn["labels"] > 0) & (drawn["labels"] < spine.SACRUM)
    assert 150 < image[body].mean() < 600
    assert np.percentile(image, 99.9) > 400
    assert (image < -700).mean() > 0.05 and 0.1 < ((image > 0) & (image < 100)).mean() < 0.8
    # Ribs are bones without a label of their own.
    ribs = drawn["bone_mask"] & (drawn["labels"] == 0)
    assert ribs.mean() > 0.002 and image[ribs].mean() > 100


def test_projections_are_maxima():
    volume = crops()["image"][0]
    sagittal, coronal = spine.projections(jnp.asarray(volume))
    np.testing.assert_array_equal(sagittal[..., 0], volume[..., 0].max(2))
    np.testing.assert_array_equal(coronal[..., 0], volume[..., 0].max(1))


def test_heat_maps_peak_at_visible_centroids_and_leave_the_rest_to_the_background():
    centroids = (
        jnp.zeros((24, 3)).at[4].set(jnp.array([10.0, 6.0, 3.0])).at[5].set(jnp.array([20.0, 7.0, 3.0]))
    )
    visible = jnp.zeros(24, bool).at[4].set(True)
    sagittal, coronal = (
        np.asarray(each) for each in spine.heat_maps(jnp.asarray(centroids), visible, (24, 16, 8))
    )
    assert sagittal.shape == (24, 16, 25) and coronal.shape == (24, 8, 25)
    assert np.unravel_index(sagittal[..., 5].argmax(), (24, 16)) == (10, 6)
    assert np.unravel_index(coronal[..., 5].argmax(), (24, 8)) == (10, 3)
    assert not sagittal[..., 6].any()
    np.testing.assert_allclose(sagittal[..., 0], 1 - sagittal[..., 5], atol=1e-6)
    np.testing.assert_allclose(sagittal[12, 6, 5], np.exp(-((2 / 1.5) ** 2) / 2), rtol=1e-5)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="three sides"):
        spine.spine_volume(jax.random.key(0), (64, 64))
    with pytest.raises(ValueError, match="positive"):
        spine.spine_volume(jax.random.key(0), spacing=0.0)
