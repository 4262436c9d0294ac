"""Crops: pairs are cut alike, mirrored alike, within the image."""

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.nn.crops import Places, cut, random_places, turned


def test_crops_by_hand():
    image = jnp.arange(2 * 4 * 5).reshape(2, 4, 5, 1)
    places = Places(jnp.array([[0, 1], [2, 3]]), jnp.array([False, True]))
    first, second = cut(image, places, 2)
    assert first[..., 0].tolist() == [[1, 2], [6, 7]]
    assert second[..., 0].tolist() == [[34, 33], [39, 38]]
    # One image is cut at each place.
    assert cut(image[:1], places, 2)[1, ..., 0].tolist() == [[14, 13], [19, 18]]


def test_places_reach_every_corner_and_no_further():
    places = random_places(jax.random.key(0), 400, (6, 9), 4)
    assert np.asarray(places.corner).min(0).tolist() == [0, 0]
    assert np.asarray(places.corner).max(0).tolist() == [2, 5]
    assert abs(float(places.mirror.mean()) - 0.5) < 0.1
    whole = random_places(jax.random.key(0), 3, (4, 4), 4)
    assert not whole.corner.any()


def test_turned_images_take_all_eight_positions():
    image = np.arange(9.0).reshape(3, 3, 1)
    drawn = np.asarray(turned(jnp.broadcast_to(image, (200, 3, 3, 1)), jax.random.key(0)))
    wanted = {np.rot90(each, k).tobytes() for each in (image, image[::-1]) for k in range(4)}
    assert {each.astype(np.float64).tobytes() for each in drawn} == wanted
