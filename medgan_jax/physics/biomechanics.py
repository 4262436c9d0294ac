"""Linear elasticity on voxel grids: how tissue moves when a probe pushes it.

Conventions, kept by every function here:

* a displacement `(H, W, 2)` or `(D, H, W, 3)` is in voxels, components in the order of the axes, a vector at
  each voxel; the plane is in plane strain. Batches by `vmap`;
* it is the material's: what was at x lies at x + u(x) afterwards. An image of the tissue at rest is therefore
  pushed by `deformation.warp(image, deformation.inverse(u))`, and one of the pushed tissue is brought back to
  rest by `warp(image, u)`; points at rest move by `deformation.warp_points(points, u)`;
* moduli are in kPa, one for each element between voxels: `(H - 1, W - 1)` or `(D - 1, H - 1, W - 1)`, or one
  number; forces in kPa voxel^(rank - 1).

Elements are linear squares and cubes. Their shear is integrated exactly and their change of volume at the
centre alone, so that nearly incompressible tissue (Poisson's ratio towards 0.5) does not lock (Hughes, The
Finite Element Method, 1987, section 4.4). The operator is never assembled. Every function is pure and works
under `jit`, `vmap` and `grad`.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.physics import deformation

Modulus = float | jax.Array


def lame_parameters(young: Modulus, poisson: Modulus) -> tuple[jax.Array, jax.Array]:
    """Lame's first parameter and the shear modulus from Young's modulus (same unit) and Poisson's ratio."""
    young, poisson = jnp.asarray(young, jnp.float32), jnp.asarray(poisson, jnp.float32)
    shear = young / (2 * (1 + poisson))
    return 2 * shear * poisson / (1 - 2 * poisson), shear


def elastic_force(displacement: jax.Array, lame: Modulus, shear: Modulus) -> jax.Array:
    """Forces `(*spatial, rank)` that hold each voxel at its `displacement`: the stiffness operator K u.

    Symmetric and positive semidefinite; zero for translations and infinitesimal rotations.
    """
    rank = _rank(displacement)
    stiffness, divergence = _element(rank)
    corners = _gather(displacement, rank)
    pressure = jnp.asarray(lame)[..., None] * jnp.tensordot(corners, divergence, (-1, 0))[..., None]
    force = jnp.asarray(shear)[..., None] * jnp.tensordot(corners, stiffness, (-1, 0), precision="highest")
    return _scatter(force + pressure * divergence, displacement.shape)


def solve(
    lame: Modulus,
    shear: Modulus,
    displacement: jax.Array,
    held: jax.Array,
    *,
    force: jax.Array | None = None,
    tolerance: float = 1e-5,
    iterations: int = 1000,
) -> jax.Array:
    """The displacement `(*spatial, rank)` in equilibrium, equal to `displacement` wherever `held`.

    `held` `(*spatial)` or `(*spatial, rank)`, bool, must hold enough voxels that the rest cannot float;
    `force` `(*spatial, rank)` acts on the others. Conjugate gradients with the diagonal as preconditioner,
    until the residual is `tolerance` of the load or for so many `iterations`; gradients are those of the
    equilibrium, not of the iterations.
    """
    rank = _rank(displacement)
    if held.ndim not in (rank, rank + 1) or held.shape[:rank] != displacement.shape[:rank]:
        raise ValueError(f"held voxels of {held.shape} do not fit a displacement of {displacement.shape}")
    held = held if held.ndim == rank + 1 else held[..., None]
    free = jnp.broadcast_to(~held, displacement.shape).astype(displacement.dtype)
    prescribed = (1 - free) * displacement
    load = -elastic_force(prescribed, lame, shear)
    load = free * (load if force is None else load + force)
    scale = free / _diagonal(displacement.shape, lame, shear) + (1 - free)

    def operator(v):
        return free * elastic_force(free * v, lame, shear) + (1 - free) * v

    found, _ = jax.scipy.sparse.linalg.cg(
        operator, load, tol=tolerance, maxiter=iterations, M=lambda residual: scale * residual
    )
    return prescribed + free * found


def strain_energy(displacement: jax.Array, lame: Modulus, shear: Modulus) -> jax.Array:
    """Elastic energy `u K u / 2`, a number, in kPa voxel^rank; its gradient is `elastic_force`."""
    return jnp.vdot(displacement, elastic_force(displacement, lame, shear), precision="highest") / 2


