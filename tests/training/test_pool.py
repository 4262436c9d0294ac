"""The image pool against a plain Python one, and under `pmap`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax import axes
from medgan_jax.training.pool import empty_pool, query


def numbered(first, count):
    return jnp.arange(first, first + count, dtype=jnp.float32)[:, None]


def test_it_fills_first_and_returns_what_it_stores():
    pool = empty_pool(5, (1,))
    pool, shown = jax.jit(query)(pool, numbered(0, 3), jax.random.key(0))
    np.testing.assert_array_equal(shown, numbered(0, 3))
    pool, shown = jax.jit(query)(pool, numbered(3, 2), jax.random.key(1))
    np.testing.assert_array_equal(shown, numbered(3, 2))
    assert int(pool.count) == 5
    np.testing.assert_array_equal(pool.images, numbered(0, 5))


def test_a_full_pool_swaps_half_of_the_time_and_loses_nothing():
    size, batch, steps = 50, 10, 100
    ask = jax.jit(query)
    pool = empty_pool(size, (1,))
    for start in range(0, size, batch):
        pool, _ = ask(pool, numbered(start, batch), jax.random.key(start))
    stored, swapped, places = set(range(size)), 0, []
    for number in range(steps):
        first = size + number * batch
        before = np.asarray(pool.images)[:, 0]
        pool, shown = ask(pool, numbered(first, batch), jax.random.key(number))
        new, shown = set(range(first, first + batch)), set(map(int, shown[:, 0]))
        after = np.asarray(pool.images)[:, 0]
        # Each image is either stored or shown, those before and those that came.
        assert stored | new == set(map(int, after)) | shown
        assert len(shown) == batch
        stored = set(map(int, after))
        swapped += len(shown - new)
        places += np.flatnonzero(before != after).tolist()
    # An image stored within a batch may be shown within it; that hides a few swaps.
    assert 0.42 < swapped / (steps * batch) < 0.55
    assert np.bincount(places, minlength=size).min() > 0


def test_without_places_images_pass_and_gradients_never_do():
    _pool, shown = query(empty_pool(0, (1,)), numbered(0, 3), jax.random.key(0))
    np.testing.assert_array_equal(shown, numbered(0, 3))
    gradient = jax.grad(lambda x: query(empty_pool(4, (1,)), x, jax.random.key(0))[1].sum())(numbered(0, 3))
    assert not gradient.any()


@pytest.mark.parametrize("size", [6, 40])
def test_devices_share_one_pool(size):
    images = numbered(0, 16)
    key = jax.random.key(3)
    pool = empty_pool(size, (1,))
    expected_pool, expected = pool, None
    for _ in range(2):
        expected_pool, expected = query(expected_pool, images, key)
    keys = jnp.stack([key] + [jax.random.key(9)] * 7)

    def twice(images, key):
        shared, _ = query(pool, images, key)
        return query(shared, images, key)

    pools, shown = jax.pmap(twice, axis_name=axes.DEVICES)(images.reshape(8, 2, 1), keys)
    np.testing.assert_array_equal(shown.reshape(16, 1), expected)
    for device in range(8):
        np.testing.assert_array_equal(pools.images[device], expected_pool.images)
