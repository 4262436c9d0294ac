"""Deformations against scipy.ndimage and their own algebra: identity, translation, composition, inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.linalg import expm

from medgan_jax.physics import deformation

SHAPES = {2: (24, 20), 3: (12, 11, 10)}
RANKS = sorted(SHAPES)

warp = jax.jit(deformation.warp, static_argnames="interpolation")
compose = jax.jit(deformation.compose)
determinant = jax.jit(deformation.jacobian_determinant)
warp_points = jax.jit(deformation.warp_points)
inverse = jax.jit(deformation.inverse)
diffeomorphism = jax.jit(deformation.random_diffeomorphism, static_argnames=("shape", "smoothness"))


def smooth_image(rank, channels=1):
    grids = np.meshgrid(*(np.arange(n) for n in SHAPES[rank]), indexing="ij")
    waves = [np.sin(sum((0.2 + 0.1 * c) * g for g in grids)) + 0.02 * grids[0] for c in range(channels)]
    return jnp.asarray(np.stack(waves, axis=-1), jnp.float32)


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_field(rank, seed=0, amplitude=1.5, smoothness=4.0):
    return diffeomorphism(jax.random.key(seed), SHAPES[rank], amplitude=amplitude, smoothness=smoothness)


def interior(field, rank, margin=4):
    return np.asarray(field)[(slice(margin, -margin),) * rank]


@pytest.mark.parametrize("rank", RANKS)
def test_warp_is_that_of_scipy(rank):
    image, field = noise(0, *SHAPES[rank], 2), 3 * noise(1, *SHAPES[rank], rank)
    positions = np.moveaxis(np.asarray(deformation.identity(SHAPES[rank])) + field, -1, 0)
    for interpolation, order in (("linear", 1), ("nearest", 0)):
        found = jax.jit(lambda i, f, how=interpolation: warp(i, f, interpolation=how))(image, field)
        for channel in range(2):
            expected = ndimage.map_coordinates(image[..., channel], positions, order=order, mode="nearest")
            np.testing.assert_allclose(found[..., channel], expected, atol=2e-5)


@pytest.mark.parametrize("rank", RANKS)
def test_identity_and_whole_translations_are_exact(rank):
    image = noise(2, *SHAPES[rank], 1)
    still = jnp.zeros((*SHAPES[rank], rank))
    np.testing.assert_array_equal(warp(image, still), image)
    shift = deformation.affine(SHAPES[rank], jnp.eye(rank), jnp.arange(1.0, rank + 1))
    np.testing.assert_allclose(
        shift[3, 4], np.broadcast_to(np.arange(1.0, rank + 1), shift[3, 4].shape), atol=1e-5
    )
    moved = warp(image, jnp.round(shift))
    kept, source = zip(*[(slice(None, -n), slice(n, None)) for n in range(1, rank + 1)], strict=True)
    np.testing.assert_array_equal(moved[kept], image[source])


def test_labels_keep_their_type_and_values():
    labels = np.random.default_rng(3).choice([0, 7, 200], size=(*SHAPES[2], 1)).astype(np.uint8)
    warped = warp(labels, random_field(2), interpolation="nearest")
    assert warped.dtype == jnp.uint8 and set(np.unique(warped)) <= {0, 7, 200}


@pytest.mark.parametrize("rank", RANKS)
def test_random_fields_are_invertible_and_inverses_agree(rank):
    velocity = deformation.random_velocity(jax.random.key(4), SHAPES[rank], amplitude=1.5, smoothness=4.0)
    forward, backward = jax.jit(jax.vmap(deformation.exponential))(jnp.stack([velocity, -velocity]))
    assert np.abs(forward).max() > 1
    assert float(determinant(forward).min()) > 0
    assert np.abs(interior(compose(forward, backward), rank)).max() < 0.1
    found = inverse(forward)
    assert np.abs(interior(compose(forward, found), rank)).max() < 1e-3
    assert np.abs(interior(compose(found, forward), rank)).max() < 0.1


def test_no_fold_in_many_fields_at_the_stated_amplitude():
    fields = jax.jit(
        jax.vmap(lambda key: deformation.random_diffeomorphism(key, (48, 48), amplitude=3.0, smoothness=6.0))
    )(jax.random.split(jax.random.key(5), 64))
    assert fields.shape == (64, 48, 48, 2)
    assert float(determinant(fields).min()) > 0


def test_velocity_has_the_stated_spread_and_smoothness_everywhere():
    keys = jax.random.split(jax.random.key(6), 2000)
    draw = jax.jit(
        jax.vmap(lambda k: deformation.random_velocity(k, (16, 12), amplitude=2.0, smoothness=3.0))
    )
    fields = np.asarray(draw(keys))
    np.testing.assert_allclose(fields.std(0), 2.0, rtol=0.1)
    middle = np.mean(fields[:, 8, 6, 0] * fields[:, 8, 9, 0]) / 4
    # The correlation of Gaussian-filtered noise at a distance d is exp(-d^2 / 4 sigma^2).
    np.testing.assert_allclose(middle, np.exp(-9 / 36), atol=0.06)


@pytest.mark.parametrize("rank", RANKS)
def test_composition_warps_in_turn(rank):
    image, first, second = smooth_image(rank, 2), random_field(rank, 7), random_field(rank, 8)
    in_turn = warp(warp(image, first), second)
    at_once = warp(image, compose(first, second))
    assert np.abs(interior(in_turn - at_once, rank)).max() < 0.1
    still = jnp.zeros_like(first)
    np.testing.assert_allclose(compose(first, still), first, atol=1e-6)
    np.testing.assert_allclose(compose(still, first), first, atol=1e-6)


@pytest.mark.parametrize("rank", RANKS)
def test_jacobian_of_an_affine_map_is_its_determinant(rank):
    matrix = np.eye(rank) + 0.2 * noise(9, rank, rank)
    found = determinant(deformation.affine(SHAPES[rank], matrix, 0.7))
    np.testing.assert_allclose(found, np.linalg.det(matrix), rtol=1e-3)


def test_exponential_of_a_linear_velocity_is_the_matrix_exponential():
    generator = np.array([[0.05, -0.1], [0.1, -0.03]])
    shape = (41, 41)
    velocity = deformation.affine(shape, np.eye(2) + generator)
    expected = deformation.affine(shape, expm(generator))
    found = deformation.exponential(velocity)
    np.testing.assert_allclose(interior(found, 2, 10), interior(expected, 2, 10), atol=0.02)


def test_points_follow_the_image():
    image = np.zeros((32, 32, 1), np.float32)
    row, column = np.mgrid[:32, :32]
    image[..., 0] = np.exp(-((row - 14.0) ** 2 + (column - 18.0) ** 2) / 8)
    field = diffeomorphism(jax.random.key(10), (32, 32), amplitude=2.0, smoothness=6.0)
    moved = np.asarray(warp(image, field))[..., 0]
    centre = np.array([[np.sum(row * moved), np.sum(column * moved)]]) / moved.sum()
    back = warp_points(jnp.asarray(centre), field)
    np.testing.assert_allclose(back, [[14, 18]], atol=0.5)
    forth = warp_points(jnp.array([[14.0, 18.0]]), inverse(field))
    np.testing.assert_allclose(warp_points(forth, field), [[14, 18]], atol=0.05)


def test_cases_and_gradients():
    images, fields = noise(11, 3, *SHAPES[2], 1), jnp.stack([random_field(2, seed) for seed in range(3)])
    whole = warp(images, fields)
    np.testing.assert_allclose(whole[1], warp(images[1], fields[1]), atol=1e-6)

    @jax.jit
    def loss(velocity):
        return jnp.sum(jnp.square(warp(images[0], deformation.exponential(velocity))))

    velocity = deformation.random_velocity(jax.random.key(12), SHAPES[2], amplitude=1.0, smoothness=3.0)
    gradient, direction = jax.jit(jax.grad(loss))(velocity), noise(13, *velocity.shape)
    step = 1e-3
    slope = (loss(velocity + step * direction) - loss(velocity - step * direction)) / (2 * step)
    np.testing.assert_allclose(jnp.vdot(gradient, direction), slope, rtol=0.05)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="does not fit"):
        deformation.warp(jnp.zeros((2, 8, 8, 1)), jnp.zeros((3, 8, 8, 2)))
    with pytest.raises(ValueError, match="a displacement is"):
        deformation.jacobian_determinant(jnp.zeros((8, 8, 4)))
    with pytest.raises(ValueError, match="do not fit"):
        deformation.warp_points(jnp.zeros((5, 3)), jnp.zeros((8, 8, 2)))
    with pytest.raises(ValueError, match="unknown interpolation"):
        deformation.warp(jnp.zeros((8, 8, 1)), jnp.zeros((8, 8, 2)), interpolation="cubic")