def probe_indentation(
    shape: Sequence[int],
    centre: Sequence[float | jax.Array],
    radius: float | jax.Array,
    *,
    push: Sequence[float | jax.Array],
    widening: float | jax.Array = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Displacement `(*shape, rank)` and held voxels `(*shape)` under a round rigid probe: what `solve` takes.

    The probe's axis runs along D in a volume; `centre` is its row and column, `radius` its radius at rest.
    What lies within it moves by `push` (rows, columns) and outwards by `widening` voxels at its surface.
    """
    grids = [jnp.arange(size, dtype=jnp.float32) for size in shape[-2:]]
    lines = [grid - middle for grid, middle in zip(grids, centre, strict=True)]
    offsets = jnp.meshgrid(*lines, indexing="ij")
    inside = jnp.hypot(*offsets) <= radius
    moved = [inside * (p + widening / radius * o) for p, o in zip(push, offsets, strict=True)]
    moved = [jnp.zeros_like(moved[0])] * (len(shape) - 2) + moved
    displacement = jnp.broadcast_to(jnp.stack(moved, axis=-1), (*shape, len(shape)))
    return displacement, jnp.broadcast_to(inside, tuple(shape))


def border(shape: Sequence[int]) -> np.ndarray:
    """The outermost voxels of a grid `(*shape)`, bool: those far from a probe, or bone, hold still."""
    outer = np.ones(tuple(shape), bool)
    outer[(slice(1, -1),) * len(shape)] = False
    return outer


def periodic_displacement(force: jax.Array, shear: Modulus, poisson: Modulus) -> jax.Array:
    """Displacement `(*spatial, rank)` of a homogeneous body without borders under `force`, exact, by Fourier.

    The equation of Navier and Cauchy, `u(k) = [I - k k^T / (2 (1 - poisson) |k|^2)] f(k) / (shear |k|^2)`;
    the mean of force and displacement is zero. `shear` and `poisson` are numbers.
    """
    rank = _rank(force)
    axes = tuple(range(rank))
    waves = [2 * np.pi * np.fft.fftfreq(size) for size in force.shape[:rank]]
    wave = np.stack(np.meshgrid(*waves, indexing="ij"), axis=-1)
    square = np.sum(np.square(wave), axis=-1, keepdims=True)
    square[(0,) * rank] = np.inf
    # At the highest frequency of an even side the sign of k is not defined, and a real field has none.
    for axis, size in enumerate(force.shape[:rank]):
        if size % 2 == 0:
            square[(slice(None),) * axis + (size // 2,)] = np.inf
    wave, square = wave.astype(np.float32), square.astype(np.float32)
    spectrum = jnp.fft.fftn(jnp.asarray(force, jnp.float32), axes=axes)
    along = jnp.sum(wave * spectrum, axis=-1, keepdims=True) / square
    found = (spectrum - wave * along / (2 * (1 - poisson))) / (shear * square)
    return jnp.fft.ifftn(found, axes=axes).real


def random_indentation(
    key: jax.Array,
    shape: Sequence[int],
    *,
    peak: tuple[float, float] = (2.0, 8.0),
    radius: tuple[float, float] = (4.0, 8.0),
    poisson: tuple[float, float] = (0.45, 0.499),
) -> jax.Array:
    """A random displacement `(*shape, rank)` of tissue pushed from below, of the largest length in `peak`.

    One to three Gaussian pushes, their deviation in `radius` voxels, lie in the lower half (large rows) and
    point up within 0.6 radian; with them acts a traction a fifth as strong from anywhere. The body is
    homogeneous and has no borders, its Poisson's ratio lies in `poisson`: smooth, and nearly without change
    of volume, which Gaussian random fields are not. Lengths are lowered in steps where the field would
    fold: the Jacobian determinant is above 0. All ranges are uniform. (The shear modulus scales the force
    alone.)
    """
    rank, count = len(shape), 4
    uniform = jax.random.uniform(key, (count * (rank + 3) + 4,))
    ranges = poisson, (1, 4), peak
    ratio, number, length = (_between(uniform[i], ranges[i]) for i in range(3))
    pushes = uniform[4:].reshape(count, rank + 3)
    place, width, lean, strength = jnp.split(pushes, [rank, rank + 1, rank + 2], axis=1)
    is_traction = np.arange(count) == count - 1
    rows = np.where(is_traction, 0.5, 0.65)[:, None], np.where(is_traction, 0.5, 0.25)[:, None]
    place = place.at[:, -2:-1].set(rows[0] + 2 * rows[1] * (place[:, -2:-1] - 0.5))
    width = _between(width, radius)
    angle = jnp.where(is_traction, 2 * jnp.pi, 1.2) * (lean[:, 0] - 0.5)
    there = jnp.where(is_traction, 0.2, (np.arange(count) < jnp.floor(number)) * (0.5 + strength[:, 0]))
    direction = [-jnp.cos(angle), jnp.sin(angle)]
    direction = jnp.stack([jnp.zeros_like(angle)] * (rank - 2) + direction, axis=-1)
    bumps = there.reshape(-1, *[1] * rank)
    for axis, size in enumerate(shape):
        line = jnp.exp(-jnp.square((np.arange(size) - place[:, axis : axis + 1] * (size - 1)) / width) / 2)
        bumps = bumps * line.reshape(count, *[1] * axis, size, *[1] * (rank - 1 - axis))
    force = jnp.einsum("n...,ni->...i", bumps, direction)
    field = periodic_displacement(force, 1.0, ratio)
    field = field / jnp.max(jnp.linalg.norm(field, axis=-1))
    lengths = length * jnp.array([1.0, 0.75, 0.5, 0.25, 0.1])
    lowest = jnp.stack([jnp.min(deformation.jacobian_determinant(each * field)) for each in lengths])
    return lengths[jnp.argmax(lowest > 0.05)] * field


def _between(uniform: jax.Array, low_high: tuple[float, float]) -> jax.Array:
    return low_high[0] + (low_high[1] - low_high[0]) * uniform


@functools.cache
def _element(rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Stiffness `(n, n)` of one element for a unit shear modulus, and its mean divergence `(n,)`.

    n = corners x rank; the energy of an element is `shear u K u / 2 + lame (b u)^2 / 2`, K integrated with
    two Gauss points an axis.
    """
    corners = np.array(list(itertools.product((0, 1), repeat=rank)))

    def gradients(place: np.ndarray) -> np.ndarray:
        """Slopes `(corners, rank)` of the corners' weights at a place in [0, 1]^rank."""
        weight = np.where(corners, place, 1 - place)
        slope = np.where(corners, 1.0, -1.0)
        return np.stack(
            [slope[:, i] * np.prod(np.delete(weight, i, axis=1), axis=1) for i in range(rank)], axis=1
        )

    points = 0.5 + np.array(list(itertools.product((-1, 1), repeat=rank))) / (2 * np.sqrt(3))
    stiffness = 0.0
    for point in points:
        slope = gradients(point)
        # 2 strain : strain = grad u : grad u + grad u : grad u^T.
        whole = np.einsum("ai,bi,jk->ajbk", slope, slope, np.eye(rank))
        turned = np.einsum("ak,bj->ajbk", slope, slope)
        stiffness = stiffness + (whole + turned).reshape(2 * [corners.size]) / len(points)
    return stiffness.astype(np.float32), gradients(np.full(rank, 0.5)).ravel().astype(np.float32)


def _gather(field: jax.Array, rank: int) -> jax.Array:
    """Displacements of each element's corners, `(*elements, corners * rank)`."""
    slices = [field[_corner(offset)] for offset in itertools.product((0, 1), repeat=rank)]
    return jnp.concatenate(slices, axis=-1)


def _scatter(forces: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Sum at each voxel of the forces `(*elements, corners * rank)` of its elements: adjoint of `_gather`."""
    rank = shape[-1]
    offsets = itertools.product((0, 1), repeat=rank)
    parts = [forces[..., rank * i : rank * (i + 1)] for i in range(2**rank)]
    padded = [
        jnp.pad(part, [(o, 1 - o) for o in offset] + [(0, 0)])
        for part, offset in zip(parts, offsets, strict=True)
    ]
    return sum(padded)


def _diagonal(shape: Sequence[int], lame: Modulus, shear: Modulus) -> jax.Array:
    stiffness, divergence = _element(shape[-1])
    each = jnp.asarray(shear)[..., None] * np.diag(stiffness) + jnp.asarray(lame)[..., None] * divergence**2
    elements = [size - 1 for size in shape[:-1]]
    return _scatter(jnp.broadcast_to(each, (*elements, each.shape[-1])), shape)


def _corner(offset: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(1, None) if o else slice(None, -1) for o in offset)


def _rank(displacement: jax.Array) -> int:
    rank = displacement.shape[-1]
    if rank not in (2, 3) or displacement.ndim != rank + 1:
        raise ValueError(f"a displacement is (H, W, 2) or (D, H, W, 3), not {displacement.shape}")
    return rank
