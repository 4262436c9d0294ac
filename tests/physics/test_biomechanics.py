"""Elasticity against exact solutions: patch test, bars, symmetry, Fourier against finite elements."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.physics import biomechanics, deformation

SHAPES = {2: (9, 8), 3: (6, 5, 7)}
RANKS = sorted(SHAPES)

force = jax.jit(biomechanics.elastic_force)
solve = jax.jit(biomechanics.solve, static_argnames=("tolerance", "iterations"))


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def moduli(seed, rank):
    elements = [size - 1 for size in SHAPES[rank]]
    return np.exp(noise(seed, 2, *elements))


def positions(rank):
    return np.asarray(deformation.identity(SHAPES[rank]))


def test_parameters_of_lame_are_those_of_the_textbook():
    lame, shear = biomechanics.lame_parameters(10.0, 0.25)
    np.testing.assert_allclose([lame, shear], [4.0, 4.0], rtol=1e-6)


@pytest.mark.parametrize("rank", RANKS)
def test_operator_is_symmetric_positive_and_blind_to_rigid_motion(rank):
    u, v = noise(0, *SHAPES[rank], rank), noise(1, *SHAPES[rank], rank)
    lame, shear = moduli(2, rank)
    ku, kv = (np.float64(force(x, lame, shear)) for x in (u, v))
    size = np.linalg.norm(ku) * np.linalg.norm(v)
    assert abs(np.vdot(ku, v) - np.vdot(u, kv)) < 1e-5 * size
    assert np.vdot(ku, u) > 0
    spin = noise(3, rank, rank)
    rigid = positions(rank) @ (spin - spin.T) + noise(4, rank)
    assert np.abs(force(rigid, lame, shear)).max() < 1e-3 * np.abs(ku).max()


@pytest.mark.parametrize("rank", RANKS)
def test_patch_test_constant_strain_is_exact(rank):
    """Held at the border to any affine displacement, the interior takes it too, for any material."""
    expected = positions(rank) @ (0.1 * noise(5, rank, rank)) + noise(6, rank)
    for poisson in (0.3, 0.49):
        found = solve(
            *biomechanics.lame_parameters(8.0, poisson),
            expected,
            biomechanics.border(SHAPES[rank]),
            tolerance=1e-7,
        )
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_bars_in_series_share_the_load():
    """Confined compression: strains are inverse to `lame + 2 shear`, the force is that over the length."""
    shape = (11, 5)
    lame, shear = biomechanics.lame_parameters(np.where(np.arange(10) < 4, 5.0, 20.0)[:, None], 0.4)
    held = np.zeros((*shape, 2), bool)
    held[[0, -1], :, 0] = True
    held[:, [0, -1], 1] = True
    pressed = np.zeros((*shape, 2), np.float32)
    pressed[-1, :, 0] = -1.0
    spread = jnp.broadcast_to(lame, (10, 4)), jnp.broadcast_to(shear, (10, 4))
    found = np.asarray(solve(*spread, pressed, held, tolerance=1e-7))
    modulus = np.asarray(lame + 2 * shear)[:, 0]
    stress = 1 / np.sum(1 / modulus)
    expected = -np.concatenate([[0], np.cumsum(stress / modulus)])
    np.testing.assert_allclose(found[..., 0], np.broadcast_to(expected[:, None], shape), atol=1e-4)
    np.testing.assert_allclose(force(found, *spread)[0, :, 0].sum(), 4 * stress, rtol=1e-3)


def test_force_is_the_gradient_of_the_energy():
    u, (lame, shear) = noise(7, *SHAPES[2], 2), moduli(8, 2)
    gradient = jax.jit(jax.grad(biomechanics.strain_energy))(u, lame, shear)
    np.testing.assert_allclose(gradient, force(u, lame, shear), rtol=1e-3, atol=1e-3)


def test_fourier_and_finite_elements_agree():
    """Two discretisations of one equation: forces of the Fourier solution, in a homogeneous body."""
    row, column = np.mgrid[:48, :40].astype(np.float32)
    bump = np.exp(-((row - 26) ** 2 + (column - 17) ** 2) / (2 * 5.0**2))
    load = np.stack([bump, 0.4 * bump], axis=-1) - np.array([1, 0.4], np.float32) * bump.mean()
    found = jax.jit(biomechanics.periodic_displacement)(load, 3.0, 0.45)
    young = 2 * 3.0 * 1.45
    back = np.asarray(force(found, *biomechanics.lame_parameters(young, 0.45)))[2:-2, 2:-2]
    assert np.linalg.norm(back - load[2:-2, 2:-2]) < 0.03 * np.linalg.norm(load)


@pytest.fixture(scope="module")
def pushed():
    """A probe of radius 4 pushes tissue with a stiff inclusion up by 3 voxels and widens by 1."""
    shape = (40, 40)
    row, column = np.mgrid[:39, :39] + 0.5
    young = np.where(np.hypot(row - 15, column - 20) < 6, 60.0, 6.0).astype(np.float32)

    @jax.jit
    def indent(young, push):
        lame, shear = biomechanics.lame_parameters(young, 0.49)
        wanted, held = biomechanics.probe_indentation(
            shape, (30.0, 20.0), 4.0, push=(-push, 0.0), widening=1.0
        )
        return biomechanics.solve(lame, shear, wanted, held | biomechanics.border(shape)), held

    return indent, young, *(np.asarray(x) for x in indent(young, 3.0))


def test_an_indentation_moves_tissue_and_never_folds(pushed):
    *_, field, held = pushed
    assert held.sum() > 40 and np.all(field[biomechanics.border((40, 40))] == 0)
    np.testing.assert_allclose(field[26, 20], [-4, 0], atol=1e-5)
    np.testing.assert_allclose(field[30, 24], [-3, 1], atol=1e-5)
    determinant = np.asarray(deformation.jacobian_determinant(field))
    assert determinant.min() > 0
    inside = np.hypot(*(np.mgrid[:40, :40] - np.array([15, 20])[:, None, None])) < 4
    assert field[inside, 0].mean() < -0.3
    strain = np.gradient(field[..., 0], axis=0)
    assert np.abs(strain[inside]).mean() < 0.3 * np.abs(strain[21:26, 17:24]).mean()
    outside = ~held & ~biomechanics.border((40, 40))
    assert np.abs(determinant[outside] - 1).mean() < 0.06


def test_solutions_have_the_gradients_of_the_equilibrium(pushed):
    indent, young, *_ = pushed

    def height(push, factor):
        return indent(factor * young + 2.0, push)[0][15, 20, 0]

    slope = jax.grad(height, argnums=(0, 1))(3.0, 1.0)
    for index, step in ((0, 0.5), (1, 0.1)):
        ends = [3.0, 1.0], [3.0, 1.0]
        ends[0][index] += step
        ends[1][index] -= step
        numeric = (height(*ends[0]) - height(*ends[1])) / (2 * step)
        np.testing.assert_allclose(slope[index], numeric, rtol=0.05, atol=1e-4)


@pytest.mark.parametrize("shape", [(64, 64), (24, 24, 24)])
def test_random_indentations_are_smooth_incompressible_and_invertible(shape):
    scale = shape[0] / 64
    draw = jax.jit(
        jax.vmap(
            lambda key: biomechanics.random_indentation(
                key, shape, peak=(2 * scale, 8 * scale), radius=(4 * scale, 8 * scale)
            )
        )
    )
    fields = np.asarray(draw(jax.random.split(jax.random.key(9), 6)))
    determinants = np.asarray(jax.jit(jax.vmap(deformation.jacobian_determinant))(fields))
    assert determinants.min() > 0
    peaks = np.linalg.norm(fields, axis=-1).reshape(6, -1).max(1)
    assert peaks.max() < 8.01 * scale and peaks.min() > 0.4 * scale and len(np.unique(peaks)) == 6
    rank = len(shape)
    slopes = [np.gradient(fields[..., i], axis=1 + i) for i in range(rank)]
    divergence, size = sum(slopes), np.sqrt(sum(s**2 for s in slopes))
    assert np.mean(divergence**2) < 0.1 * np.mean(size**2)
    upwards = fields[..., -2].reshape(6, -1).min(1)
    assert np.all(np.abs(upwards) > 0.5 * peaks)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a displacement is"):
        biomechanics.elastic_force(jnp.zeros((4, 4, 3)), 1.0, 1.0)
    with pytest.raises(ValueError, match="do not fit"):
        biomechanics.solve(1.0, 1.0, jnp.zeros((4, 4, 2)), jnp.zeros((4, 5), bool))
