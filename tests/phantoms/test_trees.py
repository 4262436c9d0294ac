"""Trees of tubes: curves of the length and direction asked for, forks on their parents, exact distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.phantoms import trees

QUICK = {"xla_backend_optimization_level": 0}


def path(points, radii):
    points, radii = jnp.asarray(points, jnp.float32)[None], jnp.asarray(radii, jnp.float32)[None]
    return trees.Paths(points, jnp.zeros(radii.shape), radii)


def distance_to_tube(pixels, points, radii):
    """Signed distance by dense sampling of the axis, positive inside."""
    along = np.linspace(0, 1, 4001)
    stations = np.linspace(0, 1, len(points))
    axis = np.stack([np.interp(along, stations, column) for column in np.transpose(points)], -1)
    radius = np.interp(along, stations, radii)
    return (radius - np.linalg.norm(pixels[:, None] - axis, axis=-1)).max(1)


def test_paths_start_where_asked_bend_as_asked_and_are_as_long():
    starts = np.array([[0.1, 0.2], [-0.3, 0.0]], np.float32)
    angles, bends, lengths = np.array([0.3, -1.0]), np.array([0.5, -0.8]), np.array([0.7, 0.4])
    paths = trees.grow(
        starts, angles, bends, lengths, np.array([0.02, 0.01]), np.zeros((2, 2)), 40, taper=0.5
    )
    np.testing.assert_allclose(paths.points[:, 0], starts, atol=1e-6)
    np.testing.assert_allclose(paths.angles[:, 0], angles, atol=1e-5)
    np.testing.assert_allclose(paths.angles[:, -1], angles + bends, atol=1e-5)
    steps = np.linalg.norm(np.diff(paths.points, axis=1), axis=-1)
    np.testing.assert_allclose(steps.sum(1), lengths, rtol=1e-4)
    first = np.asarray(paths.points[:, 1] - paths.points[:, 0])
    np.testing.assert_allclose(np.arctan2(first[:, 0], first[:, 1]), angles, atol=0.06)
    np.testing.assert_allclose(paths.radii[:, [0, -1]], [[0.02, 0.01], [0.01, 0.005]], rtol=1e-5)


def test_forks_lie_on_their_parents():
    paths = path([[0, 0], [0, 1], [1, 1]], [0.3, 0.2, 0.1])
    points, _, radii = trees.sprout(paths, jnp.array([[0.25, 0.5, 0.75, 1.0]]))
    np.testing.assert_allclose(points, [[0, 0.5], [0, 1], [0.5, 1], [1, 1]], atol=1e-6)
    np.testing.assert_allclose(radii, [0.25, 0.2, 0.15, 0.1], rtol=1e-6)


@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.3, -0.2)])
def test_distances_are_those_of_the_tube_also_across_the_border(centre):
    points, radii = np.array([[-0.6, -0.9], [-0.1, -0.5], [0.5, -0.4], [1.4, 0.2]]), [0.15, 0.12, 0.08, 0.05]
    view = trees.View(centre, 1.0, 48)
    draw = jax.jit(
        lambda: trees.inside([path(points, radii)], view, widest=0.15, longest=1.1), compiler_options=QUICK
    )
    inside, depth = (np.asarray(each[0]) for each in draw())
    y, x = (np.asarray(axis) for axis in view.coordinates())
    pixels = np.stack(np.broadcast_arrays(y, x), -1).reshape(-1, 2)
    expected = distance_to_tube(pixels, points, radii).reshape(48, 48) * view.scale
    near = expected > -1.4
    # The widest circle about the nearest axis point is not quite the envelope of circles in a cone.
    np.testing.assert_allclose(inside[near], expected[near], atol=0.15)
    assert (inside[expected < -1.6] == -1.5).all()
    assert depth.max() <= 1 and depth.max() > 0.95 and (depth[expected < -0.2] == 0).all()


def test_cover_of_a_thin_tube_is_its_width():
    view = trees.View((0.0, 0.0), 1.0, 33)
    widths = np.array([0.2, 0.6, 3.0])
    for width in widths:
        line = path([[0.0, -2.0], [0.0, 0.0], [0.0, 2.0]], [width / view.scale / 2] * 3)
        share = np.asarray(trees.cover(*trees.inside([line], view, widest=0.1, longest=2.0))[0])
        np.testing.assert_allclose(share.sum(0), max(width, 1e-3), atol=0.35 * min(width, 1) + 0.05)


def test_paths_go_into_their_pictures():
    two = trees.Paths(
        jnp.array([[[-0.5, -0.5], [-0.5, 0.5]], [[0.5, -0.5], [0.5, 0.5]]]),
        jnp.zeros((2, 2)),
        jnp.full((2, 2), 0.1),
    )
    view = trees.View((0.0, 0.0), 1.0, 32)
    inside, _ = trees.inside([two], view, widest=0.1, longest=1.0, groups=[jnp.array([1, 0])], count=2)
    assert (inside[0, :16] < 0).all() and (inside[1, 16:] < 0).all()
    assert (inside > 0).any((1, 2)).all()
