"""Windows over whole images: what covers a voxel is averaged, borders and small images are padded."""

import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.inference.sliding_window import sliding_window, whole_image, windows_without_rim


@pytest.mark.parametrize("shape", [(9, 7), (6, 5, 8), (3, 12)])
@pytest.mark.parametrize(("window", "border", "stride"), [(5, 1, 3), (5, 1, 2), (6, 0, 6)])
def test_a_network_without_reach_gives_the_image_back(shape, window, border, stride):
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, *shape, 1)), jnp.float32)
    inner = tuple(slice(border, window - border) for _ in shape)
    made = sliding_window(lambda x: 2 * x[:, *inner], image, window=window, stride=stride, border=border)
    assert np.allclose(made, 2 * image, atol=1e-6)


def test_overlaps_are_averaged():
    # Each window gives its own mean; windows of 4 begin at 0, 2 and 3 along a line of 7.
    image = jnp.arange(7.0).reshape(1, 7, 1)
    made = sliding_window(lambda x: jnp.broadcast_to(x.mean(), (1, 4, 1)), image, window=4, stride=2)
    means = {0: 1.5, 2: 3.5, 3: 4.5}
    covering = [[mean for start, mean in means.items() if start <= place < start + 4] for place in range(7)]
    expected = [np.mean(each) for each in covering]
    assert np.allclose(made[0, :, 0], expected)


def test_a_network_sees_beyond_its_output():
    # The sum of a voxel and its neighbours; the image goes on as its outermost voxel.
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 10, 1)), jnp.float32)
    made = sliding_window(lambda x: x[:, :-2] + x[:, 1:-1] + x[:, 2:], image, window=6, stride=4, border=1)
    padded = np.pad(np.asarray(image[0, :, 0]), 1, mode="edge")
    assert np.allclose(made[0, :, 0], padded[:-2] + padded[1:-1] + padded[2:], atol=1e-6)


@pytest.mark.parametrize(("window", "border", "stride"), [(4, 2, 1), (4, 1, 3), (4, 0, 0)])
def test_windows_that_leave_gaps_are_refused(window, border, stride):
    with pytest.raises(ValueError, match="windows"):
        sliding_window(lambda x: x, jnp.zeros((1, 8, 1)), window=window, stride=stride, border=border)


def test_a_network_of_another_size_is_refused():
    with pytest.raises(ValueError, match="windows of 4 gave"):
        sliding_window(lambda x: x[:, 1:], jnp.zeros((1, 8, 1)), window=4, stride=2)


def test_a_whole_image_is_mirrored_so_that_it_keeps_its_size():
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 6, 1)), jnp.float32)
    made = whole_image(lambda x: x[:, :-4, 2:-2] + x[:, 4:, 2:-2], image, 2)
    padded = np.pad(np.asarray(image[0, ..., 0]), 2, mode="reflect")[:, 2:-2]
    assert np.allclose(made[0, ..., 0], padded[:-4] + padded[4:], atol=1e-6)


def test_the_rim_of_windows_is_thrown_away():
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 8, 1)), jnp.float32)

    def spoilt_at_its_border(x):
        return jnp.full_like(x, 99.0).at[:, 1:-1, 1:-1].set(x[:, 1:-1, 1:-1])

    made = windows_without_rim(spoilt_at_its_border, image, window=5, rim=1)
    assert np.allclose(made, image, atol=1e-6)
